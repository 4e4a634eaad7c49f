//! `[sinks.kafka.<name>]`: topics of a Kafka cluster.

use std::collections::BTreeMap;

use super::{Name, Secret};

/// A cluster, and what is produced to which of its topics.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Which messages go where as they came.
    pub messages: Option<KafkaMessages>,
    /// Where points go, each with its series as the key; nowhere if none.
    pub points: Option<String>,
    /// Where alerts go, each with its series as the key.
    pub alerts: Option<String>,
    /// Where copies of dead letters go, each with its topic as the key.
    pub dead_letters: Option<String>,
    /// What points look like.
    pub format: PointFormat,
    /// How batches are compressed.
    pub compression: Compression,
    /// Settings of librdkafka as they are (SASL, TLS, buffers); those Tidegate relies on are refused by `check`.
    pub client: BTreeMap<String, Secret>,
}

/// Messages that are produced as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaMessages {
    /// The Kafka topic.
    pub topic: String,
    /// The sources; all if none.
    pub from: Option<Vec<Name>>,
    /// The key of each.
    pub key: MessageKey,
}

/// The key of a message in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKey {
    /// Its topic.
    Topic,
    /// The name of what `lane_by` keeps together.
    Lane,
    /// The key it had in Kafka, if it had one.
    Record,
    /// None.
    None,
}

/// What a point looks like in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointFormat {
    /// An object that tells everything, its series and the time for people too.
    Json,
    /// `{"v":84.5,"q":192,"ts":1703289600000,"u":"°C"}`: the series stands in the key alone. The rule `json-reading` reads it.
    Reading,
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

impl Compression {
    /// As librdkafka calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}
