//! A sink that notes how long messages were on their way, and a feeder that keeps a pace: for pauses and tails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use tidegate_model::{Books, Clock, Delivery, Sink, SinkError, SystemClock, Wants, Written};
use tidegate_pipeline::SinkSetup;
use tidegate_sinks::Discard;

use crate::line::{Line, LineSetup};

/// When a message came to the sink, and how long it had been on its way: milliseconds.
pub type Arrival = (Instant, f64);

/// What a [`TimedDiscard`] has seen.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Vec<Arrival>>>);

impl Arrivals {
    /// All since the last time.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Discards points, after noting when they came.
pub struct TimedDiscard {
    arrivals: Arrivals,
}

impl TimedDiscard {
    /// Notes in `arrivals`.
    pub fn new(arrivals: Arrivals) -> Self {
        Self { arrivals }
    }
}

#[async_trait]
impl Sink for TimedDiscard {
    fn wants(&self) -> Wants {
        Wants { points: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let (now, now_us) = (Instant::now(), SystemClock.now_us());
        let mut written = Written::default();
        let mut arrivals = self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in deliveries {
            written.points += delivery.points.len() as u64;
            let rows = (0..delivery.points.len() as u32).filter_map(|row| delivery.origin_row(row));
            let sent = rows.filter_map(|row| delivery.origin.received_us.get(row as usize));
            arrivals.extend(sent.map(|sent_us| (now, (now_us - sent_us).max(0) as f64 / 1_000.0)));
        }
        Ok(written)
    }
}

/// A line into such a sink, with so many lanes.
pub fn line(lanes: usize, names: usize) -> Result<(Line, Arrivals)> {
    let arrivals = Arrivals::default();
    let line = Line::start(LineSetup {
        lanes,
        batch_rows: None,
        books: Arc::new(Books::new(names)),
        sinks: vec![SinkSetup::new("timed", Box::new(TimedDiscard::new(arrivals.clone())))],
        letters: Box::new(Discard::new()),
    })?;
    Ok((line, arrivals))
}

/// Calls `send` with a running number, this often, until it says that it is enough.
pub fn paced(every: Duration, mut send: impl FnMut(usize) -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    let mut number = 0;
    while send(number)? {
        number += 1;
        let due = began + every * number as u32;
        // Where it is late it catches up: what waited for us has waited.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
