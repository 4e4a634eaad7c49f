//! `tidegate.toml` and the rule files: read, checked, and given on as types that cannot be wrong.
//!
//! [`Config`] is what the rest of the house sees; it is made only from text that passed every check, by [`Config::load`].
//! A file that does not pass gives [`ConfigErrors`]: all its mistakes, each with its place and what to do. [`RuleFile`] is the
//! same for `<rule>.toml`. This crate opens no connection and starts nothing; it reads the files that a configuration names.
//!
//! The way of a file: `raw` (what may be written, and its JSON Schema) → `checks` (bounds, and what does not go together) →
//! the types of `settings`.
#![forbid(unsafe_code)]

mod checks;
mod document;
mod env;
mod error;
mod load;
mod nearest;
mod raw;
mod rule_file;
mod rule_json;
mod rule_patch;
mod settings;
mod shown;

pub use env::{Env, ProcessEnv};
pub use error::{ConfigError, ConfigErrors, Position};
pub use load::EXAMPLE;
pub use nearest::nearest;
pub use rule_file::{OnQuarantine, RuleFile, RuleLimits, STACKS_KIB};
pub use settings::*;

#[cfg(test)]
mod tests;
