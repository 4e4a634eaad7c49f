//! A transform of the whole node whose state shows: each reading becomes its number among all that the node has seen, of whatever series, so
//! that one that was forgotten or counted twice is seen in all that follow. It traps on 666, after it has counted.
//!
//! It never misbehaves otherwise.

use tidegate_rule::columns::{Outcome, Passage, Points};
use tidegate_rule::{About, BySeries, Call, Rule, Scope, State};

/// It has no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Numbers readings.
pub struct Tally {
    /// The number that each series' last reading had: the largest is how many there were.
    last: BySeries<u64>,
    count: Option<u64>,
}

impl Rule for Tally {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("Numbers all readings of the node, and traps on 666")
        .topics(&["dev/#"])
        .scope(Scope::Node);

    fn new(_: Config) -> Result<Self, String> {
        Ok(Self { last: BySeries::default(), count: None })
    }

    fn process(&mut self, _: &mut Call<'_>, batch: Points) -> Outcome {
        let last = &mut self.last;
        let mut count = self.count.unwrap_or_else(|| last.iter_mut().map(|(_, number)| **number).max().unwrap_or(0));
        let mut numbers = Vec::with_capacity(batch.len());
        for (series, value) in batch.series.iter().zip(&batch.value) {
            count += 1;
            self.count = Some(count);
            **self.last.of(*series) = count;
            if *value == 666.0 {
                trap();
            }
            numbers.push(count as f64);
        }
        Outcome { passage: Passage::Values(numbers), ..Outcome::default() }
    }

    fn state(&mut self) -> State<'_> {
        State::by_series(&mut self.last)
    }
}

#[allow(clippy::panic, reason = "to trap is the point")]
fn trap() -> ! {
    panic!("told to trap")
}

tidegate_rule::export!(Tally as processor rule);
