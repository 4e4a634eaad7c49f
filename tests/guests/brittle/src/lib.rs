//! A transform whose state shows: each reading becomes its number within its series, so that one that was forgotten or counted twice
//! is seen in all that follow. It traps on 666, after it has counted.
//!
//! It never misbehaves otherwise.

use tidegate_rule::{About, Change, Reading, Scope, Tracked, Transform};

/// It has no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Numbers readings.
pub struct Brittle;

impl Transform for Brittle {
    type Config = Config;
    type State = u32;
    const ABOUT: About = tidegate_rule::about!("Numbers the readings of each series, and traps on 666")
        .topics(&["dev/#"])
        .scope(Scope::Series);

    fn new(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn transform(&mut self, reading: &Reading<'_>, state: &mut Tracked<u32>) -> Change {
        **state += 1;
        if reading.value == 666.0 {
            trap();
        }
        Change::Value(f64::from(**state))
    }
}

#[allow(clippy::panic, reason = "to trap is the point")]
fn trap() -> ! {
    panic!("told to trap")
}

tidegate_rule::export!(Brittle as transform);
