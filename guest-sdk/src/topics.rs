//! Topics by dense id, and caches that hang on them. A name is looked at when a topic is declared
//! or first met, never once a row.

use crate::columns::{PartitionId, Topic, TopicId};
use crate::message::Message;

/// One declared topic.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) name: Box<str>,
    pub(crate) partition: PartitionId,
    /// Changes when this id means another topic, or series handles were forgotten; 0 means undeclared.
    pub(crate) version: u32,
}

/// The topics that the host has declared, by id.
#[derive(Debug, Default)]
pub struct Topics {
    slots: Vec<Slot>,
    undeclared: Slot,
    versions: u32,
}

impl Topics {
    /// Takes in what the host declares.
    pub fn declare(&mut self, new: Vec<Topic>) {
        for topic in new {
            let index = topic.id as usize;
            if index >= self.slots.len() {
                self.slots.resize_with(index + 1, Slot::default);
            }
            let version = self.next_version();
            self.slots[index] = Slot { name: topic.name.into_boxed_str(), partition: topic.partition, version };
        }
    }

    /// Lets go of the topics of partitions that are gone.
    pub fn retire(&mut self, partitions: &[PartitionId]) {
        if partitions.is_empty() {
            return;
        }
        let mut gone = partitions.to_vec();
        gone.sort_unstable();
        for slot in &mut self.slots {
            if slot.version != 0 && gone.binary_search(&slot.partition).is_ok() {
                *slot = Slot::default();
            }
        }
    }

    /// The name of a topic; empty when it was never declared.
    pub fn name(&self, id: TopicId) -> &str {
        &self.slot(id).name
    }

    #[inline]
    pub(crate) fn slot(&self, id: TopicId) -> &Slot {
        self.slots.get(id as usize).unwrap_or(&self.undeclared)
    }

    /// Makes every cache that hangs on a topic start afresh.
    pub(crate) fn invalidate(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].version != 0 {
                self.slots[index].version = self.next_version();
            }
        }
    }

    fn next_version(&mut self) -> u32 {
        self.versions = self.versions.wrapping_add(1).max(1);
        self.versions
    }
}

/// Something a decoder keeps for each topic, at the cost of an index a row. An entry starts afresh
/// by itself when its topic's id comes to mean another topic.
#[derive(Debug)]
pub struct PerTopic<T> {
    entries: Vec<(u32, T)>,
}

impl<T> Default for PerTopic<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: Default> PerTopic<T> {
    /// The entry of a message's topic.
    #[inline]
    pub fn of(&mut self, message: &Message<'_>) -> &mut T {
        self.at(message.topic_id, message.topic_version())
    }

    #[inline(always)]
    pub(crate) fn at(&mut self, id: TopicId, version: u32) -> &mut T {
        let index = id as usize;
        if index >= self.entries.len() {
            self.grow(index);
        }
        let entry = &mut self.entries[index];
        if entry.0 != version {
            *entry = (version, T::default());
        }
        &mut entry.1
    }

    #[cold]
    fn grow(&mut self, index: usize) {
        self.entries.resize_with(index + 1, || (0, T::default()));
    }
}
