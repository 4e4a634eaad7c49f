//! What a lane hands to the store of state: once a second, what its rules saved since, and the alerts that changed meanwhile, together. So state and
//! alerts of one moment are kept, and a rule that comes back believes of its alerts what the book says. The store gets it when the sinks have all
//! that came of it ([`Epoch`]).

use std::sync::Arc;

use hashbrown::HashSet;
use tidegate_model::{Alert, StateChange, StateStore, Transition};
use tokio::sync::watch;

use crate::alert_book::{AlertBook, Key, key_of};
use crate::lane::epoch::Epoch;
use crate::lane::slot::Slot;

/// Alerts that change within a second before they are handed over early.
const MANY_ALERTS: usize = 10_000;
/// Alerts that change while the sinks hold everything back before the lane waits for them.
const MOST_ALERTS: usize = 100_000;

/// Whether there may be another handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// Not if so many wait that one more would be too many: what there is waits for the next.
    OneOfMany,
    /// Whatever waits: the lane ends.
    Last,
}

/// The store, and what it has yet to be told.
pub(crate) struct Keeping {
    store: Arc<dyn StateStore>,
    /// [`StateStore::epoch`] when it was last told.
    store_epoch: u64,
    /// What is sent now belongs to it.
    epoch: Arc<Epoch>,
    /// What was raised or cleared; how it is now, the book says.
    alerts: HashSet<Key>,
}

impl Keeping {
    pub fn new(store: Arc<dyn StateStore>, give_up: watch::Receiver<bool>) -> Self {
        Self {
            store_epoch: store.epoch(),
            epoch: Epoch::first(store.clone(), give_up),
            store,
            alerts: HashSet::new(),
        }
    }

    /// What a delivery holds that is sent now, until it is confirmed.
    pub fn epoch(&self) -> Arc<Epoch> {
        self.epoch.clone()
    }

    /// These alerts go out.
    pub fn note(&mut self, alerts: &[Alert]) {
        let lasting = alerts.iter().filter(|alert| alert.transition != Transition::Event);
        self.alerts.extend(lasting.map(key_of));
    }

    /// Whether there is so much to tell that it should not wait.
    pub fn is_full(&self) -> bool {
        self.alerts.len() >= MANY_ALERTS && self.may_hand_over()
    }

    /// Whether there is so much to tell that nothing more may come before the sinks let it be told.
    pub fn is_overfull(&self) -> bool {
        self.alerts.len() >= MOST_ALERTS && self.epoch.is_held() && !self.epoch.is_broken()
    }

    fn may_hand_over(&self) -> bool {
        // The store has a bound of its own for alerts.
        self.epoch.may_cut() || (self.alerts.len() >= MOST_ALERTS && !self.epoch.is_held())
    }

    /// Leaves what there is to tell; all rules have just saved.
    pub fn hand_over(&mut self, slots: &mut [Slot], book: &AlertBook, handover: Handover) {
        if self.epoch.is_broken() {
            self.alerts.clear();
            return;
        }
        if handover == Handover::OneOfMany && !self.may_hand_over() {
            return;
        }
        let store_epoch = self.store.epoch();
        let mut changes: Vec<_> = self.alerts.drain().map(|key| StateChange::Alert(book.now(&key))).collect();
        if std::mem::replace(&mut self.store_epoch, store_epoch) != store_epoch {
            changes.extend(book.standing().iter().map(|alert| StateChange::Alert(alert.raised())));
            slots.iter_mut().for_each(Slot::store_all);
        }
        changes.extend(slots.iter_mut().filter_map(Slot::unstored));
        if !changes.is_empty() {
            self.epoch = self.epoch().cut(changes);
        }
    }

    /// The rule is no more, here.
    pub fn forget(&mut self, rule: &Arc<str>) {
        self.epoch.forget(rule);
    }
}
