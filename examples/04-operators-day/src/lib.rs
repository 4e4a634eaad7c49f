//! The next version of the oven alert, which puts into words how hot it is. It has a mistake that its author's tests did not find: the table of
//! words ends at 80 °C.

use tidegate_rule::{About, Alarms, Alert, Reading, Scope, Severity, Tracked};

/// A word for each ten degrees.
const WORDS: [&str; 8] = ["frozen", "cold", "cool", "mild", "warm", "hand-hot", "hot", "very hot"];

/// When it warns.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Above so many degrees.
    above: f64,
}

/// Warns of hot ovens, in words.
pub struct OvenWords {
    above: f64,
}

impl Alert for OvenWords {
    type Config = Config;
    type State = bool;
    const ABOUT: About =
        tidegate_rule::about!("Says in words how hot an oven is").scope(Scope::Series).topics(&["dev/oven/+/temp"]);

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { above: config.above })
    }

    fn check(&mut self, reading: &Reading<'_>, hot: &mut Tracked<bool>, out: &mut Alarms) {
        // There it is.
        let word = WORDS[(reading.value / 10.0) as usize];
        if (reading.value > self.above) == **hot {
            return;
        }
        **hot = !**hot;
        if **hot {
            out.raise(reading, Severity::Warning, format_args!("the oven is {word}"));
        } else {
            out.clear(reading, Severity::Warning, format_args!("the oven is {word}"));
        }
    }
}

tidegate_rule::export!(OvenWords as alert);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: there is a word for what its author thought of, and none for 80 °C: an operator's day needs a rule that fails.
    #[test]
    fn it_ends_too_soon() {
        assert_eq!((WORDS.get(7), WORDS.get(8)), (Some(&"very hot"), None));
        assert!(OvenWords::new(Config { above: 75.0 }).is_ok());
    }
}
