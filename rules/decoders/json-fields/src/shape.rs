//! What messages of a topic look like: which leaf came at which place, and its series.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use tidegate_rule::{Reason, SeriesHandle};

/// How many different paths are kept. Fleets share their paths, so this is about kinds of devices.
const MAX_PATHS: usize = 65_536;

/// Paths of leaves, each kept once, whatever the number of topics that have it.
#[derive(Default)]
pub(crate) struct Paths {
    paths: Vec<Box<[u8]>>,
    by_path: HashTable<u32>,
}

fn hash(path: &[u8]) -> u64 {
    FixedState::with_seed(0x6669_656c).hash_one(path)
}

impl Paths {
    /// The number of a path; none when there are too many.
    pub(crate) fn intern(&mut self, path: &[u8]) -> Option<u32> {
        let hash = hash(path);
        let paths = &self.paths;
        if let Some(id) = self.by_path.find(hash, |id| *paths[*id as usize] == *path) {
            return Some(*id);
        }
        if self.paths.len() >= MAX_PATHS {
            return None;
        }
        let id = self.paths.len() as u32;
        self.paths.push(path.into());
        let paths = &self.paths;
        self.by_path.insert_unique(hash, id, |id| self::hash(&paths[*id as usize]));
        Some(id)
    }
}

struct Field {
    path: u32,
    series: SeriesHandle,
    /// The last message that had it; twice in one is a fault.
    message: u32,
}

/// The leaves of a topic, in the order of their last coming.
#[derive(Default)]
pub(crate) struct Shape {
    fields: Vec<Field>,
    /// Of the labels that the series have.
    print: u64,
}

/// Where in a message reading is.
#[derive(Default)]
pub(crate) struct Place {
    leaves: usize,
    next: usize,
}

impl Place {
    pub(crate) fn leaves(&self) -> usize {
        self.leaves
    }

    fn step(&mut self, found: usize) {
        self.leaves += 1;
        self.next = found + 1;
    }
}

impl Shape {
    /// A message with labels of this print begins.
    #[inline]
    pub(crate) fn relabel(&mut self, print: u64) {
        if self.print != print {
            self.print = print;
            self.fields.clear();
        }
    }

    /// The series, when the path is the one that stands at this place.
    #[inline]
    pub(crate) fn expected(
        &mut self,
        place: &mut Place,
        path: &[u8],
        paths: &Paths,
        message: u32,
    ) -> Result<Option<SeriesHandle>, Reason> {
        let Some(field) = self.fields.get_mut(place.next) else {
            return Ok(None);
        };
        if *paths.paths[field.path as usize] != *path {
            return Ok(None);
        }
        place.step(place.next);
        field.take(message).map(Some)
    }

    /// The series, wherever its path stands.
    pub(crate) fn find(
        &mut self,
        place: &mut Place,
        path: u32,
        message: u32,
    ) -> Result<Option<SeriesHandle>, Reason> {
        let Some(found) = self.fields.iter().position(|field| field.path == path) else {
            return Ok(None);
        };
        place.step(found);
        self.fields[found].take(message).map(Some)
    }

    /// Learns a leaf that was not there before.
    pub(crate) fn add(&mut self, place: &mut Place, path: u32, series: SeriesHandle, message: u32) {
        let at = place.next.min(self.fields.len());
        // Most devices have few fields, and a fleet has many devices: no more room than they take.
        if self.fields.len() == self.fields.capacity() {
            self.fields.reserve_exact(1 + self.fields.len() / 2);
        }
        self.fields.insert(at, Field { path, series, message });
        place.step(at);
    }
}

impl Field {
    #[inline]
    fn take(&mut self, message: u32) -> Result<SeriesHandle, Reason> {
        if self.message == message {
            return Err(Reason::from("it has the same field twice"));
        }
        self.message = message;
        Ok(self.series)
    }
}
