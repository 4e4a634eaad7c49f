//! Orders to lanes, from whoever changes rules: a lane obeys at the end of its batch, and a sink can hold that batch back for as long as it is down.
//!
//! So nobody waits without end, neither for an answer nor for room in a lane's queue; and what must not be done in part, or after its asker was
//! told that it could not be done, is ordered only once all lanes concerned have said that they are there ([`at_hand`]).

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_engine::LoadError;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

use crate::deploy::reply::{Reply, reply};
use crate::lane::Control;

/// Orders that wait for a lane.
const QUEUE: usize = 16;
/// How long a lane may take to come to a batch boundary.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The way to one lane.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    to: mpsc::Sender<Control>,
    /// When it was last waited for in vain.
    in_vain: Arc<Mutex<Option<Instant>>>,
}

/// What has become of an order.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told<T> {
    Done(T),
    /// The lane has it, and obeys before its next batch; or it has ended.
    Later,
    /// The lane has not taken it, and never will.
    Not,
}

/// A lane does not come to the end of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held;

impl From<Held> for LoadError {
    fn from(_: Held) -> Self {
        LoadError::Busy(format!(
            "a lane did not come to the end of its batch within {PATIENCE:?}: a sink holds it back; it is tried again"
        ))
    }
}

impl<T> Told<T> {
    /// What was answered, if it was.
    pub fn answer(self) -> Result<T, Held> {
        match self {
            Told::Done(answer) => Ok(answer),
            Told::Later | Told::Not => Err(Held),
        }
    }

    /// What was answered; for what is as good as done once the lane has it, `later`.
    pub fn or_later(self, later: T) -> Result<T, Held> {
        match self {
            Told::Done(answer) => Ok(answer),
            Told::Later => Ok(later),
            Told::Not => Err(Held),
        }
    }
}

/// The way to a lane, and the lane's end of it.
pub(crate) fn orders() -> (Orders, mpsc::Receiver<Control>) {
    let (to, orders) = mpsc::channel(QUEUE);
    (Orders { to, in_vain: Arc::default() }, orders)
}

/// Waits until all of these lanes have done what they were told before, and are between two batches. Nothing is changed by it.
pub(crate) fn at_hand<'a>(mut lanes: impl Iterator<Item = &'a Orders>) -> Result<(), Held> {
    let deadline = Instant::now() + PATIENCE;
    lanes.try_for_each(|lane| lane.at_hand(deadline))
}

/// Gives all of these lanes the same order, and waits until they have obeyed, within our patience; who has not then obeys before its next batch.
pub(crate) fn tell_all(lanes: &[Orders], order: impl Fn(SyncSender<()>) -> Control) -> Result<(), Held> {
    let deadline = Instant::now() + PATIENCE;
    let (reply, answers) = sync_channel(lanes.len());
    lanes.iter().try_for_each(|lane| lane.give(deadline, order(reply.clone())))?;
    drop(reply);
    // Until all have said that they did, or nobody is left who could.
    while answers.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    Ok(())
}

impl Orders {
    /// Gives an order, and waits until it has been obeyed, within our patience.
    pub fn tell<T>(&self, order: impl FnOnce(Reply<T>) -> Control) -> Told<T> {
        self.tell_by(Instant::now() + PATIENCE, order)
    }

    /// Has the lane take nothing more in, and end.
    pub async fn finish(&self) -> Result<(), SendError<Control>> {
        self.to.send(Control::Finish).await
    }

    fn tell_by<T>(&self, deadline: Instant, order: impl FnOnce(Reply<T>) -> Control) -> Told<T> {
        let (reply, answer) = reply();
        if self.give(deadline, order(reply)).is_err() {
            return Told::Not;
        }
        match answer.by(deadline) {
            Ok(answer) => {
                *self.in_vain() = None;
                Told::Done(answer)
            }
            Err(RecvTimeoutError::Disconnected) => Told::Later,
            Err(RecvTimeoutError::Timeout) => {
                *self.in_vain() = Some(Instant::now());
                Told::Later
            }
        }
    }

    /// Puts an order into the lane's queue; drops it where the lane has ended.
    fn give(&self, deadline: Instant, mut order: Control) -> Result<(), Held> {
        loop {
            match self.to.try_send(order) {
                Ok(()) | Err(TrySendError::Closed(_)) => return Ok(()),
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => return Err(Held),
                Err(TrySendError::Full(back)) => order = back,
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// A lane that has not taken what it was told is not told more. Of those who ask soon after it was waited for in vain none waits again, so that
    /// forty rules are not forty times our patience.
    fn at_hand(&self, deadline: Instant) -> Result<(), Held> {
        while self.to.capacity() < self.to.max_capacity() && !self.to.is_closed() {
            let lately = self.in_vain().is_some_and(|when| when.elapsed() < PATIENCE);
            if lately || Instant::now() >= deadline {
                if !lately {
                    *self.in_vain() = Some(Instant::now());
                }
                return Err(Held);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        match self.tell_by(deadline, |reply| Control::Here { reply }) {
            Told::Done(()) => Ok(()),
            // A lane that has ended calls no rule any more.
            Told::Later | Told::Not if self.to.is_closed() => Ok(()),
            Told::Later | Told::Not => Err(Held),
        }
    }

    fn in_vain(&self) -> MutexGuard<'_, Option<Instant>> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
