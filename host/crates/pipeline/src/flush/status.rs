//! How a sink is and what it has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_model::{Delivery, FailedJobs, Health, Spool, SpoolTotals, State, Wants, Written};

/// Written by the sink's task, read by anyone.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// How it is.
    pub health: Health,
    failed_jobs: Arc<FailedJobs>,
    spool: Option<Arc<dyn Spool>>,
    holds_back: Mutex<Option<String>>,
    messages: AtomicU64,
    points: AtomicU64,
    alerts: AtomicU64,
    dead_letters: AtomicU64,
    rejected: AtomicU64,
    repeats: AtomicU64,
    differing: AtomicU64,
    late: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) waiting: AtomicU64,
}

/// A reading of [`SinkStatus`].
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SinkTotals {
    /// The sink's name.
    pub name: String,
    /// Messages, as they came, that the target has confirmed; what stands in the spool is not among them.
    pub messages: u64,
    /// Points the target has confirmed; what stands in the spool is not among them.
    pub points: u64,
    /// Alerts the target has confirmed.
    pub alerts: u64,
    /// Dead letters the target has confirmed.
    pub dead_letters: u64,
    /// Points and messages the target would not take: they are in the dead letters.
    pub rejected: u64,
    /// Points that the target had already, by topic and time, and left out; among `points`.
    pub repeats: u64,
    /// Of the repeats, those with another value than the one stored.
    pub differing: u64,
    /// Points for a part of the table that may be compressed, which is slow: among `points`.
    pub late: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Writes that failed and were tried again.
    pub retries: u64,
    /// Deliveries taken, and neither confirmed nor in the spool.
    pub in_flight: u64,
    /// Why it does not work now, if it does not.
    pub down: Option<String>,
    /// Why nothing can be acknowledged now, if nothing can: it is down, and no spool takes what comes.
    pub holds_back: Option<String>,
    /// Jobs of its database (compression, retention, the refresh of an aggregate) that failed when they last ran, as asked every ten minutes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_jobs: Vec<String>,
    /// Its spool, if it has one.
    pub spool: Option<SpoolTotals>,
}

impl SinkStatus {
    /// Of a sink that has this spool.
    pub fn new(spool: Option<Arc<dyn Spool>>) -> Self {
        Self { spool, ..Self::default() }
    }

    /// The same of a sink whose database has these.
    pub fn with(self, failed_jobs: Arc<FailedJobs>) -> Self {
        Self { failed_jobs, ..self }
    }

    /// A reading.
    pub fn totals(&self, name: &str) -> SinkTotals {
        let down = match self.health.state() {
            State::Down(reason) => Some(reason),
            State::Up | State::Starting => None,
        };
        let holds_back = match &self.spool {
            None => down.clone(),
            Some(_) => self.holds_back.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        SinkTotals {
            name: name.to_owned(),
            messages: self.messages.load(Relaxed),
            points: self.points.load(Relaxed),
            alerts: self.alerts.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            differing: self.differing.load(Relaxed),
            late: self.late.load(Relaxed),
            writes: self.writes.load(Relaxed),
            retries: self.retries.load(Relaxed),
            in_flight: self.waiting.load(Relaxed),
            down,
            holds_back,
            failed_jobs: self.failed_jobs.list(),
            spool: self.spool.as_ref().map(|spool| spool.totals()),
        }
    }

    /// The spool does not take what comes, and why; or it does again. Gives whether that is news.
    pub(super) fn hold_back(&self, why: Option<String>) -> bool {
        let mut now = self.holds_back.lock().unwrap_or_else(PoisonError::into_inner);
        let news = now.is_some() != why.is_some();
        *now = why;
        news
    }

    /// The target has confirmed these, but for what it refused.
    pub(super) fn count(&self, wants: &Wants, deliveries: &[Arc<Delivery>], written: &Written) {
        let sum = |wanted: bool, of: fn(&Delivery) -> usize| {
            if wanted { deliveries.iter().map(|delivery| of(delivery) as u64).sum() } else { 0 }
        };
        let (rejected, rejected_messages) = (written.rejected.len() as u64, written.rejected_messages.len() as u64);
        let messages: u64 = deliveries.iter().map(|delivery| delivery.raw_rows(&wants.messages).count() as u64).sum();
        self.messages.fetch_add(messages.saturating_sub(rejected_messages), Relaxed);
        let points: u64 = sum(wants.points, |d| d.points.len());
        self.points.fetch_add(points.saturating_sub(rejected), Relaxed);
        self.alerts.fetch_add(sum(wants.alerts, |d| d.alerts.len()), Relaxed);
        self.dead_letters.fetch_add(sum(wants.dead_letters, |d| d.dead_letters.len()), Relaxed);
        self.rejected.fetch_add(rejected + rejected_messages, Relaxed);
        self.repeats.fetch_add(written.repeats, Relaxed);
        self.differing.fetch_add(written.differing, Relaxed);
        self.late.fetch_add(written.late, Relaxed);
    }
}
