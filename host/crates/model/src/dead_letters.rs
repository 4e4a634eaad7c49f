//! What becomes of dead letters once they are written: kept for a time, dropped, or put back among the messages.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::Serialize;

use crate::DeadLetter;

/// The account of the dead letters that are kept.
#[derive(Debug, Default)]
pub struct DeadLetterAccount {
    kept: AtomicU64,
    bytes: AtomicU64,
    dropped_by_age: AtomicU64,
    dropped_by_size: AtomicU64,
    replayed: AtomicU64,
}

/// A reading of a [`DeadLetterAccount`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeadLetterTotals {
    /// In the file. Looked up once a minute; between, what this host does is added, what the CLI does is not.
    pub kept: u64,
    /// What they take up on disk, freed room left out.
    pub bytes: u64,
    /// Dropped since the start for being older than `max_age_days`.
    pub dropped_by_age: u64,
    /// Dropped since the start, the oldest first, to stay below `max_mib`.
    pub dropped_by_size: u64,
    /// Put back among the messages since the start, and settled.
    pub replayed: u64,
}

/// How many dead letters were dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedLetters {
    /// Too old.
    pub by_age: u64,
    /// The oldest, to make room.
    pub by_size: u64,
}

impl DroppedLetters {
    /// All of them.
    pub fn total(self) -> u64 {
        self.by_age + self.by_size
    }
}

impl DeadLetterAccount {
    /// So many were written.
    pub fn wrote(&self, letters: u64) {
        self.kept.fetch_add(letters, Relaxed);
    }

    /// These were dropped.
    pub fn dropped(&self, dropped: DroppedLetters) {
        self.dropped_by_age.fetch_add(dropped.by_age, Relaxed);
        self.dropped_by_size.fetch_add(dropped.by_size, Relaxed);
        self.less(dropped.total());
    }

    /// So many were replayed and settled, and are gone.
    pub fn replayed(&self, letters: u64) {
        self.replayed.fetch_add(letters, Relaxed);
        self.less(letters);
    }

    /// They take up so much now.
    pub fn takes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    /// So many are there, by count.
    pub fn counted(&self, letters: u64) {
        self.kept.store(letters, Relaxed);
    }

    /// A reading.
    pub fn totals(&self) -> DeadLetterTotals {
        DeadLetterTotals {
            kept: self.kept.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            dropped_by_age: self.dropped_by_age.load(Relaxed),
            dropped_by_size: self.dropped_by_size.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
        }
    }

    fn less(&self, letters: u64) {
        // A count made in between may have left them out already.
        let _always_some = self.kept.fetch_update(Relaxed, Relaxed, |kept| Some(kept.saturating_sub(letters)));
    }
}

/// The dead letters that an operator wants back among the messages. Its calls block on a disk.
pub trait Replays: Send + Sync + fmt::Debug {
    /// Up to `most` of those asked for, the oldest first, but for those in `except`; fewer when they are large.
    ///
    /// # Errors
    /// They cannot be read, and why, for people.
    fn requested(&self, except: &BTreeSet<i64>, most: usize) -> Result<Vec<(i64, DeadLetter)>, String>;

    /// These were put back and are settled: they may be forgotten. Must be called again when it fails.
    ///
    /// # Errors
    /// They cannot be removed, and why, for people.
    fn settled(&self, ids: &[i64]) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the account never shows fewer than none, whatever overtakes whatever.
    #[test]
    fn never_below_none() {
        let account = DeadLetterAccount::default();
        account.wrote(3);
        account.dropped(DroppedLetters { by_age: 1, by_size: 1 });
        account.counted(0);
        account.replayed(1);
        let totals = account.totals();
        let dropped = (totals.dropped_by_age, totals.dropped_by_size);
        assert_eq!((totals.kept, dropped, totals.replayed), (0, (1, 1), 1));
    }
}
