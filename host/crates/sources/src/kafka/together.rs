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
    /// What each topic came with first.
    homes: Hashes,
    /// What each topic's last stray came by: only a new one costs more than a look, also where every record of a topic is one.
    strays: Hashes,
    told: bool,
}

/// By topic, the hash of what it came with; 0 where that is not known. A table of numbers, so that a record costs no text.
#[derive(Debug, Default)]
struct Hashes(Vec<u64>);

impl Hashes {
    #[inline]
    fn has(&self, topic: TopicId, hash: u64) -> bool {
        self.0.get(topic.index()) == Some(&hash)
    }

    fn note(&mut self, topic: TopicId, hash: u64) {
        if self.0.len() <= topic.index() {
            self.0.resize(topic.index() + 1, 0);
        }
        self.0[topic.index()] = hash;
    }
}

/// By what a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Home,
    /// As the stray before it.
    Astray,
    /// As none was seen last: names must be compared.
    Anew,
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
        Self::Records(Kin {
            by,
            hasher: DefaultHashBuilder::default(),
            homes: Hashes::default(),
            strays: Hashes::default(),
            told: false,
        })
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
        match self.came(topic, hash) {
            Came::Home => {}
            Came::Astray => inlet.health().strayed(),
            Came::Anew => self.compare(record, hash, topic, inlet),
        }
    }

    #[inline]
    fn came(&self, topic: TopicId, hash: u64) -> Came {
        if self.homes.has(topic, hash) {
            Came::Home
        } else if self.strays.has(topic, hash) {
            Came::Astray
        } else {
            Came::Anew
        }
    }

    #[cold]
    fn compare(&mut self, record: &impl Message, hash: u64, topic: TopicId, inlet: &Inlet) {
        let Some((name, home)) = inlet.partition_of(topic) else { return };
        let other = self.name(record);
        let other = other.as_deref().unwrap_or(name);
        if other == home {
            self.homes.note(topic, hash);
            return;
        }
        self.strays.note(topic, hash);
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
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: what a topic belongs to and its last stray are known again by their hashes alone; another stray is not taken for either, nor that of
    /// another topic.
    #[test]
    fn a_stray_is_known_again() {
        let Together::Records(mut kin) = Together::new(&RecordsBy::Key) else { panic!() };
        let (one, other) = (TopicId(3), TopicId(0));
        assert_eq!(kin.came(one, 7), Came::Anew);
        kin.homes.note(one, 7);
        kin.strays.note(one, 8);
        assert_eq!([7, 8, 9].map(|hash| kin.came(one, hash)), [Came::Home, Came::Astray, Came::Anew]);
        assert_eq!([7, 8].map(|hash| kin.came(other, hash)), [Came::Anew; 2]);
        kin.strays.note(one, 9);
        assert_eq!([7, 8, 9].map(|hash| kin.came(one, hash)), [Came::Home, Came::Anew, Came::Astray]);
    }

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
