//! Topic names to ids and lanes, remembered, so that a message costs one look at a local table and no lock.

use std::borrow::Cow;

use hashbrown::HashMap;
use tidegate_model::{Inlet, TopicId};

/// What one connection or consumer knows of topics. Holds only topics that have an id, so it is bounded by the books.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: HashMap<Box<[u8]>, (TopicId, usize)>,
}

impl Routes {
    /// What was found before of a topic.
    #[inline]
    pub(crate) fn known(&self, topic: &[u8]) -> Option<(TopicId, usize)> {
        self.known.get(topic).copied()
    }

    /// The id and lane of a topic; none if it is not UTF-8 or the books are full: then it can only be dead-lettered.
    /// `partition` says what a topic stays together with, and is asked once a topic.
    #[inline]
    pub(crate) fn find(
        &mut self,
        topic: &[u8],
        inlet: &Inlet,
        partition: impl FnOnce(&str) -> Cow<'_, str>,
    ) -> Option<(TopicId, usize)> {
        if let Some(route) = self.known(topic) {
            return Some(route);
        }
        let name = std::str::from_utf8(topic).ok()?;
        let route = inlet.topic(name, &partition(name)).ok()?;
        self.known.insert(topic.into(), route);
        Some(route)
    }
}
