//! One task a sink: gathers what is waiting, writes it, acknowledges it; tries again for as long as it takes.
//!
//! It writes as soon as the writer is free: the row limit is a maximum, never something to wait for, so
//! that a source with a small window in flight is never held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use tidegate_model::{
    Ack, Books, DeadLetter, Delivery, Health, Outcome, Rejected, Sink, SinkError, Stage, State, Wants,
};
use tokio::sync::{mpsc, watch};

use crate::dead_letter::Cause;
use crate::outlets::Consignment;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Bounds of one sink's work.
#[derive(Clone, Copy, Debug)]
pub struct SinkLimits {
    /// The most points of one write.
    pub rows: usize,
    /// The most deliveries waiting; a full queue holds the lanes back.
    pub queue: usize,
}

impl Default for SinkLimits {
    fn default() -> Self {
        Self { rows: 5_000, queue: 32 }
    }
}

/// How a sink is and what it has done.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// How it is.
    pub health: Health,
    points: AtomicU64,
    alerts: AtomicU64,
    dead_letters: AtomicU64,
    rejected: AtomicU64,
    writes: AtomicU64,
    retries: AtomicU64,
    waiting: AtomicU64,
}

/// A reading of [`SinkStatus`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkTotals {
    /// The sink's name.
    pub name: String,
    /// Points made durable.
    pub points: u64,
    /// Alerts made durable.
    pub alerts: u64,
    /// Dead letters made durable.
    pub dead_letters: u64,
    /// Points the target would not take: they are in the dead letters.
    pub rejected: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Writes that failed and were tried again.
    pub retries: u64,
    /// Deliveries taken and not yet confirmed.
    pub in_flight: u64,
    /// Why it does not work now, if it does not.
    pub down: Option<String>,
}

impl SinkStatus {
    /// A reading.
    pub fn totals(&self, name: &str) -> SinkTotals {
        SinkTotals {
            name: name.to_owned(),
            points: self.points.load(Relaxed),
            alerts: self.alerts.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            writes: self.writes.load(Relaxed),
            retries: self.retries.load(Relaxed),
            in_flight: self.waiting.load(Relaxed),
            down: match self.health.state() {
                State::Down(reason) => Some(reason),
                State::Up | State::Starting => None,
            },
        }
    }
}

/// A sink at work.
pub(crate) struct Flush {
    pub name: Arc<str>,
    pub sink: Box<dyn Sink>,
    pub queue: mpsc::Receiver<Consignment>,
    pub limits: SinkLimits,
    pub status: Arc<SinkStatus>,
    pub books: Arc<Books>,
    /// Where points go that this sink refuses; none for the dead letters themselves.
    pub dead_letters: Option<mpsc::Sender<Consignment>>,
    /// Set when the deadline of a shutdown has passed: what cannot be written now is returned to its source.
    pub give_up: watch::Receiver<bool>,
    /// Set when nobody sends any more: write what is waiting, and end.
    pub finish: watch::Receiver<bool>,
}

impl Flush {
    /// Runs until the queue is closed and empty.
    pub async fn run(mut self) {
        let wants = self.sink.wants();
        while let Some(first) = self.next().await {
            let mut rows = first.0.points.len();
            let (mut deliveries, mut acks) = (vec![first.0], vec![first.1]);
            while rows < self.limits.rows {
                let Ok((delivery, ack)) = self.queue.try_recv() else { break };
                rows += delivery.points.len();
                deliveries.push(delivery);
                acks.push(ack);
            }
            self.status.waiting.store((self.queue.len() + acks.len()) as u64, Relaxed);
            match self.write(&deliveries).await {
                Some(rejected) => {
                    self.count(wants, &deliveries, rejected.len());
                    self.acknowledge(&deliveries, acks, rejected).await;
                }
                None => {
                    for ack in acks {
                        ack.resolve(Outcome::Returned);
                    }
                }
            }
            self.status.waiting.store(self.queue.len() as u64, Relaxed);
        }
        self.sink.close().await;
    }

    async fn next(&mut self) -> Option<Consignment> {
        tokio::select! {
            biased;
            first = self.queue.recv() => first,
            () = told(&mut self.finish) => {
                self.queue.close();
                self.queue.recv().await
            }
        }
    }

