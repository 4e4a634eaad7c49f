//! A rule that traps on one value, as one with a bug in it would: a row that it meets poisons its whole batch. Every other reading
//! goes on as it is. It has no default topics, so that it runs nowhere by accident.

use serde::Deserialize;
use tidegate_rule::{About, Change, Reading, Tracked, Transform};

/// What the rule is told.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The value it does not survive.
    value: f64,
}

/// The rule.
pub struct Trap {
    value: f64,
}

impl Transform for Trap {
    type Config = Config;
    type State = ();
    const ABOUT: About = tidegate_rule::about!("Traps on one value").topics(&[]);

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { value: config.value })
    }

    #[inline]
    fn transform(&mut self, reading: &Reading<'_>, _: &mut Tracked<()>) -> Change {
        if reading.value == self.value {
            trap();
        }
        Change::Keep
    }
}

#[cold]
#[allow(clippy::panic, reason = "to trap is the point")]
fn trap() -> ! {
    panic!("this value was never thought of")
}

tidegate_rule::export!(Trap as transform);
