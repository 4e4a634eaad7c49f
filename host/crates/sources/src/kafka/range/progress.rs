//! How far a range has come, for who waits for its end.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tokio::sync::watch;

/// What is to be read of one partition, and how far it is settled.
#[derive(Debug)]
pub struct Stretch {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
    /// How many offsets before the first were asked for, and are deleted. None where that is not known: the range is by time, and begins with the oldest
    /// record there is.
    pub deleted: Option<u64>,
    next: AtomicI64,
}

impl Stretch {
    pub(super) fn new(partition: i32, from: i64, to: i64, deleted: Option<u64>) -> Self {
        Self { partition, from, to, deleted, next: AtomicI64::new(from) }
    }

    /// The first offset that is not settled: everything before is.
    pub fn next(&self) -> i64 {
        self.next.load(Relaxed)
    }

    pub(super) fn reached(&self, next: i64) {
        self.next.fetch_max(next.min(self.to), Relaxed);
    }
}

/// How far a range has come, partition by partition, and whether it is at its end.
#[derive(Debug)]
pub struct RangeProgress {
    stretches: Vec<Stretch>,
    ended: watch::Sender<Option<Result<(), String>>>,
}

impl RangeProgress {
    pub(super) fn new(stretches: Vec<Stretch>) -> Self {
        Self { stretches, ended: watch::Sender::new(None) }
    }

    /// The partitions, by number.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    pub(super) fn stretch(&self, partition: i32) -> Option<&Stretch> {
        let at = self.stretches.binary_search_by_key(&partition, |stretch| stretch.partition).ok()?;
        self.stretches.get(at)
    }

    /// Offsets there are to read. Records may be fewer: compaction and transactions leave gaps.
    pub fn total(&self) -> u64 {
        self.stretches.iter().map(|s| (s.to - s.from).max(0) as u64).sum()
    }

    /// Offsets that are settled.
    pub fn settled(&self) -> u64 {
        self.stretches.iter().map(|s| (s.next() - s.from).max(0) as u64).sum()
    }

    /// Notes the end, once. When all was read and settled, the gaps before the end are no reason to read on.
    pub(super) fn end(&self, how: Result<(), String>) {
        if self.ended.borrow().is_some() {
            return;
        }
        if how.is_ok() {
            self.stretches.iter().for_each(|stretch| stretch.reached(stretch.to));
        }
        self.ended.send_replace(Some(how));
    }

    /// Waits for the end: all is settled, or why it cannot be read on.
    ///
    /// # Errors
    /// Why the rest cannot be read.
    pub async fn ended(&self) -> Result<(), String> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }
}
