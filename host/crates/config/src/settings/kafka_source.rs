//! `[sources.kafka.<name>]`: topics of a Kafka cluster, read in a consumer group.

use std::collections::BTreeMap;

use super::{Journal, LaneBy, Offsets, Secret};

/// A cluster, what is read of it, and how a record is understood.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// The Kafka topics; one that begins with `^` is a regular expression.
    pub topics: Vec<String>,
    /// Where the logical topic (`dev/line1/temp`) stands in a record.
    pub topic_from: TopicFrom,
    /// When a record counts as received.
    pub time_from: TimeFrom,
    /// What becomes of the headers of a record.
    pub headers: RecordHeaders,
    /// Which records stay together on one lane.
    pub lane_by: RecordsBy,
    /// Where to begin when the group has no offset.
    pub start: KafkaStart,
    /// Where offsets are kept. [`Offsets::WithPoints`]: a partition keeps to one lane.
    pub offsets: Offsets,
    /// Whether the state of rules has each record once, also over a crash. [`Journal::On`]: a partition keeps to one lane.
    pub journal: Journal,
    /// The most records taken and not yet settled, over all partitions.
    pub max_in_flight: usize,
    /// Settings of librdkafka as they are (SASL, TLS, buffers); those Tidegate relies on are refused by `check`.
    pub client: BTreeMap<String, Secret>,
}

/// Which Kafka records stay together on one lane, in their order, and are one partition to rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordsBy {
    /// Those of a logical topic, or of those that agree in some levels.
    Topics(LaneBy),
    /// Those of a key; one without stays with its topic.
    Key,
    /// Those of a Kafka partition.
    Partition,
}

impl RecordsBy {
    /// Whether it can be so where each Kafka partition keeps to one lane.
    pub(crate) fn keeps_partitions(&self) -> bool {
        matches!(self, RecordsBy::Topics(LaneBy::Topic) | RecordsBy::Partition)
    }
}

/// When a Kafka record counts as received: the time of points whose payload has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFrom {
    /// When it came to this host.
    Arrival,
    /// The timestamp of the record, in milliseconds.
    Record,
    /// A header of that name, in microseconds since 1970-01-01 UTC.
    Header(String),
}

/// What becomes of the headers of a Kafka record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHeaders {
    /// They go with the message: to decoders, dead letters and sinks that take messages as they came.
    Kept,
    /// They are not looked at, but where the topic or the time stands in one.
    Left,
}

/// Where the logical topic of a Kafka record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicFrom {
    /// It is the Kafka topic.
    Topic,
    /// The record's key.
    Key,
    /// A header of that name.
    Header(String),
    /// A field of the JSON payload, as a JSON pointer (RFC 6901).
    Field(String),
}

/// Where a new consumer group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaStart {
    /// With the oldest record there is.
    Earliest,
    /// With what comes from now on.
    Latest,
}
