//! One task a sink: gathers what is waiting, writes it, acknowledges it; tries again for as long as it takes.
//!
//! It writes as soon as the writer is free: the row limit is a maximum, never something to wait for, so
//! that a source with a small window in flight is never held up.
//!
//! ```text
//!          ┌────── a write fails, or takes longer than its grace: the batch is appended ──┐
//!          │                                                                              ▼
//!   live: queue ─▶ sink                                        spooling: queue ─▶ spool ─▶ sink
//!          ▲                                                                              │
//!          └────────────────────────── nothing stands in the spool ───────────────────────┘
//! ```
//!
//! - The spool is asked once at the start, before the sink: what stands in it from an earlier run goes first. From then on it costs nothing
//!   while the sink keeps up.
//! - A batch is acknowledged when the sink has confirmed it or the spool has it on disk, whichever is first; what only a person can mend is
//!   spooled too.
//! - While records stand in the spool, what comes is appended behind them, so that the sink gets everything in order. Once the sink works,
//!   one row is appended for two that leave: the spool comes to its end under any load, and a source that sends faster is held back
//!   for as long. When all that stands is in the sink's hands, what comes waits for that one write, and goes to the sink directly. With
//!   `order = "live_first"` a sink that works again is given what comes and what stands in turn; what it fails to take of what comes it is given
//!   again at once, from memory.
//! - Points that are slow to store are handed to another such task, with a sink, a queue and a spool of its own, before a batch is written: what comes
//!   next does not wait for them, and a message is acknowledged when both have its points. Such a task spools what waits as soon as half of its queue is
//!   taken, whatever it does, so that they keep out of the way.
//! - A spool that is full or cannot be used takes nothing: the batch is held, unacknowledged, and so are the sources behind it.
//! - Without a spool the batch stays in hand until the sink takes it.
//!
//! | file | what |
//! |---|---|
//! | `live` | from the queue to the sink |
//! | `drain` | from the spool to the sink |
//! | `confirmed` | what of the spool the sink has had before its turn |
//! | `intake` | the queue's end; what is appended meanwhile |
//! | `late` | late points, on their way to a task of their own |
//! | `letters` | what a sink refused goes to the dead letters |

mod confirmed;
mod drain;
mod intake;
mod late;
mod letters;
mod live;
mod pause;
mod status;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_model::{Books, RawMessages, Sink, SinkError, Spool, State};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::outlets::Consignment;
use confirmed::Confirmed;
use drain::{Drained, Given};
use intake::{Batch, Intake};
pub(crate) use late::Beside;
use live::Went;
use pause::Pause;
pub use status::{SinkStatus, SinkTotals};

/// Longer than a database's usual stalls, shorter than a source's patience.
const GRACE: Duration = Duration::from_secs(2);
/// What may be appended while the sink is down.
const UNLIMITED: i64 = i64::MAX;
/// The first bound of the pause where only a person can help.
const OPERATOR_PAUSE: Duration = Duration::from_secs(5);

/// Bounds of one sink's work.
#[derive(Clone, Copy, Debug)]
pub struct SinkLimits {
    /// The most points of one write.
    pub rows: usize,
    /// The most deliveries waiting; a full queue holds the lanes back.
    pub queue: usize,
    /// How long a write may take before what it holds is spooled, and acknowledged. The write itself goes on: when it succeeds, its records are removed and not
    /// written again.
    pub grace: Duration,
}

impl Default for SinkLimits {
    fn default() -> Self {
        Self { rows: 5_000, queue: 16, grace: GRACE }
    }
}

/// A sink at work.
pub(crate) struct Flush {
    name: Arc<str>,
    /// What its letters call it: of a task for late points, the sink that these are of.
    letters_name: Arc<str>,
    sink: Box<dyn Sink>,
    spool: Option<Arc<dyn Spool>>,
    /// The task that stores late points beside this one.
    late: Option<Beside>,
    intake: Intake,
    status: Arc<SinkStatus>,
    books: Arc<Books>,
    /// The messages that any sink takes as they came.
    raw: RawMessages,
    /// Where points go that this sink refuses; none for the dead letters themselves.
    dead_letters: Option<mpsc::Sender<Consignment>>,
    /// Set when the deadline of a shutdown has passed: what can be neither written nor spooled now is returned to its source.
    give_up: watch::Receiver<bool>,
    grace: Duration,
    pause: Pause,
    /// How long to wait before the next write, since the last one failed.
    wait: Option<Duration>,
    /// Records of the spool that the sink failed to take. It is given the same again before any others: one that has taken a part of
    /// them knows it by that.
    unfinished: Option<Given>,
    /// Records that are not to be given to it again.
    confirmed: Confirmed,
}

