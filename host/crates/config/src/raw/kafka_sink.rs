//! `[sinks.kafka.…]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClientValue, OneOrMany, RawSpool};

/// Messages as they came, points, alerts and dead letters to topics of a Kafka cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKafkaSink {
    /// Brokers to begin with, as `host:port`: a list, or one text parted by commas.
    #[schemars(required)]
    pub brokers: Option<OneOrMany>,
    /// The topic of the messages as they came, decoded or not, each with its MQTT topic as the key. Default: they are not produced.
    pub messages: Option<String>,
    /// The sources whose messages are produced. Default: all.
    pub messages_from: Option<Vec<String>>,
    /// The key of a message, which decides its partition. Default: `topic`.
    pub messages_key: Option<RawMessageKey>,
    /// The topic of the points, each with its series as the key. Default: they are not produced.
    pub points: Option<String>,
    /// The topic of the alerts. Default: they are not produced.
    pub alerts: Option<String>,
    /// The topic of copies of dead letters. Default: none.
    pub dead_letters: Option<String>,
    /// What points look like. Default: `json`.
    pub format: Option<RawPointFormat>,
    /// How batches of records are compressed. Default: `zstd`.
    pub compression: Option<RawCompression>,
    /// Settings of librdkafka by their own names, such as `"security.protocol" = "SASL_SSL"`. Write a secret as
    /// `{ file = "…" }` or `{ env = "…" }`.
    pub client: Option<BTreeMap<String, ClientValue>>,
    /// The durable queue in front of it; what is not written here is as in `[spool]`.
    pub spool: Option<RawSpool>,
}

/// The key of a message in Kafka.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawMessageKey {
    /// Its topic: each topic in order.
    Topic,
    /// What `lane_by` of its subscription keeps together; the topic stands in the header `tidegate.topic`.
    Lane,
    /// The one it had in Kafka, or none: for a topic that is compacted, where a record without a payload stays one; the topic stands in the header
    /// `tidegate.topic`.
    Record,
    /// No key: any partition, in no order; the topic stands in the header `tidegate.topic`.
    None,
}

/// What a point looks like in a record.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPointFormat {
    /// All of it, in long words.
    Json,
    /// `{"v":84.5,"q":192,"ts":1703289600000,"u":"°C"}`, half as long: the rule `json-reading` reads it.
    Reading,
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawCompression {
    /// Not at all.
    None,
    /// gzip: small and slow.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: smaller, and nearly as fast; Kafka 2.1 and later.
    Zstd,
}
