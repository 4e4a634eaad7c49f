//! What stands, for who reads it: each alert keeps one place as long as it stands, so that all can be read piece by piece while alerts come and go.
//!
//! A reader holds the book's lock for a piece and not for the whole, and takes nothing of it but counted references: a lane that has an alert to
//! enter waits for some microseconds, however many stand.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use super::Standing;

/// How many places are read under the lock at a time.
pub(super) const PIECE: usize = 256;

/// Alerts in their places.
#[derive(Debug, Default)]
pub(super) struct Listed {
    places: Vec<Option<Arc<Standing>>>,
    free: Vec<usize>,
}

impl Listed {
    /// Gives a place to an alert.
    pub fn put(&mut self, alert: Arc<Standing>) -> usize {
        if let Some(place) = self.free.pop() {
            self.change(place, alert);
            return place;
        }
        self.places.push(Some(alert));
        self.places.len() - 1
    }

    /// Another alert stands in this place now.
    pub fn change(&mut self, place: usize, alert: Arc<Standing>) {
        if let Some(there) = self.places.get_mut(place) {
            *there = Some(alert);
        }
    }

    /// It stands no more.
    pub fn free(&mut self, place: usize) {
        if self.places.get_mut(place).and_then(Option::take).is_some() {
            self.free.push(place);
        }
        if self.free.len() == self.places.len() {
            *self = Self::default();
        }
    }

    /// Adds the alerts of some places to `to`, from `from` on; gives where the next piece begins, if there is one.
    pub fn piece(&self, from: usize, to: &mut Vec<Arc<Standing>>) -> Option<usize> {
        let end = from.saturating_add(PIECE);
        to.extend(self.places.iter().take(end).skip(from).flatten().cloned());
        (end < self.places.len()).then_some(end)
    }
}

/// The oldest of what is shown to it.
pub(super) struct Oldest {
    most: usize,
    found: BinaryHeap<ByAge>,
}

/// The youngest is the greatest; of the same age they are told apart by what they are.
#[derive(PartialEq, Eq)]
struct ByAge(Arc<Standing>);

impl Oldest {
    pub fn new(most: usize) -> Self {
        Self { most, found: BinaryHeap::new() }
    }

    pub fn look_at(&mut self, alert: Arc<Standing>) {
        self.found.push(ByAge(alert));
        if self.found.len() > self.most {
            self.found.pop();
        }
    }

    /// Them, the oldest first. One that was cleared and raised again meanwhile may have been seen in two places: it stands since the later time.
    pub fn in_order(self) -> Vec<Standing> {
        let sorted = self.found.into_sorted_vec();
        let mut seen = HashSet::with_capacity(sorted.len());
        let newest = sorted.iter().rev().filter(|ByAge(it)| seen.insert((&it.rule, &it.topic, &it.key)));
        let mut all: Vec<Standing> = newest.map(|ByAge(it)| Standing::clone(it)).collect();
        all.reverse();
        all
    }
}

impl ByAge {
    fn parts(&self) -> (i64, &str, &str, &str) {
        (self.0.since_us, &self.0.rule, &self.0.topic, &self.0.key)
    }
}

impl Ord for ByAge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
