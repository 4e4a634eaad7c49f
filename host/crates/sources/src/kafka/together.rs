//! Which records stay together: on one lane, in their order, and as one partition to the rules.
//!
//! A topic belongs to one partition for as long as the process lives: rules keep state by series, and that must stay on one lane. So where the key or
//! the Kafka partition decides, a topic stays with the one that it first came with. A record of it that comes by another, a *stray*, goes where its
//! topic goes: in order with that, and not with the others of its key. Strays are counted, and the first one is told.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;
use rdkafka::Message;
use sha2::{Digest as _, Sha256};
use tidegate_config::{LaneBy, RecordsBy};
use tidegate_model::{Inlet, TopicId};

/// The most bytes of a key that is a name as it is.
const MOST_OF_A_KEY: usize = 256;
/// So many bytes of a longer one stand before its digest.
const BEGINNING: usize = 64;

/// What decides which records stay together.
#[derive(Debug)]
pub(super) enum Together {
    /// The logical topic alone.
    Topics(LaneBy),
    /// What a record came by.
    Records(Kin),
}

/// Records that stay together whatever their topics.
#[derive(Debug)]
pub(super) struct Kin {
    by: By,
    hasher: DefaultHashBuilder,
    /// By topic, the hash of what it came with; 0 where that is not known. A table of numbers, so that a record costs no text.
    homes: Vec<u64>,
    told: bool,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Key,
    Partition,
}

impl Together {
    pub(super) fn new(by: &RecordsBy) -> Self {
        let by = match by {
            RecordsBy::Topics(levels) => return Self::Topics(levels.clone()),
            RecordsBy::Key => By::Key,
            RecordsBy::Partition => By::Partition,
        };
        Self::Records(Kin { by, hasher: DefaultHashBuilder::default(), homes: Vec::new(), told: false })
    }

    /// The name of the partition of `topic`, if it first comes with this record.
    pub(super) fn partition<'t>(&self, record: &impl Message, topic: &'t str) -> Cow<'t, str> {
        match self {
            Self::Topics(by) => by.partition(topic),
            Self::Records(kin) => kin.name(record).map_or(Cow::Borrowed(topic), Cow::Owned),
        }
    }

    /// Looks whether a record comes by what its topic belongs to.
    #[inline]
    pub(super) fn look(&mut self, record: &impl Message, topic: TopicId, inlet: &Inlet) {
        if let Self::Records(kin) = self {
            kin.look(record, topic, inlet);
        }
    }
}

impl Kin {
    /// The name of what a record came by; none without a key: it stays with its topic.
    fn name(&self, record: &impl Message) -> Option<String> {
        match self.by {
            By::Key => key(record).map(partition_of_key),
            // As with a journal or `exactly_once`: what rules have stored of it stays with it when one of them is switched on.
            By::Partition => Some(format!("{}/{}", record.topic(), record.partition())),
        }
    }

    fn look(&mut self, record: &impl Message, topic: TopicId, inlet: &Inlet) {
        let hash = match self.by {
            By::Key => self.hasher.hash_one(key(record)),
            By::Partition => self.hasher.hash_one((record.topic(), record.partition())),
        };
        let hash = hash.max(1);
        if self.homes.get(topic.index()) != Some(&hash) {
            self.compare(record, hash, topic, inlet);
        }
    }

    #[cold]
    fn compare(&mut self, record: &impl Message, hash: u64, topic: TopicId, inlet: &Inlet) {
        let Some((name, home)) = inlet.partition_of(topic) else { return };
        let other = self.name(record);
        let other = other.as_deref().unwrap_or(name);
        if other == home {
            if self.homes.len() <= topic.index() {
                self.homes.resize(topic.index() + 1, 0);
            }
            self.homes[topic.index()] = hash;
            return;
        }
        inlet.health().strayed();
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                source = %inlet.source(), topic = name, first = home, now = other,
                "records of one topic come by several keys or partitions: they all go where the topic was first seen, so that those of the other are not in \
                 one order; give a topic one key at its producer, or choose another `lane_by`; counted from now on (tidegate_source_strays_total)"
            );
        }
    }
}

/// The key of a record; an empty one is none.
fn key(record: &impl Message) -> Option<&[u8]> {
    record.key().filter(|key| !key.is_empty())
}

/// The name of a key's partition, for people to read and of bounded length. What is no plain text is escaped, and so is the sign of that: no two keys have the same.
pub(crate) fn partition_of_key(key: &[u8]) -> String {
    if key.len() > MOST_OF_A_KEY {
        let digest = Sha256::digest(key);
        let half = digest.iter().take(16).fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
        return format!("{}\\#{half:032x}", key[..BEGINNING].escape_ascii());
    }
    let plain = std::str::from_utf8(key).ok().filter(|text| !text.contains(|c: char| c.is_control() || c == '\\'));
    plain.map_or_else(|| key.escape_ascii().to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a key that is plain text is its own name; no two keys share one, and none is long.
    #[test]
    fn names_of_keys() {
        assert_eq!(partition_of_key("pump/ü \"1\"".as_bytes()), "pump/ü \"1\"");
        assert_eq!(partition_of_key(b"\x00\xff"), r"\x00\xff");
        let long = |last: u8| [&[b'k'; MOST_OF_A_KEY][..], &[last]].concat();
        let keys = [
            b"a".to_vec(),
            b"\xff".to_vec(),
            br"\xff".to_vec(),
            b"\n".to_vec(),
            br"\n".to_vec(),
            vec![b'k'; MOST_OF_A_KEY],
            vec![0xff; MOST_OF_A_KEY],
            long(b'1'),
            long(b'2'),
            partition_of_key(&long(b'1')).into_bytes(),
        ];
        let mut names: Vec<String> = keys.iter().map(|key| partition_of_key(key)).collect();
        assert!(names.iter().all(|name| name.len() <= 4 * MOST_OF_A_KEY), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), keys.len(), "{names:?}");
    }
}
