//! Rules under another name: the one goes when the other comes, and no row passes by in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_config::RuleFile;

use crate::load_error::LoadError;
use crate::registry::scan::Wanted;
use crate::registry::{Known, REMOVED, Registry};

impl Registry {
    /// Of the rules that are to go, those that come back under another name, by that: one new rule of the same module each, with the same settings where there is
    /// one.
    pub(super) fn renamed(
        &self,
        gone: &BTreeSet<String>,
        wanted: &BTreeMap<String, Wanted>,
    ) -> BTreeMap<String, String> {
        let mut renamed = BTreeMap::new();
        if gone.is_empty() {
            return renamed;
        }
        let is_new = |name: &str, wanted: &Wanted| {
            // One that failed, and is as it was, is not asked to come.
            let comes = |known: &Known| known.serving.is_none() && (known.again || known.wanted != *wanted);
            // What is kept on disk of a rule comes back by itself, in the place of nobody.
            self.rules.get(name).is_none_or(comes)
                && self.generations.as_ref().is_none_or(|store| store.serving(name).is_none())
        };
        let new = |(name, wanted): (&String, &Wanted)| {
            let (file, digest) = (wanted.file.as_ref().ok()?, wanted.digest.as_ref().ok()?);
            (file.enabled && is_new(name, wanted)).then(|| (name.clone(), digest.clone(), settings(file)))
        };
        let new: Vec<_> = wanted.iter().filter_map(new).collect();
        let serving = gone.iter().filter_map(|name| {
            let known = self.rules.get(name)?;
            let (rule, file) = (known.serving.as_ref()?, known.wanted.file.as_ref().ok()?);
            Some((name, rule.module.sha256().to_string(), settings(file)))
        });
        let mut left = BTreeMap::<(String, String), VecDeque<String>>::new();
        for (name, digest, settings) in serving {
            left.entry((digest, settings)).or_default().push_back(name.clone());
        }
        for (name, digest, settings) in &new {
            let old = left.get_mut(&(digest.clone(), settings.clone())).and_then(VecDeque::pop_front);
            renamed.extend(old.map(|old| (name.clone(), old)));
        }
        let mut of_module = BTreeMap::<String, VecDeque<String>>::new();
        for ((digest, _), names) in left {
            of_module.entry(digest).or_default().extend(names);
        }
        for (name, digest, _) in new {
            if !renamed.contains_key(&name) {
                let old = of_module.get_mut(&digest).and_then(VecDeque::pop_front);
                renamed.extend(old.map(|old| (name, old)));
            }
        }
        renamed
    }

    /// Rules whose successors could not come go alone; where it is a lane that is held back, they stay as long as it is.
    pub(super) fn let_renamed_go(&mut self, renamed: &BTreeMap<String, String>) {
        let mut alone = Vec::new();
        for (new, old) in renamed {
            if self.rules.get(new).is_some_and(|known| known.again) {
                let error = LoadError::Busy(format!("rule {new:?} cannot take its place yet"));
                self.rules.get_mut(old).into_iter().for_each(|known| known.stays(old, REMOVED, &error));
            } else if self.rules.contains_key(old) {
                alone.push(old.clone());
            }
        }
        // Those that cannot go say so, and are asked again.
        let _ = self.let_all_go(alone);
    }
}

/// What a rule's file says, whatever it calls the module.
fn settings(file: &RuleFile) -> String {
    let file = RuleFile { module: String::new(), ..file.clone() };
    serde_json::to_string(&file).unwrap_or_default()
}
