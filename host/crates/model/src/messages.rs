//! Messages as they arrived, in columns.

use crate::{Books, Positions, Ragged, TopicId};

/// How a message came: the bits of the `marks` column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u8);

impl Marks {
    /// The broker had kept it: it may be old.
    pub const RETAINED: Marks = Marks(1);
    /// It was sent before, and not acknowledged (MQTT DUP).
    pub const REDELIVERED: Marks = Marks(2);
    /// It comes from the dead letters or another store, by an operator's wish.
    pub const REPLAYED: Marks = Marks(4);
    /// More came than a limit of its source allows: it goes to the dead letters, and to no rule.
    pub const EXCESS: Marks = Marks(8);
    /// The same where excess is to be dropped.
    pub const DROPPED: Marks = Marks(16);
    /// Only the beginning of its payload is there, since it is larger than the source takes: it goes to the dead letters.
    pub const TRUNCATED: Marks = Marks(32);

    /// It was sent at most once (MQTT QoS 0): no broker would have sent it again.
    pub const AT_MOST_ONCE: Marks = Marks(64);

    /// The sinks that take messages as they came have had it: a dead letter of it, when it is put back, is for the rules alone.
    pub const HANDED_ON: Marks = Marks(128);

    /// The marks that tell how a message came, and the word for each, as it stands in JSON and in Kafka's headers.
    pub const WORDS: [(Marks, &'static str); 4] = [
        (Marks::RETAINED, "retained"),
        (Marks::REDELIVERED, "redelivered"),
        (Marks::REPLAYED, "replayed"),
        (Marks::AT_MOST_ONCE, "qos0"),
    ];

    /// Whether it goes to no rule and to no sink that takes messages, being beyond a limit or not whole.
    pub const fn are_barred(self) -> bool {
        self.0 & (Marks::EXCESS.0 | Marks::DROPPED.0 | Marks::TRUNCATED.0) != 0
    }

    /// Whether it is for no sink that takes messages.
    pub const fn are_not_raw(self) -> bool {
        self.are_barred() || self.has(Marks::HANDED_ON)
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Messages, one entry a row in every column but `properties`, `positions` and `unnamed`, which are sparse.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// Which topic each came on.
    pub topic: Vec<TopicId>,
    /// When each was received: microseconds since 1970-01-01 UTC.
    pub received_us: Vec<i64>,
    /// See [`Marks`].
    pub marks: Vec<u8>,
    /// The payloads, byte for byte.
    pub payload: Ragged,
    /// What MQTT 5 says of a message beside its payload, Kafka headers and key.
    pub properties: Properties,
    /// Where they stand in their logs: only where a sink keeps that with the points.
    pub positions: Positions,
    /// Rows whose topic could not be given an id, with its name: ascending by row. Their `topic` says
    /// nothing. No rule can have them.
    pub unnamed: Vec<(u32, Box<str>)>,
}

/// MQTT 5 user properties and what a message says of itself, Kafka headers and key: sparse, ascending by row, all columns of one length but `keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The row each belongs to.
    pub row: Vec<u32>,
    /// Index into `keys`.
    pub key: Vec<u32>,
    /// The values.
    pub value: Ragged,
    /// The keys: distinct, unless there are very many.
    pub keys: Vec<String>,
}

/// How many keys are looked through for one that is known.
const MOST_KEYS_SEARCHED: usize = 64;
/// What a property takes beside its value, about: bytes.
const KEY_BYTES: usize = 32;

impl Properties {
    /// The key of a Kafka record.
    pub const KEY: &'static str = "kafka.key";
    /// Of a Kafka record that has no payload, which is not the same as an empty one: it deletes its key where a topic is compacted.
    pub const TOMBSTONE: &'static str = "kafka.tombstone";

    /// Whether only a source may give a property of this name. It leaves out what a publisher calls so, who could else choose the key under which
    /// a bridge produces, and delete what stands there.
    #[inline]
    pub fn is_ours(name: &str) -> bool {
        name == Self::KEY || name == Self::TOMBSTONE
    }

    /// About what they take in memory.
    pub fn bytes(&self) -> usize {
        self.value.bytes.len() + self.row.len() * KEY_BYTES
    }

    /// Adds one to `row`, which must not be before the last row added.
    #[inline]
    pub fn push(&mut self, row: u32, key: &str, value: &[u8]) {
        let key = self.key(key);
        self.row.push(row);
        self.key.push(key);
        self.value.push(value);
    }

    /// The index of a key, which is new or not.
    #[inline]
    fn key(&mut self, key: &str) -> u32 {
        // Telemetry has a few keys, again and again. Somebody who sends ever new ones gets no long search for it.
        let lately = self.keys.len().saturating_sub(MOST_KEYS_SEARCHED);
        match self.keys[lately..].iter().position(|known| known == key) {
            Some(known) => (lately + known) as u32,
            None => {
                self.keys.push(key.to_owned());
                (self.keys.len() - 1) as u32
            }
        }
    }

