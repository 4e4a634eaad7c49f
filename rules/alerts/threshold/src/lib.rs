//! Raises an alert while a value is above or below a limit, with hysteresis and a time it must last.
//!
//! What has no bearing on the present raises nothing: historical readings, bad ones (unless the
//! configuration trusts them), texts, and readings older than the last one judged.

mod limits;
mod message;

use serde::{Deserialize, Serialize};
use tidegate_rule::{
    About, Alarm, Alarms, Alert, BySeries, Quality, Reading, Scope, SeriesId, Severity, Tracked, Transition,
    seconds_to_us,
};

use crate::limits::Limits;
pub use crate::limits::Side;
use crate::message::Template;

/// The limits and what to make of them.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Raise while the value is above this.
    #[serde(default)]
    above: Option<f64>,
    /// Raise while the value is below this.
    #[serde(default)]
    below: Option<f64>,
    /// How far back behind the limit the value must be before the alert is cleared.
    #[serde(default)]
    hysteresis: f64,
    /// How many seconds the value must be beyond the limit before the alert is raised.
    #[serde(default)]
    for_s: f64,
    /// How much the alert matters.
    #[serde(default)]
    severity: Severity,
    /// What the alert says; `{value}`, `{limit}` and `{side}` are filled in.
    #[serde(default)]
    message: Option<String>,
    /// Which readings are judged.
    #[serde(default)]
    quality: Trust,
}

/// Which readings are judged.
#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Good and uncertain ones.
    #[default]
    NotBad,
    /// Good ones only.
    Good,
    /// All, bad ones too.
    Any,
}

impl Trust {
    /// The least quality that is judged.
    fn least(self) -> Quality {
        match self {
            Self::NotBad => Quality::UNCERTAIN,
            Self::Good => Quality::GOOD,
            Self::Any => Quality::BAD,
        }
    }
}

/// What is remembered of a series.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Standing {
    phase: Phase,
    /// Time of the last reading judged, at most the host's: a device's clock that runs ahead
    /// once must not silence it for years.
    last_us: i64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
enum Phase {
    #[default]
    Calm,
    /// Beyond the limit since, by the device's time, and seen so by the host's.
    Waiting {
        side: Side,
        since_us: i64,
        seen_us: i64,
        value: f64,
    },
    Raised(Side),
}

/// The rule.
pub struct Threshold {
    limits: Limits,
    for_us: i64,
    severity: Severity,
    message: Option<Template>,
    least_quality: Quality,
}

impl Alert for Threshold {
    type Config = Config;
    type State = Standing;
    const ABOUT: About = tidegate_rule::about!("Raises an alert while a value is above or below a limit")
        .scope(Scope::Series)
        .tick_ms(1_000)
        .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            limits: Limits::new(config.above, config.below, config.hysteresis)?,
            for_us: seconds_to_us("for_s", config.for_s, 0.0)?,
            severity: config.severity,
            message: config.message.as_deref().map(Template::new).transpose()?,
            least_quality: config.quality.least(),
        })
    }

    #[inline]
    fn passes(&self, reading: &Reading<'_>, state: &mut Tracked<Standing>, now_us: i64) -> bool {
        // NaN is within no limits.
        let calm = self.limits.hold(reading.value) && matches!(state.phase, Phase::Calm);
        let calm = calm && self.judges(reading, state);
        if calm {
            state.unmarked().last_us = reading.time_us.min(now_us);
        }
        calm
    }

    fn check(&mut self, reading: &Reading<'_>, state: &mut Tracked<Standing>, out: &mut Alarms) {
        if self.judges(reading, state) && !reading.value.is_nan() {
            self.advance(reading, state, out);
        }
    }

    /// Raises what has lasted long enough by the host's time: a device that reports only changes
    /// sends nothing while a value stays where it is.
    fn tick(&mut self, states: &mut BySeries<Standing>, out: &mut Alarms) {
        if self.for_us == 0 {
            return;
        }
        for (series, state) in states.iter_mut() {
            if let Phase::Waiting { side, since_us, seen_us, value } = state.phase
                && out.now_us() - seen_us >= self.for_us
            {
                state.phase = Phase::Raised(side);
                self.raise(series, since_us + self.for_us, side, value, out);
            }
        }
    }
}

impl Threshold {
    /// Whether a reading has a bearing on the present.
    #[inline]
    fn judges(&self, reading: &Reading<'_>, state: &Standing) -> bool {
        reading.quality.is_live(self.least_quality) && reading.time_us >= state.last_us
    }

    /// One number that is judged.
    fn advance(&self, reading: &Reading<'_>, state: &mut Tracked<Standing>, out: &mut Alarms) {
        state.unmarked().last_us = reading.time_us.min(out.now_us());
        if let Phase::Raised(side) = state.phase {
            // Within the hysteresis it still stands; beyond the other limit it does not, however wide the hysteresis.
            let elsewhere = self.limits.beyond(reading.value).is_some_and(|now| now != side);
            if !elsewhere && !self.limits.back(side, reading.value) {
                return;
            }
            self.clear(reading, side, out);
            state.phase = Phase::Calm;
        }
        let Some(side) = self.limits.beyond(reading.value) else {
            if !matches!(state.phase, Phase::Calm) {
                state.phase = Phase::Calm;
            }
            return;
        };
        let (since_us, seen_us) = match state.phase {
            Phase::Waiting { side: before, since_us, seen_us, .. } if before == side => (since_us, seen_us),
            _ => (reading.time_us, out.now_us()),
        };
        if reading.time_us - since_us >= self.for_us {
            state.phase = Phase::Raised(side);
            self.raise(reading.series, reading.time_us, side, reading.value, out);
        } else {
            state.phase = Phase::Waiting { side, since_us, seen_us, value: reading.value };
        }
    }

    fn raise(&self, series: SeriesId, time_us: i64, side: Side, value: f64, out: &mut Alarms) {
        let limit = self.limits.in_words(side);
        let alarm = Alarm {
            series,
            time_us,
            transition: Transition::Raised,
            severity: self.severity,
            value,
            key: side.word(),
        };
        match &self.message {
            Some(template) => out.push(alarm, format_args!("{}", template.filled(value, limit, side))),
            None => out.push(alarm, format_args!("{value} is {} {limit}", side.word())),
        }
    }

    fn clear(&self, reading: &Reading<'_>, side: Side, out: &mut Alarms) {
        let alarm = Alarm { key: side.word(), ..Alarm::of(reading, Transition::Cleared, self.severity) };
        out.push(
            alarm,
            format_args!("{} is no longer {} {}", reading.value, side.word(), self.limits.in_words(side)),
        );
    }
}

tidegate_rule::export!(Threshold as alert);

#[cfg(test)]
mod tests;
