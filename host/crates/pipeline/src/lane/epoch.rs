//! What ties the saving of state to the sinks: state is kept only when all that came of it is confirmed.
//!
//! A lane cuts its life into epochs. Each delivery holds the epoch it was sent in until its sinks have it, or their spools. At the cut the lane
//! leaves what is to be kept, and goes on in the next epoch, which the one before it holds: so what was cut goes to the store when nothing
//! holds its epoch or one before it any more, in order, from whichever thread confirmed last. A crash before that brings back an older state, and
//! the messages whose outcome was under way come again to it: what they raised then is raised again, and not taken for published.
//!
//! Where a delivery is returned since a shutdown lasted too long, the lane keeps nothing any more: what was returned comes again to the next process,
//! and a state that has it already would swallow what comes of it. What is on disk then is older, and was all confirmed. Where a host that goes on
//! gives something back (a database has lost what it had), that comes again to this process, whose state has it, kept or not.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tidegate_model::{Ack, Outcome, StateChange, StateStore, Transition};
use tokio::sync::watch;

/// Cuts of one lane that may wait for sinks. While so many do, no more are made: what changes is gathered with its rule, the last word on each cell.
const MOST_WAITING: usize = 4;
/// The same for the disk, whose thread gathers in the same way.
const MOST_UNKEPT: usize = 64;

/// A part of a lane's life between two cuts; held by the lane and by all that was sent in it.
#[derive(Debug)]
pub(crate) struct Epoch {
    line: Arc<Line>,
    /// Set by the cut that ends it.
    next: OnceLock<Arc<Epoch>>,
}

/// What a lane has to keep as of one moment, and what waits for it to be on disk.
type Cut = (Vec<StateChange>, Ack);

/// What all epochs of a lane share.
#[derive(Debug)]
struct Line {
    store: Arc<dyn StateStore>,
    /// What was cut and is not confirmed, the oldest first.
    waiting: Mutex<VecDeque<Cut>>,
    /// Cuts that are not on disk yet, those that wait included.
    unkept: AtomicUsize,
    /// Whether the shutdown's time is over.
    give_up: watch::Receiver<bool>,
    /// Something was returned for that.
    broken: AtomicBool,
}

impl Epoch {
    /// The first of a lane.
    pub fn first(store: Arc<dyn StateStore>, give_up: watch::Receiver<bool>) -> Arc<Self> {
        let (unkept, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self::of(Arc::new(Line { store, waiting: Mutex::default(), unkept, give_up, broken }))
    }

    fn of(line: Arc<Line>) -> Arc<Self> {
        Arc::new(Self { line, next: OnceLock::new() })
    }

    /// Ends it, and leaves what is to be kept once all is confirmed that was sent until now; gives the next. `kept` resolves when it is on disk,
    /// and is returned where it never will be.
    pub fn cut(self: Arc<Self>, changes: Vec<StateChange>, kept: Ack) -> Arc<Self> {
        let next = Self::of(self.line.clone());
        self.line.unkept.fetch_add(1, AcqRel);
        self.line.waiting().push_back((changes, kept));
        // Only the lane cuts, and each once.
        let _ = self.next.set(next.clone());
        next
    }

    /// Whether there is room for another cut.
    pub fn may_cut(&self) -> bool {
        !self.is_held() && self.line.unkept.load(Acquire) < MOST_UNKEPT
    }

    /// Whether the sinks have yet to confirm so much that there is no room for another cut.
    pub fn is_held(&self) -> bool {
        self.line.waiting().len() >= MOST_WAITING
    }

    /// Whether all that was cut has gone to the store.
    pub fn is_told(&self) -> bool {
        self.line.waiting().is_empty()
    }

    /// Whether nothing is kept any more.
    pub fn is_broken(&self) -> bool {
        self.line.broken.load(Acquire)
    }

    /// A delivery that was sent in it went back.
    pub fn returned(&self) {
        if *self.line.give_up.borrow() && !self.line.broken.swap(true, AcqRel) {
            tracing::warn!(
                "a sink did not take what it was given in time: the state of the lane's rules stays on disk as it was before that, since what was returned comes again to it"
            );
        }
    }

    /// The rule is no more on this lane: of its state nothing goes to the store after this. How its alerts are it still learns.
    pub fn forget(&self, rule: &Arc<str>) {
        let mut waiting = self.line.waiting();
        let mut raised = Vec::new();
        for (changes, _) in &mut *waiting {
            changes.retain(|change| match change {
                StateChange::Saved { rule: of, .. } => of != rule,
                // Told after this, it would be taken for one of a rule that comes back.
                StateChange::Alert(alert) if alert.rule == *rule && alert.transition == Transition::Raised => {
                    raised.push(change.clone());
                    false
                }
                _ => true,
            });
        }
        raised.push(StateChange::Forgotten { rule: rule.clone() });
        self.line.store.put(raised, Ack::none());
    }
}

impl Drop for Epoch {
    /// All is confirmed that was sent in it; and, since those before it hold it, all before that.
    fn drop(&mut self) {
        let Some(next) = self.next.take() else { return };
        let line = &self.line;
        let mut waiting = line.waiting();
        let cut = waiting.pop_front();
        if let Some((changes, kept)) = cut
            && !line.broken.load(Acquire)
        {
            let told = line.clone();
            let kept = Ack::new(move |outcome| {
                told.on_disk(outcome);
                kept.resolve(outcome);
            });
            // Within the lock: what is forgotten must not be put after it.
            line.store.put(changes, kept);
        }
        drop(waiting);
        // Perhaps the next one has waited for this one only.
        drop(next);
    }
}

impl Line {
    /// Must not take the lock: a store may tell at once.
    fn on_disk(&self, outcome: Outcome) {
        if outcome == Outcome::Returned {
            self.broken.store(true, Release);
        }
        self.unkept.fetch_sub(1, AcqRel);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Cut>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