    /// Key and value of all that belong to `row`.
    pub fn of(&self, row: u32) -> impl Iterator<Item = (&str, &[u8])> + '_ {
        let start = self.row.partition_point(|&r| r < row);
        let end = self.row.partition_point(|&r| r <= row);
        (start..end).map(|i| {
            let key = self.keys.get(self.key[i] as usize).map_or("", String::as_str);
            (key, self.value.get(i))
        })
    }

    fn append(&mut self, other: &Properties, row_offset: u32) {
        // A key is looked up once, not once for each row that has it.
        let keys: Vec<u32> = other.keys.iter().map(|key| self.key(key)).collect();
        self.row.extend(other.row.iter().map(|row| row + row_offset));
        self.key.extend(other.key.iter().map(|&key| keys.get(key as usize).copied().unwrap_or(u32::MAX)));
        self.value.append(&other.value);
    }
}

/// How large some messages are, in the columns that have most of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Messages.
    pub rows: usize,
    /// Of all payloads.
    pub payload_bytes: usize,
    /// Properties of all rows.
    pub properties: usize,
    /// Of their values.
    pub property_bytes: usize,
}

impl Sizes {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Sizes) -> Sizes {
        Sizes {
            rows: self.rows + other.rows,
            payload_bytes: self.payload_bytes + other.payload_bytes,
            properties: self.properties + other.properties,
            property_bytes: self.property_bytes + other.property_bytes,
        }
    }
}

impl Messages {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.topic.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.topic.is_empty()
    }

    /// Bytes of payloads and properties.
    pub fn bytes(&self) -> usize {
        self.payload.bytes.len() + self.properties.bytes()
    }

    /// How large they are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            rows: self.len(),
            payload_bytes: self.payload.bytes.len(),
            properties: self.properties.row.len(),
            property_bytes: self.properties.value.bytes.len(),
        }
    }

    /// Makes room for so many more: columns that grow bit by bit are copied again and again.
    pub fn reserve(&mut self, more: Sizes) {
        self.topic.reserve(more.rows);
        self.received_us.reserve(more.rows);
        self.marks.reserve(more.rows);
        self.payload.reserve(more.rows, more.payload_bytes);
        self.properties.row.reserve(more.properties);
        self.properties.key.reserve(more.properties);
        self.properties.value.reserve(more.properties, more.property_bytes);
    }

    /// Appends a row and gives its number.
    #[inline]
    pub fn push(&mut self, topic: TopicId, received_us: i64, marks: Marks, payload: &[u8]) -> u32 {
        self.topic.push(topic);
        self.received_us.push(received_us);
        self.marks.push(marks.0);
        self.payload.push(payload);
        (self.topic.len() - 1) as u32
    }

    /// Appends all rows of `other`.
    pub fn append(&mut self, other: &Messages) {
        let offset = self.len() as u32;
        self.topic.extend_from_slice(&other.topic);
        self.received_us.extend_from_slice(&other.received_us);
        self.marks.extend_from_slice(&other.marks);
        self.payload.append(&other.payload);
        self.properties.append(&other.properties, offset);
        self.positions.append(&other.positions, offset);
        self.unnamed.extend(other.unnamed.iter().map(|(row, name)| (row + offset, name.clone())));
    }

    /// The rows named, ascending, as a batch of their own.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Messages {
        let mut out = Messages::default();
        out.topic.reserve(rows.len());
        out.received_us.reserve(rows.len());
        out.marks.reserve(rows.len());
        out.payload.ends.reserve(rows.len());
        for &row in rows {
            let i = row as usize;
            let new = out.push(self.topic[i], self.received_us[i], Marks(self.marks[i]), self.payload.get(i));
            if !self.properties.row.is_empty() {
                for (key, value) in self.properties.of(row) {
                    out.properties.push(new, key, value);
                }
            }
            if let Some(name) = self.unnamed(row) {
                out.unnamed.push((new, name.into()));
            }
            if !self.positions.is_empty() {
                self.positions.copy(row, &mut out.positions, new);
            }
        }
        out
    }

    /// The name of the topic of `row`, if it could not be given an id.
    pub fn unnamed(&self, row: u32) -> Option<&str> {
        let at = self.unnamed.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.unnamed.get(at).map(|(_, name)| &**name)
    }

    /// The name of the topic of `row`, with an id or without.
    pub fn topic_name<'a>(&'a self, books: &'a Books, row: u32) -> Option<&'a str> {
        match self.unnamed(row) {
            Some(name) => Some(name),
            None => books.topic(*self.topic.get(row as usize)?).map(|topic| &*topic.name),
        }
    }

    /// Takes the first `rows` rows out.
    #[must_use]
    pub fn split_to(&mut self, rows: usize) -> Messages {
        let (rows, all) = (rows as u32, self.len() as u32);
        let first = self.gather(&(0..rows).collect::<Vec<_>>());
        let rest = self.gather(&(rows..all).collect::<Vec<_>>());
        *self = rest;
        first
    }
}
