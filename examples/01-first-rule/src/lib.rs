//! Warns of frost: raised when a reading falls below a limit, cleared when it is back above it.

use serde::Deserialize;
use tidegate_rule::{About, Alarms, Alert, Reading, Scope, Severity, Tracked};

/// What an operator may set in `frost.toml`, under `[config]`.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Degrees below which it warns.
    #[serde(default = "zero")]
    below: f64,
}

fn zero() -> f64 {
    0.0
}

/// The rule.
pub struct Frost {
    below: f64,
}

impl Alert for Frost {
    type Config = Config;
    /// Kept for each series: whether it is frozen now.
    type State = bool;
    const ABOUT: About = tidegate_rule::about!("Warns of frost").scope(Scope::Series).topics(&["dev/#"]);

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { below: config.below })
    }

    fn check(&mut self, reading: &Reading<'_>, frozen: &mut Tracked<bool>, out: &mut Alarms) {
        let cold = reading.value < self.below;
        if cold && !**frozen {
            out.raise(reading, Severity::Warning, format_args!("frost: {} °C", reading.value));
            **frozen = true;
        } else if !cold && **frozen {
            out.clear(reading, Severity::Warning, format_args!("thawed: {} °C", reading.value));
            **frozen = false;
        }
    }
}

tidegate_rule::export!(Frost as alert);

#[cfg(test)]
mod tests {
    use tidegate_rule::Transition::{Cleared, Raised};
    use tidegate_rule::testing::{Input, RuleTest};

    use super::Exported;

    #[test]
    fn warns_once_and_takes_it_back() {
        let mut rule = RuleTest::<Exported>::new("{}");
        let night = [2.0, -0.5, -3.0, 1.0];
        let readings: Vec<_> =
            night.iter().enumerate().map(|(hour, value)| Input::at(hour as i64, "dev/garden", *value)).collect();
        let said: Vec<_> = rule.process(0, &readings).alerts.iter().map(|alert| alert.transition).collect();
        assert_eq!(said, [Raised, Cleared]);
    }
}
