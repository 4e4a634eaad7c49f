//! The way back: from acks, settled on any thread, to the one loop that talks to the broker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::{Ack, Outcome};
use tokio::sync::Notify;

/// How the messages of one parcel ended.
#[derive(Debug)]
pub(crate) struct Settlement<T> {
    /// The connection they came on, where tokens alone do not say it.
    pub(crate) generation: u32,
    pub(crate) outcome: Outcome,
    /// One a message, in order of receipt.
    pub(crate) tokens: Vec<T>,
}

/// A queue of settlements. It is bounded by what is in flight: each entry stands for a parcel that was sent.
#[derive(Debug)]
pub(crate) struct Settlements<T> {
    queue: Mutex<Vec<Settlement<T>>>,
    /// Whether `queue` has entries: looked at once a read, so it must cost less than a lock.
    filled: AtomicBool,
    news: Notify,
}

impl<T> Default for Settlements<T> {
    fn default() -> Self {
        Self { queue: Mutex::default(), filled: AtomicBool::new(false), news: Notify::new() }
    }
}

impl<T: Send + 'static> Settlements<T> {
    /// An ack that puts `tokens` and the outcome into the queue.
    pub(crate) fn ack(self: &Arc<Self>, generation: u32, tokens: Vec<T>) -> Ack {
        let to = self.clone();
        Ack::new(move |outcome| to.push(Settlement { generation, outcome, tokens }))
    }

    /// An ack that tells only of what is given back: for messages whose settlement interests nobody.
    pub(crate) fn ack_if_returned(self: &Arc<Self>, generation: u32, tokens: Vec<T>) -> Ack {
        let to = self.clone();
        Ack::new(move |outcome| {
            if outcome == Outcome::Returned {
                to.push(Settlement { generation, outcome, tokens });
            }
        })
    }

    fn push(&self, settlement: Settlement<T>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(settlement);
        if !self.filled.swap(true, Ordering::AcqRel) {
            self.news.notify_one();
        }
    }

    /// Moves all there is into `into`, which the caller keeps for its memory; gives whether there was any.
    pub(crate) fn take(&self, into: &mut Vec<Settlement<T>>) -> bool {
        into.clear();
        if self.filled.swap(false, Ordering::AcqRel) {
            std::mem::swap(into, &mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        }
        !into.is_empty()
    }

    /// Whether there is something to take: cheap.
    pub(crate) fn any(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Waits for something to take. May wake for nothing; may be dropped and called again.
    pub(crate) async fn news(&self) {
        if !self.any() {
            self.news.notified().await;
        }
    }
}
