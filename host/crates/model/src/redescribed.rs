//! Which series were described anew, for who wants to know without looking at all of them.
//!
//! One device that says another unit with each message would else have each rule on each lane look through a hundred thousand series before each batch.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, PoisonError};

use crate::SeriesId;

/// So many of the last are remembered.
const REMEMBERED: usize = 4_096;

/// What was described anew since somebody last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redescribed {
    /// These: ascending, each once.
    Series(Vec<SeriesId>),
    /// More than are remembered: it may be any whose [`Series::described_at`](crate::Series::described_at) is later.
    Any,
}

/// The last series that were described anew. To read it takes no lock.
#[derive(Debug)]
pub(crate) struct Changes {
    /// How many there ever were; counts up when all of it can be read.
    count: AtomicU64,
    /// The same, but counts up before any of it can be read.
    announced: AtomicU64,
    /// Number `n` stands at `n % REMEMBERED`.
    last: Box<[AtomicU32]>,
    writing: Mutex<()>,
}

impl Changes {
    pub fn new() -> Self {
        let last = (0..REMEMBERED).map(|_| AtomicU32::new(0)).collect();
        Self { count: AtomicU64::new(0), announced: AtomicU64::new(0), last, writing: Mutex::new(()) }
    }

    /// Describes a series anew by `describe`, which is told the number that this has and says whether it was news. One at a time: who has read a
    /// number finds all that was written before it.
    pub fn note(&self, id: SeriesId, describe: impl FnOnce(u64) -> bool) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.count.load(Acquire);
        let number = before + 1;
        self.announced.store(number, Release);
        if describe(number) {
            self.at(number).store(id.0, Release);
            self.count.store(number, Release);
        } else {
            self.announced.store(before, Release);
        }
    }

    /// The last number.
    pub fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// The last number of which anything can be read: who looks here after it has read a description knows whether that may be a later one.
    pub fn announced(&self) -> u64 {
        self.announced.load(Acquire)
    }

    /// What came after `seen`, up to the number that it gives.
    pub fn since(&self, seen: u64) -> (u64, Redescribed) {
        let now = self.count();
        if now == seen {
            return (now, Redescribed::Series(Vec::new()));
        }
        if now - seen < REMEMBERED as u64 {
            let mut ids: Vec<SeriesId> =
                (seen + 1..=now).map(|number| SeriesId(self.at(number).load(Acquire))).collect();
            // The first of them is written over by the one that has so many numbers more, once all before that are counted.
            if self.count() - seen < REMEMBERED as u64 {
                ids.sort_unstable();
                ids.dedup();
                return (now, Redescribed::Series(ids));
            }
        }
        (now, Redescribed::Any)
    }

    fn at(&self, number: u64) -> &AtomicU32 {
        &self.last[(number % REMEMBERED as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: who asks hears of each series once, however often it was described anew, and of none that was not; who asks too late hears
    /// that it may be any.
    #[test]
    fn each_once() {
        let changes = Changes::new();
        let note = |id: u32| changes.note(SeriesId(id), |_| true);
        let series = |ids: &[u32]| Redescribed::Series(ids.iter().map(|&id| SeriesId(id)).collect());
        assert_eq!(changes.since(0), (0, series(&[])));
        changes.note(SeriesId(9), |number| {
            assert_eq!((changes.announced(), changes.count()), (number, 0), "while it is described");
            false
        });
        assert_eq!(changes.announced(), 0);
        [7, 3, 7].into_iter().for_each(note);
        assert_eq!(changes.since(0), (3, series(&[3, 7])));
        assert_eq!(changes.since(2), (3, series(&[7])));
        assert_eq!(changes.since(3), (3, series(&[])));
        (0..REMEMBERED as u32 - 1).for_each(note);
        assert!(matches!(changes.since(3), (_, Redescribed::Series(ids)) if ids.len() == REMEMBERED - 1));
        note(5);
        assert_eq!(changes.since(3), (3 + REMEMBERED as u64, Redescribed::Any));
    }

    /// Guarantees: while many write, who reads misses none: each is in what is said, or it is said that it may be any.
    #[test]
    fn none_is_missed() {
        const WRITERS: u32 = 4;
        const EACH: u32 = 20_000;
        let changes = Changes::new();
        let mut heard = vec![false; (WRITERS * EACH) as usize];
        std::thread::scope(|scope| {
            let changes = &changes;
            for writer in 0..WRITERS {
                scope.spawn(move || (0..EACH).for_each(|at| changes.note(SeriesId(writer * EACH + at), |_| true)));
            }
            let (mut seen, mut lapped) = (0, Vec::new());
            while seen < u64::from(WRITERS * EACH) {
                let (now, told) = changes.since(seen);
                match told {
                    Redescribed::Series(ids) => {
                        assert_eq!(ids.len() as u64, now - seen, "all are different");
                        ids.iter().for_each(|id| heard[id.index()] = true);
                    }
                    Redescribed::Any => lapped.push(now - seen),
                }
                seen = now;
            }
            let heard = heard.iter().filter(|heard| **heard).count() as u64;
            assert_eq!(heard + lapped.iter().sum::<u64>(), u64::from(WRITERS * EACH));
        });
    }
}
