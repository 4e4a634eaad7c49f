//! A transform that tells which readings came in one batch: the text of each becomes the value of the first of its batch, and its own number within its
//! series. What was handled by two generations of a rule before it, or counted twice or not at all by this one, is seen in the store.
//!
//! It never misbehaves.

use tidegate_rule::columns::{Outcome, Passage, Points, Produced, Texts};
use tidegate_rule::{About, BySeries, Call, Rule, Scope, State};

/// It has no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Notes batches and numbers.
pub struct Teller {
    seen: BySeries<u64>,
}

impl Rule for Teller {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("Notes on each reading by which batch it came, and its number")
        .topics(&["dev/#"])
        .scope(Scope::Series);

    fn new(_: Config) -> Result<Self, String> {
        Ok(Self { seen: BySeries::default() })
    }

    fn process(&mut self, _: &mut Call<'_>, mut batch: Points) -> Outcome {
        let first = batch.value.first().copied().unwrap_or(f64::NAN);
        let mut texts = Texts::default();
        for (row, series) in batch.series.iter().enumerate() {
            let seen = self.seen.of(*series);
            **seen += 1;
            texts.push(row, &format!("{first} {}", **seen));
        }
        batch.texts = texts;
        let from_row = (0..batch.len() as u32).collect();
        Outcome { passage: Passage::Replaced(Produced { points: batch, from_row }), ..Outcome::default() }
    }

    fn state(&mut self) -> State<'_> {
        State::by_series(&mut self.seen)
    }
}

tidegate_rule::export!(Teller as processor rule);
