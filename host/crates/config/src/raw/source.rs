//! `[sources.…]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClientValue, OneOrMany, RawLimit, RawRecordsBy, TopicEntry};

/// Messages from an MQTT broker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMqttSource {
    /// The broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS.
    #[schemars(required)]
    pub url: Option<String>,
    /// The version of MQTT to speak. Default: 5.
    pub version: Option<RawMqttVersion>,
    /// The name the broker keeps our session under; `{node}` stands for the name of this host.
    /// Default: `tidegate-{node}-<name of the source>`.
    pub client_id: Option<String>,
    /// What to subscribe to: topic filters, or tables with a filter and its own `qos` and `lane_by`.
    #[schemars(required)]
    pub topics: Option<Vec<TopicEntry>>,
    /// The QoS of all subscriptions that name none: 0 (at most once) or 1 (at least once). Default: 1.
    #[schemars(range(min = 0, max = 1))]
    pub qos: Option<i64>,
    /// A group of `$share/<group>/…`: the hosts that name the same one share the messages.
    pub share: Option<String>,
    /// How the broker deals the messages of a `share` out to hosts, which decides whether rules with a state can run on them. Default: `unknown`.
    pub share_by: Option<RawShareBy>,
    /// How many connections to take messages by; more than one needs `share`. Default: 1.
    #[schemars(range(min = 1, max = 64))]
    pub connections: Option<i64>,
    /// User name.
    pub username: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// How often the client says that it is alive, in seconds. Default: 30.
    #[schemars(range(min = 5, max = 3600))]
    pub keep_alive_s: Option<i64>,
    /// How many unacknowledged QoS 1 messages the broker may have on the way to us (MQTT 5). Default: 1000.
    #[schemars(range(min = 1, max = 65535))]
    pub receive_maximum: Option<i64>,
    /// How long the broker keeps our session while we are away, in seconds (MQTT 5). Default: 86400, one day.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub session_expiry_s: Option<i64>,
    /// After how many seconds without any message the connection is taken for dead and made anew. Default: never, since
    /// only you know how long your topics may be silent.
    #[schemars(range(min = 1, max = 86_400))]
    pub stale_after_s: Option<i64>,
    /// Whether the state of rules has each QoS 1 message exactly once, also over a crash of the host: one is acknowledged only when the state that
    /// has it is on disk, and known when it comes again. Needs a broker that does not use packet ids
    /// again at once, or content of which no two messages are the same. Default: false.
    pub journal: Option<bool>,
    /// How fast messages are taken. Default: as fast as they can be stored.
    pub limit: Option<RawLimit>,
    /// The largest packet taken, in bytes; a larger message is a dead letter with its beginning. Default: 1048576, 1 MiB.
    #[schemars(range(min = 1024, max = 268_435_455))]
    pub max_packet_bytes: Option<i64>,
    /// PEM file of the certificates to trust. Default: those of the system.
    pub ca_file: Option<String>,
    /// PEM file of our own certificate, for mutual TLS; with `key_file`.
    pub cert_file: Option<String>,
    /// PEM file of our own key; with `cert_file`.
    pub key_file: Option<String>,
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum RawMqttVersion {
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V3,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

/// How a broker deals messages of a shared subscription out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawShareBy {
    /// To any host: what most brokers do, in turn or at random.
    Unknown,
    /// All messages of a topic to one host, as EMQX does with `hash_topic`.
    Topic,
    /// To this host: no other is in the group, which is for its `connections`.
    OneHost,
}

/// One subscription with settings of its own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSubscription {
    /// The topic filter: `+` for any one level, `#` for all that follow.
    #[schemars(required)]
    pub filter: Option<String>,
    /// Its QoS: 0 or 1. Default: that of the source.
    #[schemars(range(min = 0, max = 1))]
    pub qos: Option<i64>,
    /// Which levels of a topic (from 0) name what must stay in order on one lane; for Sparkplug `[1, 3]`, group and node.
    /// Default: each topic by itself.
    pub lane_by: Option<Vec<i64>>,
}

/// Records from a Kafka cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKafkaSource {
    /// Brokers to begin with, as `host:port`: a list, or one text parted by commas.
    #[schemars(required)]
    pub brokers: Option<OneOrMany>,
    /// The consumer group: hosts that name the same one share the partitions.
    #[schemars(required)]
    pub group: Option<String>,
    /// Kafka topics; one that begins with `^` is a regular expression. One that is made later is found within `topic.metadata.refresh.interval.ms` of `client`
    /// (5 minutes) and read from its beginning.
    #[schemars(required)]
    pub topics: Option<Vec<String>>,
    /// Where the logical topic (such as `dev/line1/temp`) stands in a record. Default: it is the Kafka topic.
    pub topic_from: Option<RawTopicFrom>,
    /// When a record counts as received, which is the time of readings that have none of their own. Where the record does not say,
    /// it is when it came to this host. Default: `arrival`.
    pub time_from: Option<RawTimeFrom>,
    /// What becomes of the headers of a record: each that is kept is copied with its message. Default: `kept`.
    pub headers: Option<RawHeaders>,
    /// What must stay in order on one lane, and is one partition to rules: levels of a logical topic (from 0), as in `[1, 3]`; or the records of one
    /// `"key"` or Kafka `"partition"`, whatever their topics. Then a topic stays with the one it first came by: records of it by another go where it goes,
    /// and are counted (`strays`). Default: `"topic"`, each by itself.
    pub lane_by: Option<RawRecordsBy>,
    /// Where to begin when the group has no offset; `latest` is the end as it was when the group first began. Default: `earliest`.
    pub start: Option<RawStart>,
    /// The most records taken and not yet stored. Default: 50000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<i64>,
    /// Whether the state of rules has each record exactly once, also over a crash of the host: its offset is committed only when the state that has
    /// it is on disk, and it is known when it comes again. Each partition keeps to one lane then, and `lane_by` cannot choose another. Default: false.
    pub journal: Option<bool>,
    /// How fast records are taken. Default: as fast as they can be stored.
    pub limit: Option<RawLimit>,
    /// Settings of librdkafka by their own names, such as `"security.protocol" = "SASL_SSL"`. Write a secret as
    /// `{ file = "…" }` or `{ env = "…" }`.
    pub client: Option<BTreeMap<String, ClientValue>>,
}

/// Where the logical topic of a Kafka record stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTopicFrom {
    /// It is the Kafka topic.
    Topic,
    /// The key of the record.
    Key,
    /// A header of this name.
    Header(String),
    /// A field of the JSON payload, as a JSON pointer such as `/device/topic`.
    Field(String),
}

/// When a Kafka record counts as received.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTimeFrom {
    /// When it came to this host; to `tidegate replay` and backtests the timestamp of the record.
    Arrival,
    /// The timestamp of the record.
    Record,
    /// A header of this name, in microseconds since 1970-01-01 UTC: `tidegate.received_us` where another Tidegate produced it.
    Header(String),
}

/// What becomes of the headers of a Kafka record.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawHeaders {
    /// They go with the message: to decoders, dead letters and bridges. One whose name is not UTF-8 is called U+FFFD there.
    Kept,
    /// They are not looked at, but where `topic_from` or `time_from` names one; the key goes with the message all the same.
    Left,
}

/// Where a consumer group without offsets begins.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawStart {
    /// With the oldest record there is.
    Earliest,
    /// With what comes from now on.
    Latest,
}
