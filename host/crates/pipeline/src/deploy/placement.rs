//! Which rules run on which lanes: those of the whole node on a lane of their own, all others on each of the lanes that share the partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_engine::{Rule, Scope};

use crate::lane::LaneKind;

/// The rules that serve, by name; shared by all who install some.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    serving: Mutex<BTreeMap<Arc<str>, Arc<Rule>>>,
    changing: Mutex<()>,
}

impl Placement {
    /// Where a rule belongs.
    pub fn of(rule: &Rule) -> LaneKind {
        match rule.module.description().scope {
            Scope::Node => LaneKind::Node,
            Scope::None | Scope::Series | Scope::Partition => LaneKind::Partitions,
        }
    }

    /// To be held by who changes what serves, or has lanes forget what does not: one at a time, or a rule that is just coming back would be forgotten.
    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation of it that serves elsewhere than this one would.
    pub fn elsewhere(&self, rule: &Rule) -> Option<Arc<Rule>> {
        self.lock().get(&rule.name).filter(|serving| Self::of(serving) != Self::of(rule)).cloned()
    }

    /// It serves.
    pub fn enter(&self, rule: &Arc<Rule>) {
        self.lock().insert(rule.name.clone(), rule.clone());
    }

    /// What serves under that name.
    pub fn get(&self, rule: &str) -> Option<Arc<Rule>> {
        self.lock().get(rule).cloned()
    }

    /// It serves no more.
    pub fn leave(&self, rule: &str) {
        self.lock().remove(rule);
    }

    /// The rules of the node, but for the one called `without`.
    pub fn of_node(&self, without: &str) -> Arc<[Arc<Rule>]> {
        let all = self.lock();
        all.values().filter(|rule| Self::of(rule) == LaneKind::Node && &*rule.name != without).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Rule>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
