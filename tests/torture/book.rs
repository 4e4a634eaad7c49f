//! What is known of each message while it is under way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One line a message, by its number.
#[derive(Debug)]
pub struct Book {
    start: Instant,
    lines: Mutex<Vec<Line>>,
    taken: AtomicU64,
    settled: AtomicU64,
    redelivered: AtomicU64,
    broker_ends: Mutex<Vec<Duration>>,
}

/// A message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// When the broker took it first, in milliseconds since the start.
    pub taken_ms: Option<u32>,
    /// How often the broker gave it to the host.
    pub deliveries: u32,
    /// The host has acknowledged it.
    pub settled: bool,
}

impl Book {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            lines: Mutex::default(),
            taken: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            broker_ends: Mutex::default(),
        }
    }

    /// The number of the next message.
    pub fn open(&self) -> u64 {
        let mut lines = self.lines();
        lines.push(Line::default());
        lines.len() as u64 - 1
    }

    /// The broker has acknowledged it to the publisher.
    pub fn taken(&self, number: u64) {
        let now = u32::try_from(self.start.elapsed().as_millis()).unwrap_or(u32::MAX);
        if let Some(line) = self.lines().get_mut(number as usize)
            && line.taken_ms.is_none()
        {
            line.taken_ms = Some(now);
            self.taken.fetch_add(1, Relaxed);
        }
    }

    /// The broker has given it to the host, once more perhaps.
    pub fn delivered(&self, number: u64) {
        if let Some(line) = self.lines().get_mut(number as usize) {
            line.deliveries += 1;
            self.redelivered.fetch_add(u64::from(line.deliveries > 1), Relaxed);
        }
    }

    /// The host has acknowledged it to the broker.
    pub fn settled(&self, number: u64) {
        if let Some(line) = self.lines().get_mut(number as usize)
            && !line.settled
        {
            line.settled = true;
            self.settled.fetch_add(1, Relaxed);
        }
    }

    /// The broker has been killed just now.
    pub fn broker_ended(&self) {
        self.broker_ends.lock().unwrap_or_else(PoisonError::into_inner).push(self.start.elapsed());
    }

    /// How long before the next kill of the broker it took this message; None if it was not killed after.
    pub fn taken_before_end(&self, line: Line) -> Option<Duration> {
        let taken = Duration::from_millis(line.taken_ms?.into());
        let ends = self.broker_ends.lock().unwrap_or_else(PoisonError::into_inner);
        // An acknowledgement may be read a moment after the broker that sent it has died.
        ends.iter().filter_map(|end| (*end + Duration::from_millis(100)).checked_sub(taken)).min()
    }

    /// All messages there ever were.
    pub fn all(&self) -> Vec<Line> {
        self.lines().clone()
    }

    /// Messages the broker took, messages the host acknowledged, and deliveries beyond the first.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.taken.load(Relaxed), self.settled.load(Relaxed), self.redelivered.load(Relaxed))
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
