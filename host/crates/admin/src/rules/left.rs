//! Modules that a document leaves without a rule: they must not run by their own defaults, so it is said that they wait, each when it harms no rule that is
//! to stay should the document come to nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Write, waits};
use super::directory::Open;
use super::document::Wanted;
use super::{Desk, modules};
use crate::problem::Problem;

/// What says that modules wait, by when it is said.
#[derive(Default)]
pub(super) struct LeftAlone {
    /// Before the rules' files, which name them no more.
    pub first: Vec<Write>,
    /// After them: what runs by itself, since no file says otherwise, is a rule until its own file stands there.
    pub last: Vec<Write>,
    /// With what goes.
    pub going: Vec<Write>,
}

impl Desk {
    /// What says that modules wait which a rule names now, or beside whose file they lie, and that none will name: they must not run by their own defaults.
    pub(super) fn left_alone(
        &self,
        directory: &Open,
        wanted: &BTreeMap<String, Wanted>,
        changed: &[&str],
        gone: &[&str],
    ) -> Result<LeftAlone, Problem> {
        let rules = self.registry.rules();
        let after: BTreeSet<&str> = rules
            .iter()
            .filter(|rule| !gone.contains(&rule.name.as_str()))
            .map(|rule| wanted.get(&rule.name).map_or(rule.module.as_str(), |wanted| wanted.file.module.as_str()))
            .chain(wanted.values().map(|wanted| wanted.file.module.as_str()))
            .collect();
        let mut left = LeftAlone::default();
        let modules: BTreeSet<&str> = rules.iter().map(|rule| rule.module.as_str()).collect();
        for module in modules.into_iter().filter(|module| !after.contains(module) && !modules::is_kept(module)) {
            let mut named_by = rules.iter().filter(|rule| rule.module == module);
            let Some(digest) = named_by.clone().find_map(|rule| self.registry.module_digest(&rule.name)) else {
                continue;
            };
            let waits = (waits(module), Some(digest.into_bytes()));
            let of_its_own = |rule: &&str| module.strip_suffix(".wasm") == Some(rule);
            if changed.iter().any(of_its_own) {
                left.last.push(waits);
            } else if named_by.all(|rule| gone.contains(&rule.name.as_str())) {
                left.going.push(waits);
            } else {
                left.first.push(waits);
            }
        }
        for rule in gone.iter().filter(|rule| !after.contains(&*format!("{rule}.wasm"))) {
            left.going.extend(self.waiting_beside(directory, rule)?);
        }
        Ok(left)
    }
}
