//! Which alerts stand by a shadow's own account: what it goes on believing if it serves one day with the state it has built, and what the
//! book of alerts must say then.

use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_model::{Alert, Transition};

/// The most that stand, as of a rule that serves; what is raised beside them is not kept.
const MOST: usize = 100_000;

/// Alerts by topic and key.
#[derive(Debug, Default)]
pub(super) struct Standing(HashMap<(Arc<str>, Arc<str>), Alert>);

impl Standing {
    /// It says so now.
    pub fn note(&mut self, alert: Alert) {
        let key = (alert.topic.clone(), alert.key.clone());
        match alert.transition {
            Transition::Event => {}
            Transition::Cleared => drop(self.0.remove(&key)),
            Transition::Raised if self.0.len() < MOST || self.0.contains_key(&key) => drop(self.0.insert(key, alert)),
            Transition::Raised => {}
        }
    }

    /// It has forgotten what it knew.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// All of them.
    pub fn into_alerts(self) -> Vec<Alert> {
        self.0.into_values().collect()
    }
}
