//! An exponentially weighted moving average of each series, in the place of its values: the least that a rule with state by series does,
//! and every reading changes the state. It has no default topics, so that it runs nowhere by accident.

use serde::{Deserialize, Serialize};
use tidegate_rule::{About, Change, Reading, Scope, Tracked, Transform};

/// What the rule is told.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much of the average the newest reading is: above 0, up to 1.
    alpha: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { alpha: 0.1 }
    }
}

/// What is kept of a series: nothing before its first reading.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Average(Option<f64>);

/// The rule.
pub struct Ewma {
    alpha: f64,
}

impl Transform for Ewma {
    type Config = Config;
    type State = Average;
    const ABOUT: About = tidegate_rule::about!("A moving average by series").scope(Scope::Series).topics(&[]);

    fn new(config: Config) -> Result<Self, String> {
        if config.alpha > 0.0 && config.alpha <= 1.0 {
            Ok(Self { alpha: config.alpha })
        } else {
            Err(format!("alpha is {}; give it a number above 0, up to 1", config.alpha))
        }
    }

    #[inline]
    fn transform(&mut self, reading: &Reading<'_>, state: &mut Tracked<Average>) -> Change {
        let average = match state.0 {
            Some(before) => before + self.alpha * (reading.value - before),
            None => reading.value,
        };
        state.0 = Some(average);
        Change::Value(average)
    }
}

tidegate_rule::export!(Ewma as transform);
