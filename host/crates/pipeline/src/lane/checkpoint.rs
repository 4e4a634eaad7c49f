//! What a lane hands to the store of state: once a second, what its rules saved since, and the alerts that changed meanwhile, together. So state and
//! alerts of one moment are kept, and a rule that comes back believes of its alerts what the book says. The store gets it when the sinks have all
//! that came of it ([`Epoch`]).

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;
use tidegate_model::{Ack, Alert, Journaled, StateChange, StateStore, Transition};
use tokio::sync::watch;

use crate::alert_book::{AlertBook, Key, key_of};
use crate::lane::epoch::Epoch;
use crate::lane::held_acks::HeldAcks;
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
pub(crate) struct Checkpoints {
    store: Arc<dyn StateStore>,
    /// [`StateStore::epoch`] when it was last told.
    store_epoch: u64,
    /// What is sent now belongs to it.
    epoch: Arc<Epoch>,
    /// What was raised or cleared; how it is now, the book says.
    alerts: HashSet<Key>,
    /// What waits for the next cut to be on disk.
    held: HeldAcks,
}

impl Checkpoints {
    pub fn new(store: Arc<dyn StateStore>, give_up: watch::Receiver<bool>) -> Self {
        Self {
            store_epoch: store.epoch(),
            epoch: Epoch::first(store.clone(), give_up),
            store,
            alerts: HashSet::new(),
            held: HeldAcks::default(),
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

    /// Messages that the rules have taken in, and whose `ack` waits for the state that has them.
    pub fn take(&mut self, journaled: Journaled, rows: usize, ack: Ack) {
        self.held.take(journaled, rows, ack);
    }

    /// The same for messages that another lane speaks for.
    pub fn hold(&mut self, ack: Ack) {
        self.held.hold(ack);
    }

    /// When what is held should be let go, if anything is.
    pub fn due(&self) -> Option<Instant> {
        self.held.due()
    }

    /// A rule could not save: state without what it was given must not be kept as if it had that. The next attempt is not far.
    pub fn put_off(&mut self) {
        self.held.put_off();
    }

    /// Whether there is so much to tell that it should not wait, or somebody who waits for it to be on disk.
    pub fn is_full(&self) -> bool {
        (self.alerts.len() >= MANY_ALERTS || self.due().is_some_and(|due| due <= Instant::now()))
            && self.may_hand_over()
    }

    /// Whether there is so much to tell that rules have to save, however long they took for it last.
    pub fn cannot_wait(&self) -> bool {
        self.alerts.len() >= MOST_ALERTS
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
            // Their messages come again to the next process, whose state has them not.
            self.held = HeldAcks::default();
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
        changes.extend(slots.iter_mut().flat_map(Slot::unstored));
        let holds = self.due().is_some();
        if !changes.is_empty() || holds {
            let (taken, kept) = self.held.cut();
            changes.extend(taken);
            self.epoch = self.epoch().cut(changes, kept);
        }
    }

    /// The rule is no more, here.
    pub fn forget(&mut self, rule: &Arc<str>) {
        self.epoch.forget(rule);
    }
}
