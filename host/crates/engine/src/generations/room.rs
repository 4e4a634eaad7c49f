//! What the generations may take up: ten a rule, and so many bytes together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::generations::Generations;
use crate::generations::names::module_name;

/// The most generations kept of a rule.
pub(super) const MAX_A_RULE: usize = 10;
/// This part of the bytes is for modules that no generation names, yet or any more.
const UNNAMED_PART: u64 = 8;

/// What a module is to the generations that are kept; the more, the longer what is made of it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// One can be gone back to that is of it.
    Kept,
    /// One serves that is of it.
    Serves,
}

impl Generations {
    /// Keeps within the bounds: the oldest go, and the modules that none names any more.
    pub(super) fn prune(&self) -> io::Result<()> {
        let beyond = self.beyond_a_rule();
        for (rule, number) in &beyond {
            self.forget(rule, *number)?;
        }
        if beyond.is_empty() && self.bytes() <= self.max_bytes {
            return Ok(());
        }
        self.sweep()?;
        while self.bytes() > self.max_bytes {
            let Some((rule, number)) = self.oldest() else { return Ok(()) };
            tracing::info!(rule, generation = number, "a generation is kept no more, for room");
            self.forget(&rule, number)?;
            self.sweep()?;
        }
        Ok(())
    }

    /// What all of it takes up.
    pub(super) fn bytes(&self) -> u64 {
        let modules: u64 = self.modules().values().sum();
        let rules = self.rules();
        modules + rules.values().flat_map(|kept| kept.versions.values()).map(|version| version.bytes).sum::<u64>()
    }

    /// What is beyond the most of a rule.
    fn beyond_a_rule(&self) -> Vec<(String, u64)> {
        let rules = self.rules();
        let beyond = rules.iter().flat_map(|(rule, kept)| {
            let more = kept.versions.len().saturating_sub(MAX_A_RULE);
            let old = kept.versions.keys().filter(|number| kept.serving != Some(**number)).take(more);
            old.map(|number| (rule.clone(), *number))
        });
        beyond.collect()
    }

    /// The oldest generation that does not serve.
    fn oldest(&self) -> Option<(String, u64)> {
        let rules = self.rules();
        let each = rules.iter().filter_map(|(rule, kept)| {
            let old = kept.versions.keys().find(|number| kept.serving != Some(**number))?;
            Some((*old, rule))
        });
        each.min().map(|(number, rule)| (rule.clone(), number))
    }

    /// The digests of all modules that generations are of.
    pub fn digests(&self) -> BTreeSet<String> {
        let rules = self.rules();
        let all = rules.values().flat_map(|kept| kept.versions.values());
        all.map(|version| version.sha256.clone()).collect()
    }

    /// What each of them is of use for.
    pub(crate) fn uses(&self) -> BTreeMap<String, Use> {
        let rules = self.rules();
        let mut uses = BTreeMap::new();
        for (kept, version) in
            rules.values().flat_map(|kept| kept.versions.values().map(move |version| (kept, version)))
        {
            let now = if kept.serving == Some(version.generation) { Use::Serves } else { Use::Kept };
            let most = uses.entry(version.sha256.clone()).or_insert(now);
            *most = now.max(*most);
        }
        uses
    }

    /// All that are kept, by number and rule, with the digest of their module; the newest last.
    pub(crate) fn all(&self) -> Vec<(u64, String, String)> {
        let rules = self.rules();
        let each = rules.iter().flat_map(|(rule, kept)| {
            kept.versions.values().map(|version| (version.generation, rule.clone(), version.sha256.clone()))
        });
        let mut all: Vec<_> = each.collect();
        all.sort_unstable();
        all
    }

    /// Lets modules go that no generation names, but for the one that has just come, where all of them have more than their share.
    pub(super) fn bound_unnamed(&self, come: &str) -> io::Result<()> {
        let unnamed = self.unnamed();
        let modules = self.modules();
        let bytes: u64 = unnamed.iter().filter_map(|name| modules.get(name)).sum();
        drop(modules);
        if bytes <= self.max_bytes / UNNAMED_PART { Ok(()) } else { self.sweep_but(Some(come)) }
    }

    fn unnamed(&self) -> Vec<String> {
        let named: BTreeSet<String> = self.digests().iter().map(|sha256| module_name(sha256)).collect();
        self.modules().keys().filter(|name| !named.contains(*name)).cloned().collect()
    }

    /// Removes modules that no generation names.
    fn sweep(&self) -> io::Result<()> {
        self.sweep_but(None)
    }

    fn sweep_but(&self, spared: Option<&str>) -> io::Result<()> {
        let unnamed = self.unnamed();
        let mut modules = self.modules();
        for name in unnamed.into_iter().filter(|name| Some(&**name) != spared) {
            self.directory.remove(&name)?;
            modules.remove(&name);
        }
        Ok(())
    }
}
