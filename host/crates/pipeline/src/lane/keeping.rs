//! What a lane hands to the store of state: once a second, what its rules saved since, and the alerts that changed meanwhile, together. So state and
//! alerts of one moment are kept, and a rule that comes back believes of its alerts what the book says.

use std::sync::Arc;

use hashbrown::HashSet;
use tidegate_model::{Alert, StateChange, StateStore, Transition};

use crate::alert_book::{AlertBook, Key, key_of};
use crate::lane::slot::Slot;

/// Alerts that change within a second before they are handed over early.
const MANY_ALERTS: usize = 10_000;

/// The store, and what it has yet to be told.
pub(crate) struct Keeping {
    store: Arc<dyn StateStore>,
    /// [`StateStore::epoch`] when it was last told.
    epoch: u64,
    /// What was raised or cleared; how it is now, the book says.
    alerts: HashSet<Key>,
}

impl Keeping {
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { epoch: store.epoch(), store, alerts: HashSet::new() }
    }

    /// These alerts went out.
    pub fn note(&mut self, alerts: &[Alert]) {
        let lasting = alerts.iter().filter(|alert| alert.transition != Transition::Event);
        self.alerts.extend(lasting.map(key_of));
    }

    /// Whether there is so much to tell that it should not wait.
    pub fn is_full(&self) -> bool {
        self.alerts.len() >= MANY_ALERTS
    }

    /// Tells what there is; all rules have just saved.
    pub fn hand_over(&mut self, slots: &mut [Slot], book: &AlertBook) {
        let epoch = self.store.epoch();
        let mut changes: Vec<_> = self.alerts.drain().map(|key| StateChange::Alert(book.now(&key))).collect();
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            changes.extend(book.standing().iter().map(|alert| StateChange::Alert(alert.raised())));
            slots.iter_mut().for_each(Slot::store_all);
        }
        changes.extend(slots.iter_mut().filter_map(Slot::unstored));
        if !changes.is_empty() {
            self.store.put(changes);
        }
    }

    /// The rule is no more, here.
    pub fn forget(&mut self, rule: &Arc<str>) {
        self.alerts.retain(|(by, _, _)| by != rule);
        self.store.put(vec![StateChange::Forgotten { rule: rule.clone() }]);
    }
}
