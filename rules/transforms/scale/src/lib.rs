//! Scales values: `value × factor + offset`, and the unit that comes of it. Which scale a series has
//! is worked out when it is declared, once; quality and time stay, texts and nulls pass as they are.

use serde::Deserialize;
use tidegate_rule::{About, Change, Reading, Reason, Series, SeriesId, TopicFilter, Tracked, Transform};

/// One scale for all topics, or scales by topic filter; the first that matches counts.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What a value is multiplied with, where no filter of `scales` matches.
    #[serde(default)]
    factor: Option<f64>,
    /// What is added then.
    #[serde(default)]
    offset: Option<f64>,
    /// The unit of the result; what it was unless given.
    #[serde(default)]
    unit: Option<String>,
    /// Scales for some topics, in order.
    #[serde(default)]
    scales: Vec<ScaleConfig>,
}

/// The scale of some topics.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// Which topics, as an MQTT topic filter.
    filter: String,
    /// What a value is multiplied with.
    #[serde(default = "one")]
    factor: f64,
    /// What is added then.
    #[serde(default)]
    offset: f64,
    /// The unit of the result; what it was unless given.
    #[serde(default)]
    unit: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// How many scales one rule may have: each is tried on every series once.
const MAX_SCALES: usize = 1_000;

struct Factors {
    factor: f64,
    offset: f64,
    unit: Option<String>,
}

/// The rule.
pub struct Scale {
    filters: Vec<TopicFilter>,
    /// As many as filters, and then the one for all other topics, if there is one.
    factors: Vec<Factors>,
    /// Index into `factors` by series; `usize::MAX` for none.
    of_series: Vec<usize>,
}

impl Transform for Scale {
    type Config = Config;
    type State = ();
    const ABOUT: About = tidegate_rule::about!("Scales values: factor, offset and unit")
        .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        if config.scales.len() > MAX_SCALES {
            return Err(format!("scales has more than {MAX_SCALES} entries; make several rules of it"));
        }
        let mut rule = Self { filters: Vec::new(), factors: Vec::new(), of_series: Vec::new() };
        for scale in config.scales {
            rule.filters.push(TopicFilter::new(&scale.filter).map_err(|why| format!("scales: {why}"))?);
            rule.factors.push(Factors::new(scale.factor, scale.offset, scale.unit)?);
        }
        if config.factor.is_some() || config.offset.is_some() || config.unit.is_some() {
            rule.factors.push(Factors::new(config.factor.unwrap_or(1.0), config.offset.unwrap_or(0.0), config.unit)?);
        }
        if rule.factors.is_empty() {
            return Err("there is nothing to do; give factor, offset, unit or scales".to_owned());
        }
        Ok(rule)
    }

    fn declared(&mut self, series: &Series) -> Option<String> {
        let found =
            self.filters.iter().position(|filter| filter.matches(&series.topic)).unwrap_or(self.filters.len());
        let at = self.place(series.id);
        self.of_series[at] = found;
        self.factors.get(found)?.unit.clone()
    }

    #[inline]
    fn transform(&mut self, reading: &Reading<'_>, _state: &mut Tracked<()>) -> Change {
        let scale = self.of_series.get(reading.series as usize).and_then(|index| self.factors.get(*index));
        let Some(scale) = scale else {
            return Change::Keep;
        };
        let value = reading.value * scale.factor + scale.offset;
        if value.is_finite() {
            Change::Value(value)
        } else if reading.value.is_finite() {
            Change::Reject(Reason::from("the scaled value is beyond a 64-bit float"))
        } else {
            Change::Keep
        }
    }
}

impl Scale {
    fn place(&mut self, series: SeriesId) -> usize {
        let at = series as usize;
        if at >= self.of_series.len() {
            self.of_series.resize(at + 1, usize::MAX);
        }
        at
    }
}

impl Factors {
    fn new(factor: f64, offset: f64, unit: Option<String>) -> Result<Self, String> {
        if !factor.is_finite() || !offset.is_finite() {
            return Err(format!("factor ({factor}) and offset ({offset}) must be numbers"));
        }
        Ok(Self { factor, offset, unit })
    }
}

tidegate_rule::export!(Scale as transform);

#[cfg(test)]
mod tests;
