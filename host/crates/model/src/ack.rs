//! The promise to tell a source how its messages ended.
//!
//! An [`Ack`] stands for some messages of one source. It is resolved once, with the worst of what became
//! of them; dropping it unresolved resolves it as [`Outcome::Returned`], so that a forgotten path is a
//! redelivery and never a silent loss.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How messages ended, as far as their source must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durably stored, filtered by intention, or durably in the dead letters: the source may forget them.
    Settled,
    /// Not taken: the source must deliver them again.
    Returned,
}

/// Must be resolved once; cannot be copied; dropped unresolved it is [`Outcome::Returned`].
#[must_use = "an Ack that is dropped unresolved returns its messages to the source"]
pub struct Ack(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Ack {
    /// An ack that tells `then`, from whichever thread settles it: it must be quick and must not block.
    pub fn new(then: impl FnOnce(Outcome) + Send + 'static) -> Ack {
        Ack(Some(Box::new(then)))
    }

    /// An ack nobody waits for: for messages of a source that keeps nothing (QoS 0), and for tests.
    pub fn none() -> Ack {
        Ack(Some(Box::new(|_| {})))
    }

    /// Tells the source.
    pub fn resolve(mut self, outcome: Outcome) {
        if let Some(then) = self.0.take() {
            then(outcome);
        }
    }

    /// `parts` acks in its place (none, when `parts` is 0: it is settled at once). It resolves when the last of them has, with the worst outcome.
    pub fn split(self, parts: usize) -> Vec<Ack> {
        if parts == 0 {
            self.resolve(Outcome::Settled);
            return Vec::new();
        }
        if parts == 1 {
            return vec![self];
        }
        let shared = Join::of(self, parts);
        (0..parts).map(|_| shared.ack()).collect()
    }

    /// Two acks in its place; it resolves when both have, with the worse outcome.
    pub fn halves(self) -> (Ack, Ack) {
        let shared = Join::of(self, 2);
        (shared.ack(), shared.ack())
    }

    /// One ack for several: resolving it resolves them all.
    pub fn join(acks: Vec<Ack>) -> Ack {
        Ack::new(move |outcome| {
            for ack in acks {
                ack.resolve(outcome);
            }
        })
    }
}

struct Join {
    left: AtomicUsize,
    returned: AtomicBool,
    whole: Mutex<Option<Ack>>,
}

impl Join {
    fn of(whole: Ack, parts: usize) -> Arc<Self> {
        let (left, returned) = (AtomicUsize::new(parts), AtomicBool::new(false));
        Arc::new(Self { left, returned, whole: Mutex::new(Some(whole)) })
    }

    fn ack(self: &Arc<Self>) -> Ack {
        let join = self.clone();
        Ack::new(move |outcome| join.part(outcome))
    }

    fn part(&self, outcome: Outcome) {
        if outcome == Outcome::Returned {
            self.returned.store(true, Ordering::Release);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(whole) = whole {
                let worst = if self.returned.load(Ordering::Acquire) { Outcome::Returned } else { Outcome::Settled };
                whole.resolve(worst);
            }
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Outcome::Returned);
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ack(open)" } else { "Ack(resolved)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> (Ack, Arc<Mutex<Vec<Outcome>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let to = seen.clone();
        (Ack::new(move |o| to.lock().unwrap_or_else(PoisonError::into_inner).push(o)), seen)
    }

    fn seen(log: &Arc<Mutex<Vec<Outcome>>>) -> Vec<Outcome> {
        log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Guarantees: a path that forgets an ack redelivers, it does not lose.
    #[test]
    fn dropped_is_returned() {
        let (ack, log) = probe();
        drop(ack);
        assert_eq!(seen(&log), [Outcome::Returned]);
    }

    /// Guarantees: nothing is told before the last part, and then the worst, once.
    #[test]
    fn split_waits_for_all_and_worst_wins() {
        let (ack, log) = probe();
        let mut parts = ack.split(3);
        parts.remove(0).resolve(Outcome::Settled);
        drop(parts.pop());
        assert!(seen(&log).is_empty());
        parts.remove(0).resolve(Outcome::Settled);
        assert_eq!(seen(&log), [Outcome::Returned]);
    }

    /// Guarantees: what has been parted in two is told when both parts are, whichever comes last.
    #[test]
    fn halves_wait_for_each_other() {
        let (ack, log) = probe();
        let (first, second) = ack.halves();
        second.resolve(Outcome::Settled);
        assert!(seen(&log).is_empty());
        first.resolve(Outcome::Settled);
        assert_eq!(seen(&log), [Outcome::Settled]);
        let (ack, log) = probe();
        let (first, second) = ack.halves();
        first.resolve(Outcome::Settled);
        drop(second);
        assert_eq!(seen(&log), [Outcome::Returned]);
    }

    /// Guarantees: a batch with no part for any sink is settled at once.
    #[test]
    fn split_in_none_is_settled() {
        let (ack, log) = probe();
        assert!(ack.split(0).is_empty());
        assert_eq!(seen(&log), [Outcome::Settled]);
    }

    /// Guarantees: every source of a coalesced batch hears of it.
    #[test]
    fn join_tells_all() {
        let (a, log_a) = probe();
        let (b, log_b) = probe();
        Ack::join(vec![a, b]).resolve(Outcome::Settled);
        assert_eq!((seen(&log_a), seen(&log_b)), (vec![Outcome::Settled], vec![Outcome::Settled]));
    }
}
