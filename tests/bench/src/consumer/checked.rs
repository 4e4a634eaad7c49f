//! Sinks that add up what they are given and say when all of it has come.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use tidegate_model::{Books, Delivery, Sink, SinkError, Wants, Written};

use crate::poison::DEADLY;
use crate::workload::{Digest, Expected, topic_mark};

/// What the sinks of one host have been given.
pub struct Tally {
    due: u64,
    come: AtomicU64,
    dead_letters: AtomicU64,
    first_came: OnceLock<Instant>,
    all_come: SyncSender<Instant>,
    points: Mutex<Points>,
}

#[derive(Default)]
struct Points {
    points: u64,
    alerts: u64,
    /// Rows that a rule would have trapped on.
    bypassed: u64,
    digest: Digest,
}

impl Tally {
    /// Tells `all_come` when every message of `expected` has come as a point or as a dead letter.
    pub fn new(expected: &Expected, all_come: SyncSender<Instant>) -> Self {
        let due = expected.points + expected.garbage;
        Self {
            due,
            come: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            first_came: OnceLock::new(),
            all_come,
            points: Mutex::default(),
        }
    }

    /// When the first points or dead letters came, if any have.
    pub fn first_came(&self) -> Option<Instant> {
        self.first_came.get().copied()
    }

    fn come(&self, rows: u64) {
        if rows > 0 {
            self.first_came.get_or_init(Instant::now);
        }
        if rows > 0 && self.come.fetch_add(rows, Relaxed) + rows == self.due {
            // Told once: more than is due does not come here again, and is found by the check.
            let _ = self.all_come.try_send(Instant::now());
        }
    }

    /// Compares with what had to come. Gives how many rows came that are to be dead letters, unless their rule is quarantined.
    pub fn check(&self, expected: &Expected) -> Result<u64> {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let come = Expected {
            messages: expected.messages,
            points: points.points,
            garbage: self.dead_letters.load(Relaxed) + points.bypassed,
            alerts: points.alerts,
            digest: points.digest.sum(),
        };
        ensure!(come == *expected, "the host made {come:?} of the messages, and {expected:?} was due");
        Ok(points.bypassed)
    }
}

/// Discards points and alerts, after adding them up.
pub struct CheckedDiscard {
    tally: Arc<Tally>,
    books: Arc<Books>,
    /// By series.
    marks: Vec<u64>,
}

impl CheckedDiscard {
    /// A sink for the series of `books`.
    pub fn new(tally: Arc<Tally>, books: Arc<Books>) -> Self {
        Self { tally, books, marks: Vec::new() }
    }
}

#[async_trait]
impl Sink for CheckedDiscard {
    fn wants(&self) -> Wants {
        Wants { points: true, alerts: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let mut written = Written::default();
        let mut digest = Digest::default();
        let mut bypassed = 0;
        for delivery in deliveries {
            let points = &delivery.points;
            for ((series, &time_us), &value) in points.series.iter().zip(&points.time_us).zip(&points.value) {
                while self.marks.len() <= series.index() {
                    let next = tidegate_model::SeriesId(self.marks.len() as u32);
                    self.marks.push(topic_mark(self.books.series_topic(next)));
                }
                if value == DEADLY {
                    bypassed += 1;
                    continue;
                }
                digest.add(self.marks[series.index()], time_us, value);
            }
            written.points += points.len() as u64;
            written.alerts += delivery.alerts.len() as u64;
        }
        {
            let mut all = self.tally.points.lock().unwrap_or_else(PoisonError::into_inner);
            all.points += written.points - bypassed;
            all.bypassed += bypassed;
            all.alerts += written.alerts;
            all.digest = all.digest.with(digest);
        }
        self.tally.come(written.points);
        Ok(written)
    }
}

/// Passes dead letters on to another sink, if there is one, and counts them.
pub struct CountedDeadLetters {
    tally: Arc<Tally>,
    to: Option<Box<dyn Sink>>,
}

impl CountedDeadLetters {
    /// Counts what goes to `to`, or to nowhere.
    pub fn new(tally: Arc<Tally>, to: Option<Box<dyn Sink>>) -> Self {
        Self { tally, to }
    }
}

#[async_trait]
impl Sink for CountedDeadLetters {
    fn wants(&self) -> Wants {
        Wants { dead_letters: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let written = match &mut self.to {
            Some(to) => to.write(deliveries).await?,
            None => Written::default(),
        };
        let letters = deliveries.iter().map(|delivery| delivery.dead_letters.len() as u64).sum();
        self.tally.dead_letters.fetch_add(letters, Relaxed);
        self.tally.come(letters);
        Ok(written)
    }

    async fn close(&mut self) {
        if let Some(to) = &mut self.to {
            to.close().await;
        }
    }
}
