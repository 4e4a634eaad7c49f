//! Counts and forgets: for load tests, and to see what the way to a sink costs by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use tidegate_model::{Delivery, Sink, SinkError, Wants, Written};

/// A sink that keeps nothing but numbers.
#[derive(Debug, Default)]
pub struct Discard {
    discarded: Arc<Discarded>,
}

/// How much a [`Discard`] was given.
#[derive(Debug, Default)]
pub struct Discarded {
    points: AtomicU64,
    alerts: AtomicU64,
}

impl Discarded {
    /// Points so far.
    pub fn points(&self) -> u64 {
        self.points.load(Relaxed)
    }

    /// Alerts so far.
    pub fn alerts(&self) -> u64 {
        self.alerts.load(Relaxed)
    }
}

impl Discard {
    /// A new one, at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its numbers, also while it is at work.
    pub fn discarded(&self) -> Arc<Discarded> {
        Arc::clone(&self.discarded)
    }
}

#[async_trait]
impl Sink for Discard {
    fn wants(&self) -> Wants {
        Wants { points: true, alerts: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let points = deliveries.iter().map(|delivery| delivery.points.len() as u64).sum();
        let alerts = deliveries.iter().map(|delivery| delivery.alerts.len() as u64).sum();
        self.discarded.points.fetch_add(points, Relaxed);
        self.discarded.alerts.fetch_add(alerts, Relaxed);
        Ok(Written { points, alerts, ..Written::default() })
    }
}
