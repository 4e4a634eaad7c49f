//! What of a write is done, where not all of it is: the next try sends the rest.
//!
//! Records have numbers in the order in which they are sent, and that is decided by the deliveries alone: each try gives the same record the same one.
//! A record that failed may have been passed by a later one of its key, by several batches on their way at once; so what comes behind it under
//! that key is sent once more with it, and who reads has the newest last.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidegate_model::Delivery;

/// A write that failed in part.
#[derive(Debug)]
pub(super) struct Unfinished {
    deliveries: Vec<Arc<Delivery>>,
    progress: Progress,
}

impl Unfinished {
    /// After a try that failed; none where nothing of it is done.
    pub(super) fn new(deliveries: &[Arc<Delivery>], progress: Progress) -> Option<Self> {
        let any = !progress.refused.is_empty() || progress.done.contains(&true);
        any.then(|| Self { deliveries: deliveries.to_vec(), progress })
    }

    /// How far it came, if it is of these deliveries.
    pub(super) fn of(self, deliveries: &[Arc<Delivery>]) -> Option<Progress> {
        let same = self.deliveries.len() == deliveries.len()
            && self.deliveries.iter().zip(deliveries).all(|(a, b)| Arc::ptr_eq(a, b));
        same.then_some(self.progress)
    }
}

/// How far a write has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// By the number of the record. Empty until a try has failed.
    done: Vec<bool>,
    /// Those that Kafka will never take, and why.
    pub(super) refused: BTreeMap<usize, String>,
}

impl Progress {
    /// A try of so many records is over, and nobody waits for one of them. What failed is to be told next.
    pub(super) fn ended(&mut self, records: usize) {
        self.done.clear();
        self.done.resize(records, true);
    }

    /// One is to be sent again.
    pub(super) fn failed(&mut self, number: usize) {
        if let Some(done) = self.done.get_mut(number) {
            *done = false;
        }
    }
}

/// Records that keep their order among each other, as far as they have the same key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Points,
    Messages,
    Alerts,
    DeadLetters,
}

/// Which records a try sends.
#[derive(Debug)]
pub(super) struct Left<'p> {
    progress: &'p Progress,
    number: usize,
    /// Keys of records that are sent again, by kind.
    keys: [HashSet<Box<[u8]>>; 4],
}

impl<'p> Left<'p> {
    /// Before the first record of a write.
    pub(super) fn of(progress: &'p Progress) -> Self {
        Self { progress, number: 0, keys: Default::default() }
    }

    /// The number of the next record, if it is to be sent.
    #[inline]
    pub(super) fn next(&mut self, kind: Kind, key: Option<&[u8]>) -> Option<usize> {
        let number = self.number;
        self.number += 1;
        if self.progress.done.is_empty() || self.again(number, kind, key) { Some(number) } else { None }
    }

    /// The next record cannot be made.
    pub(super) fn pass(&mut self) {
        self.number += 1;
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.number
    }

    fn again(&mut self, number: usize, kind: Kind, key: Option<&[u8]>) -> bool {
        if self.progress.refused.contains_key(&number) {
            return false;
        }
        let keys = &mut self.keys[kind as usize];
        let behind = key.is_some_and(|key| keys.contains(key));
        let failed = !self.progress.done.get(number).is_some_and(|done| *done);
        if let (true, false, Some(key)) = (failed, behind, key) {
            keys.insert(key.into());
        }
        failed || behind
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The numbers that a try sends of records of these kinds and keys.
    fn sent(progress: &Progress, records: &[(Kind, Option<&str>)]) -> Vec<usize> {
        let mut left = Left::of(progress);
        records.iter().filter_map(|(kind, key)| left.next(*kind, key.map(str::as_bytes))).collect()
    }

    /// Guarantees: the first try sends all; a later one what failed, and behind it what has the same key and kind, since that may have passed it; what
    /// was refused is never sent again, also where others of its key are.
    #[test]
    fn what_is_left() {
        let (a, b, none) = ((Kind::Points, Some("a")), (Kind::Points, Some("b")), (Kind::Messages, None));
        let alert = (Kind::Alerts, Some("a"));
        let records = [a, b, a, a, b, a, none, none, alert, alert];
        let mut progress = Progress::default();
        assert_eq!(sent(&progress, &records), (0..10).collect::<Vec<_>>());
        progress.ended(10);
        assert_eq!(sent(&progress, &records), [0; 0]);
        [2, 6].iter().for_each(|number| progress.failed(*number));
        progress.refused.insert(5, "too large".to_owned());
        assert_eq!(sent(&progress, &records), [2, 3, 6]);
        // Another try, in which one failed that was acknowledged before.
        progress.ended(10);
        progress.failed(3);
        assert_eq!(sent(&progress, &records), [3]);
    }

    /// Guarantees: what is known of a write is used for the very same deliveries alone, and kept only where it is of use.
    #[test]
    fn another_write() {
        let one = [Arc::new(Delivery::default()), Arc::new(Delivery::default())];
        let mut progress = Progress::default();
        assert!(Unfinished::new(&one, Progress::default()).is_none());
        progress.ended(2);
        progress.failed(0);
        assert!(Unfinished::new(&one, progress).unwrap().of(&one).is_some());
        for other in [&one[..1], &[one[0].clone(), Arc::new(Delivery::default())]] {
            let mut progress = Progress::default();
            progress.ended(2);
            assert!(Unfinished::new(&one, progress).unwrap().of(other).is_none());
        }
    }
}
