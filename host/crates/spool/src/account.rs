//! What a spool says of itself, without asking the disk.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tidegate_model::SpoolTotals;

/// Written by the spool's thread, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Account {
    records: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    pub appended: AtomicU64,
    pub drained: AtomicU64,
    pub dropped: AtomicU64,
    pub damaged_records: AtomicU64,
    pub damaged_files: AtomicU64,
    unusable: Mutex<Option<String>>,
}

/// Records, and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub records: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl Account {
    /// So much stands in the spool, by count.
    pub fn counted(&self, amount: Amount) {
        self.records.store(amount.records, Relaxed);
        self.rows.store(amount.rows, Relaxed);
        self.bytes.store(amount.bytes, Relaxed);
    }

    /// So much stands in the spool.
    pub fn standing(&self) -> Amount {
        let (records, rows) = (self.records.load(Relaxed), self.rows.load(Relaxed));
        Amount { records, rows, bytes: self.bytes.load(Relaxed) }
    }

    /// More stands in it, or less.
    pub fn changed(&self, more: Amount, less: Amount) {
        let standing = self.standing();
        let sum = |now: u64, more: u64, less: u64| (now + more).saturating_sub(less);
        self.counted(Amount {
            records: sum(standing.records, more.records, less.records),
            rows: sum(standing.rows, more.rows, less.rows),
            bytes: sum(standing.bytes, more.bytes, less.bytes),
        });
    }

    /// Whether the file can be used, and why not. Gives whether that is news: log it then.
    pub fn usable(&self, unusable: Option<&str>) -> bool {
        let mut now = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let news = now.as_deref() != unusable;
        if news {
            *now = unusable.map(str::to_owned);
        }
        news
    }

    pub fn totals(&self, max_bytes: u64) -> SpoolTotals {
        let standing = self.standing();
        SpoolTotals {
            records: standing.records,
            rows: standing.rows,
            bytes: standing.bytes,
            max_bytes,
            appended: self.appended.load(Relaxed),
            drained: self.drained.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            damaged_records: self.damaged_records.load(Relaxed),
            damaged_files: self.damaged_files.load(Relaxed),
            unusable: self.unusable.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
