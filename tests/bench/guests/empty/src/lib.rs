//! The least a rule can do with a batch: nothing, or give its values back as they came. What a call
//! of it takes is what crossing into a rule and back costs. It has no default topics, so that it
//! runs nowhere by accident.

use serde::Deserialize;
use tidegate_rule::columns::{Outcome, Passage, Points};
use tidegate_rule::{About, Call, Rule};

/// What becomes of a batch.
#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Gives {
    /// It goes on as it is: nothing crosses back.
    #[default]
    Nothing,
    /// One number a row crosses back.
    Values,
}

/// What the rule is told.
#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What becomes of a batch.
    gives: Gives,
}

/// The rule.
pub struct Empty(Gives);

impl Rule for Empty {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("Does nothing").topics(&[]);

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self(config.gives))
    }

    fn process(&mut self, _call: &mut Call<'_>, batch: Points) -> Outcome {
        let passage = match self.0 {
            Gives::Nothing => Passage::Unchanged,
            Gives::Values => Passage::Values(batch.value),
        };
        Outcome { passage, ..Outcome::default() }
    }
}

tidegate_rule::export!(Empty as processor rule);