    /// Writes until it is done, with pauses; `None` when it was told to give up.
    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Option<Vec<Rejected>> {
        let mut pause = FIRST_RETRY;
        loop {
            let error = tokio::select! {
                written = self.sink.write(deliveries) => match written {
                    Ok(written) => {
                        if matches!(self.status.health.state(), State::Down(_)) {
                            tracing::info!(sink = &*self.name, "the sink works again");
                        }
                        self.status.health.up();
                        self.status.writes.fetch_add(1, Relaxed);
                        return Some(written.rejected);
                    }
                    Err(error) => error,
                },
                () = told(&mut self.give_up) => {
                    tracing::warn!(sink = &*self.name, deliveries = deliveries.len(),
                        "the shutdown's time is over while the sink was writing: the messages go back to their sources");
                    return None;
                }
            };
            self.status.retries.fetch_add(1, Relaxed);
            let reason = error.to_string();
            if self.status.health.down(&*reason) {
                match error {
                    SinkError::Retry(_) => {
                        tracing::warn!(
                            sink = &*self.name,
                            reason,
                            "the sink cannot write now; it tries again, nothing is lost"
                        );
                    }
                    SinkError::NeedsOperator(_) => {
                        tracing::error!(
                            sink = &*self.name,
                            reason,
                            "the sink cannot write until somebody acts; sources are held back meanwhile"
                        );
                        pause = LAST_RETRY / 6;
                    }
                }
            }
            // Full jitter, so that a fleet does not come back to a database all at once.
            let wait = pause.mul_f64(0.5 + fastrand::f64() * 0.5);
            pause = (pause * 2).min(LAST_RETRY);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = told(&mut self.give_up) => return None,
            }
        }
    }

    fn count(&self, wants: Wants, deliveries: &[Arc<Delivery>], rejected: usize) {
        let sum = |wanted: bool, of: fn(&Delivery) -> usize| {
            if wanted { deliveries.iter().map(|delivery| of(delivery) as u64).sum() } else { 0 }
        };
        let rejected = rejected as u64;
        let points: u64 = sum(wants.points, |d| d.points.len());
        self.status.points.fetch_add(points.saturating_sub(rejected), Relaxed);
        self.status.alerts.fetch_add(sum(wants.alerts, |d| d.alerts.len()), Relaxed);
        self.status.dead_letters.fetch_add(sum(wants.dead_letters, |d| d.dead_letters.len()), Relaxed);
        self.status.rejected.fetch_add(rejected, Relaxed);
    }

    /// Acknowledges what was written; a delivery with refused points only once those are in the dead letters.
    async fn acknowledge(&mut self, deliveries: &[Arc<Delivery>], acks: Vec<Ack>, rejected: Vec<Rejected>) {
        for (i, (delivery, ack)) in deliveries.iter().zip(acks).enumerate() {
            let refused: Vec<&Rejected> = rejected.iter().filter(|r| r.delivery == i).collect();
            match (&self.dead_letters, refused.is_empty()) {
                (Some(dead_letters), false) => {
                    delivery.refused.fetch_add(refused.len() as u64, Relaxed);
                    let letters = refused.iter().map(|r| self.dead_letter(delivery, r)).collect();
                    let letters = Delivery { dead_letters: letters, ..Delivery::default() };
                    // A closed queue drops the ack: the messages go back to their source.
                    let _ = dead_letters.send((Arc::new(letters), ack)).await;
                }
                _ => ack.resolve(Outcome::Settled),
            }
        }
    }

    fn dead_letter(&self, delivery: &Delivery, rejected: &Rejected) -> DeadLetter {
        let cause = Cause {
            stage: Stage::Sink,
            rule: Some(self.name.clone()),
            module: None,
            reason: rejected.reason.clone(),
            backtrace: None,
        };
        let row = delivery.origin_row(rejected.row);
        let source = row.and_then(|row| delivery.source_of(row)).cloned().unwrap_or_default();
        cause.letter(&self.books, &delivery.origin, row, source)
    }
}

/// Resolves when the flag is set; never, if its owner is gone without setting it.
async fn told(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}
