//! What is said of the rules that a directory asks for.

use std::io;
use std::path::Path;

use tidegate_config::{Config, RuleFile};
use tidegate_model::TopicFilter;

use crate::sharing::StateOf;

/// The rules of a configuration, as a host that starts with it would find them. This file knows no engine.
pub type LookOver = dyn Fn(&Config) -> io::Result<Vec<Found>>;

/// A rule that the directory asks for.
#[derive(Debug)]
pub struct Found {
    pub name: String,
    /// Its settings; none where its file cannot be read.
    pub file: Option<RuleFile>,
    /// Whether nobody has written them.
    pub by_default: bool,
    /// What it is, or why it cannot serve.
    pub inspected: Result<Inspected, String>,
}

/// What a rule is.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Its module, in a line.
    pub what: String,
    pub state: StateOf,
    /// What it gets.
    pub topics: Vec<TopicFilter>,
}

/// What there is to say of all of them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// A line each, in the order in which they would run.
    pub lines: Vec<String>,
    /// Those that run and remember something.
    pub stateful: Vec<Stateful>,
    pub warnings: Vec<String>,
    pub errors: Vec<String>,
}

/// A rule that remembers something.
#[derive(Debug)]
pub(super) struct Stateful {
    pub name: String,
    pub state: StateOf,
    pub topics: Vec<TopicFilter>,
}

impl Rules {
    pub(super) fn of(config: &Config, look_over: &LookOver) -> Self {
        let directory = &config.rules_dir;
        match look_over(config) {
            Ok(found) => Self::said_of(found, directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = "is not there, so there are no rules; make it and drop .wasm files in";
                Self { warnings: vec![format!("{} {what}", directory.display())], ..Self::default() }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let todo = "let the user of this process read it";
                let what = format!("{} cannot be read: {error}; {todo}", directory.display());
                Self { errors: vec![what], ..Self::default() }
            }
            Err(error) => Self { errors: vec![format!("{}: {error}", directory.display())], ..Self::default() },
        }
    }

    fn said_of(mut found: Vec<Found>, directory: &Path) -> Self {
        let mut rules = Self::default();
        if found.is_empty() {
            let what = "holds no rules, so every message becomes a dead letter; drop .wasm files in";
            rules.warnings.push(format!("{} {what}", directory.display()));
        }
        // Those of one order run by their names, and so they come.
        found.sort_by_key(|found| found.file.as_ref().map_or(0, |file| file.order));
        for Found { name, file, by_default, inspected } in found {
            let Inspected { what, state, topics: gets } = match inspected {
                Ok(inspected) => inspected,
                Err(why) => {
                    rules.errors.push(format!("the rule {name}, in {}: {why}", directory.display()));
                    continue;
                }
            };
            let mut line = format!("{name:<24} {what}");
            if state == StateOf::Node {
                line += "  (once for the whole node)";
            }
            if state != StateOf::Nothing && file.as_ref().is_none_or(|file| file.enabled) {
                rules.stateful.push(Stateful { name, state, topics: gets });
            }
            let topics = file.iter().flat_map(|file| file.topics.iter().flatten()).map(ToString::to_string);
            let topics = topics.collect::<Vec<_>>().join(", ");
            if !topics.is_empty() {
                line += &format!("  on {topics}");
            }
            if by_default {
                line += "  (with its defaults)";
            }
            if file.is_some_and(|file| !file.enabled) {
                line += "  (off)";
            }
            rules.lines.push(line);
        }
        rules
    }
}