/// What a [`Flush`] is made of.
pub(crate) struct FlushParts {
    pub name: Arc<str>,
    pub letters_name: Arc<str>,
    pub sink: Box<dyn Sink>,
    pub spool: Option<Arc<dyn Spool>>,
    pub late: Option<Beside>,
    pub limits: SinkLimits,
    pub queue: mpsc::Receiver<Consignment>,
    /// Of a task that others reach by a [`Beside`].
    pub filling: Option<Arc<Notify>>,
    pub status: Arc<SinkStatus>,
    pub books: Arc<Books>,
    pub raw: RawMessages,
    pub dead_letters: Option<mpsc::Sender<Consignment>>,
    pub give_up: watch::Receiver<bool>,
    pub finish: watch::Receiver<bool>,
}

impl Flush {
    pub fn new(parts: FlushParts) -> Self {
        let FlushParts {
            name,
            letters_name,
            sink,
            spool,
            late,
            limits,
            queue,
            filling,
            status,
            books,
            raw,
            dead_letters,
            give_up,
            finish,
        } = parts;
        let intake = Intake {
            name: name.clone(),
            queue,
            filling,
            wants: sink.wants(),
            rows: limits.rows,
            status: status.clone(),
            finish,
            give_up: give_up.clone(),
            held: None,
            ahead: Batch::default(),
            ask_at: Instant::now(),
            allowance: UNLIMITED,
        };
        Self {
            name,
            letters_name,
            sink,
            spool,
            late,
            intake,
            status,
            books,
            raw,
            dead_letters,
            give_up,
            grace: limits.grace,
            pause: Pause::default(),
            wait: None,
            unfinished: None,
            confirmed: Confirmed::default(),
        }
    }

    /// Runs until nobody sends any more and what was taken is settled. What stands in the spool stays there.
    pub async fn run(mut self) {
        let spool = self.spool.clone();
        let mut standing = spool.is_some();
        loop {
            if let (true, Some(spool)) = (standing, &spool) {
                match self.drain(spool).await {
                    Drained::Empty => standing = false,
                    Drained::Over => break,
                }
            }
            let Some(batch) = self.intake.next().await else { break };
            match self.live(batch).await {
                Went::Settled | Went::Returned => {}
                Went::Spooled => standing = true,
            }
        }
        self.intake.give_back();
        self.sink.close().await;
        if let Some(spool) = spool {
            spool.close().await;
        }
    }

    /// The sink has confirmed a write.
    fn worked(&mut self) {
        if matches!(self.status.health.state(), State::Down(_)) {
            tracing::info!(sink = &*self.name, "the sink works again");
        }
        self.status.health.up();
        self.status.writes.fetch_add(1, Relaxed);
        self.pause.worked();
    }

    /// The sink has failed: it is left alone for a while.
    fn failed(&mut self, error: &SinkError) {
        self.status.retries.fetch_add(1, Relaxed);
        let reason = error.to_string();
        let news = self.status.health.down(&*reason);
        let meanwhile = match &self.spool {
            Some(_) => "what comes goes to its spool",
            None => "sources are held back",
        };
        let at_least = match error {
            SinkError::Retry(_) => {
                if news {
                    tracing::warn!(
                        sink = &*self.name,
                        reason,
                        "the sink cannot write now and tries again; {meanwhile}"
                    );
                }
                Duration::ZERO
            }
            SinkError::WentBack(_) => {
                if news {
                    tracing::error!(
                        sink = &*self.name,
                        reason,
                        "the sink has lost what it had confirmed; the sources that can read it again do"
                    );
                }
                Duration::ZERO
            }
            SinkError::NeedsOperator(_) => {
                if news {
                    tracing::error!(
                        sink = &*self.name,
                        reason,
                        "the sink cannot write until somebody acts; {meanwhile}"
                    );
                }
                OPERATOR_PAUSE
            }
        };
        self.wait = Some(self.pause.failed(at_least));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

/// Resolves when the flag is set; never, if its owner is gone without setting it.
async fn told(flag: &watch::Receiver<bool>) {
    if flag.clone().wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}
