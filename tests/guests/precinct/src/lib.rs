//! A transform whose state is that of partitions, and shows: each reading becomes its number among all of its partition, of whatever series, so that one
//! that was forgotten or counted twice is seen in all that follow. It traps on 666, after it has counted.
//!
//! It never misbehaves otherwise.

use tidegate_rule::columns::{Outcome, PartitionId, Passage, Points, Series};
use tidegate_rule::{About, ByPartition, Call, Rule, Scope, State};

/// It has no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Numbers readings.
pub struct Precinct {
    seen: ByPartition<u64>,
    /// By series.
    partition: Vec<PartitionId>,
}

impl Rule for Precinct {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("Numbers the readings of each partition, and traps on 666")
        .topics(&["dev/#"])
        .scope(Scope::Partition);

    fn new(_: Config) -> Result<Self, String> {
        Ok(Self { seen: ByPartition::default(), partition: Vec::new() })
    }

    fn declare_series(&mut self, new: Vec<Series>) {
        for series in new {
            let at = series.id as usize;
            self.partition.resize(self.partition.len().max(at + 1), 0);
            self.partition[at] = series.partition;
        }
    }

    fn process(&mut self, _: &mut Call<'_>, batch: Points) -> Outcome {
        let mut numbers = Vec::with_capacity(batch.len());
        for (series, value) in batch.series.iter().zip(&batch.value) {
            let seen = self.seen.of(self.partition[*series as usize]);
            **seen += 1;
            if *value == 666.0 {
                trap();
            }
            numbers.push(**seen as f64);
        }
        Outcome { passage: Passage::Values(numbers), ..Outcome::default() }
    }

    fn state(&mut self) -> State<'_> {
        State::by_partition(&mut self.seen)
    }
}

#[allow(clippy::panic, reason = "to trap is the point")]
fn trap() -> ! {
    panic!("told to trap")
}

tidegate_rule::export!(Precinct as processor rule);
