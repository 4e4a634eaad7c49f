//! Row views over a batch of messages: borrowed from the columns, nothing copied.

use crate::columns::{Messages, TopicId};
use crate::topics::{Slot, Topics};

/// One message, as it arrived.
pub struct Message<'a> {
    pub topic_id: TopicId,
    pub payload: &'a [u8],
    /// Microseconds since 1970-01-01 UTC.
    pub received_us: i64,
    row: usize,
    slot: &'a Slot,
    batch: &'a Messages,
}

impl<'a> Message<'a> {
    /// Its row in the batch.
    pub fn row(&self) -> usize {
        self.row
    }

    /// The topic's name.
    pub fn topic(&self) -> &'a str {
        &self.slot.name
    }

    /// The levels of the topic's name.
    pub fn levels(&self) -> std::str::Split<'a, char> {
        self.topic().split('/')
    }

    /// How the message came.
    pub fn marks(&self) -> Marks {
        Marks(self.batch.marks.get(self.row).copied().unwrap_or(0))
    }

    /// User properties, Kafka headers and key of this message; empty unless the rule asked for them
    /// with [`crate::About::with_properties`].
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let properties = &self.batch.properties;
        let row = self.row as u32;
        let first = properties.row.partition_point(|at| *at < row);
        let after = properties.row.partition_point(|at| *at <= row);
        (first..after).filter_map(move |index| {
            let key = properties.keys.get(*properties.key.get(index)? as usize)?;
            let start = match index.checked_sub(1) {
                Some(before) => *properties.value_ends.get(before)?,
                None => 0,
            };
            let end = *properties.value_ends.get(index)?;
            let value = properties.value_bytes.get(start as usize..end as usize)?;
            Some((key.as_str(), value))
        })
    }

    #[inline]
    pub(crate) fn topic_version(&self) -> u32 {
        self.slot.version
    }
}

/// How a message came: bits of the contract's `marks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// The broker kept it; it may be old.
    pub fn retained(self) -> bool {
        self.0 & 1 != 0
    }

    /// The broker sent it before.
    pub fn redelivered(self) -> bool {
        self.0 & 2 != 0
    }

    /// It comes again out of the dead letters or a recording.
    pub fn replayed(self) -> bool {
        self.0 & 4 != 0
    }

    /// It was sent at most once (MQTT QoS 0).
    pub fn at_most_once(self) -> bool {
        self.0 & 64 != 0
    }
}

impl Messages {
    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.topic.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.topic.is_empty()
    }

    /// The messages, in order.
    #[inline]
    pub fn messages<'a>(&'a self, topics: &'a Topics) -> impl Iterator<Item = Message<'a>> {
        let mut start = 0;
        self.topic.iter().zip(&self.received_us).zip(&self.payload_ends).enumerate().map(
            move |(row, ((topic_id, received_us), end))| {
                let end = *end as usize;
                let payload = self.payload_bytes.get(start..end).unwrap_or(&[]);
                start = end;
                Message {
                    topic_id: *topic_id,
                    payload,
                    received_us: *received_us,
                    row,
                    slot: topics.slot(*topic_id),
                    batch: self,
                }
            },
        )
    }
}
