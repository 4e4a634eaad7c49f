//! The validated settings: what sources, sinks and the pipeline are built from.

mod admin;
mod kafka_sink;
mod kafka_source;
mod timescale;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_model::{Limits, SpoolOrder, TopicFilter};

pub use admin::{Admin, AdminTls, Changes, Scope, ScopeError, Scopes, Token};
pub use kafka_sink::{Compression, KafkaMessages, KafkaSink, MessageKey, PointFormat};
pub use kafka_source::{KafkaSource, KafkaStart, RecordHeaders, RecordsBy, TimeFrom, TopicFrom};
pub use timescale::{Aggregates, Columns, Refresh, Repeats, TableNames, TimescaleSink, Upkeep};

/// All of `tidegate.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the host writes is under it.
    pub data_dir: PathBuf,
    /// Where rules are dropped.
    pub rules_dir: PathBuf,
    /// Lanes, if not as many as the CPU quota gives.
    pub lanes: Option<usize>,
    /// The most rows of one batch.
    pub batch_rows: usize,
    /// The most series (and topics) this host takes in.
    pub max_series: usize,
    /// How long a shutdown may take.
    pub shutdown_timeout: Duration,
    /// How long a module may take to be compiled.
    pub compile_timeout: Duration,
    /// Whose modules may serve.
    pub signatures: Signatures,
    /// The HTTP interface.
    pub admin: Admin,
    /// By name, at least one unless run by a test.
    pub sources: BTreeMap<Name, SourceSettings>,
    /// By the name of the source: how fast messages may come. Each has an entry.
    pub limits: BTreeMap<Name, Limits>,
    /// By name; never empty: without any, a SQLite sink `store` in `data_dir`.
    pub sinks: BTreeMap<Name, SinkSettings>,
    /// By the name of the sink: the durable queues in front of those that have one.
    pub spools: BTreeMap<Name, SpoolSettings>,
    /// How long dead letters are kept.
    pub dead_letters: DeadLetters,
    /// The file as text, without its secrets and comments.
    pub shown: String,
    /// What is allowed but better done otherwise, each as `file:line:column: what; what to do`.
    pub warnings: Vec<String>,
}

/// Whose modules may serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Only those that a key of these has signed.
    pub required: bool,
    /// Public ed25519 keys by name: 32 bytes each, not looked at yet.
    pub keys: Vec<(Name, [u8; 32])>,
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// A name that is safe in metrics, file names and URLs: `^[a-z0-9][a-z0-9-]{0,62}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Stands in for a name that was refused, while the rest of its file is checked.
    pub(crate) fn placeholder() -> Self {
        Self("unnamed".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'")]
pub struct NameError(pub String);

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

/// A text that must not be seen: `Debug` and `Display` show that there is one, not what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("«secret»")
    }
}

/// `[sinks.<kind>.<name>.spool]`, filled up from `[spool]`: the durable queue in front of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The most that may stand in it, in bytes.
    pub max_bytes: u64,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// What comes first when the sink works again.
    pub order: SpoolOrder,
}

/// What happens when a spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Nothing more is acknowledged, so that sources are held back.
    HoldBack,
    /// The oldest rows are dropped, and counted.
    DropOldest,
}

/// `[dead_letters]`: how long they are kept. What is dropped is counted and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The most room they take, in bytes.
    pub max_bytes: u64,
    /// How long each is kept.
    pub max_age: Duration,
}

/// One source.
#[derive(Clone, Debug)]
pub enum SourceSettings {
    /// `[sources.mqtt.<name>]`
    Mqtt(MqttSource),
    /// `[sources.kafka.<name>]`
    Kafka(KafkaSource),
}

/// One sink.
#[derive(Clone, Debug)]
pub enum SinkSettings {
    /// `[sinks.sqlite.<name>]`
    Sqlite(SqliteSink),
    /// `[sinks.timescale.<name>]`
    Timescale(TimescaleSink),
    /// `[sinks.mqtt.<name>]`
    Mqtt(MqttSink),
    /// `[sinks.kafka.<name>]`
    Kafka(KafkaSink),
    /// `[sinks.ndjson.<name>]`
    Ndjson(NdjsonSink),
    /// `[sinks.discard.<name>]`: counts and forgets, for load tests.
    Discard,
}

/// How to reach an MQTT broker, and as whom.
#[derive(Clone, Debug)]
pub struct MqttEndpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `mqtts://`: with TLS.
    pub tls: Option<Tls>,
    /// The protocol spoken.
    pub version: MqttVersion,
    /// Stable over restarts, since the broker keeps the session under it. With several connections, `-<n>` is appended.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password, read from a file or the environment.
    pub password: Option<Secret>,
    /// How often the client says that it is alive.
    pub keep_alive: Duration,
    /// The largest packet taken, in bytes.
    pub max_packet_bytes: u32,
}

/// The versions of MQTT that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1
    V3,
    /// 5.0
    V5,
}

/// TLS to a broker or database. PEM files.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who is trusted; the system's certificates (Debian's bundle) if none.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, for mutual TLS; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Our own key.
    pub key_file: Option<PathBuf>,
}

/// `[sources.mqtt.<name>]`
#[derive(Clone, Debug)]
pub struct MqttSource {
    /// The broker.
    pub endpoint: MqttEndpoint,
    /// What is subscribed to; at least one.
    pub subscriptions: Vec<Subscription>,
    /// The group of `$share/<group>/…`, so that several hosts share the load.
    pub share: Option<Name>,
    /// How the broker deals out what is shared.
    pub share_by: ShareBy,
    /// Connections to the broker; more than one only with `share`.
    pub connections: u16,
    /// How many unacknowledged QoS 1 messages the broker may have on the way to us (MQTT 5 receive maximum).
    pub receive_maximum: u16,
    /// How long the broker keeps the session while we are away (MQTT 5).
    pub session_expiry: Duration,
    /// How long no message may come before the connection is made anew.
    pub stale_after: Option<Duration>,
    /// Whether the state of rules has each message once, also over a crash.
    pub journal: Journal,
}

/// How the broker deals the messages of a shared subscription out to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareBy {
    /// To any of them.
    Unknown,
    /// All messages of a topic to one of them.
    Topic,
    /// There is only this one.
    OneHost,
}

/// Whether a message is acknowledged only when the state of rules that has it is on disk, and known when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// When its sinks have confirmed.
    Off,
    /// So.
    On,
}

/// One subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// What topics.
    pub filter: TopicFilter,
    /// At which QoS; QoS 2 is refused by `check`.
    pub qos: Qos,
    /// Which topics stay together on one lane.
    pub lane_by: LaneBy,
}

/// MQTT quality of service, as far as it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// At most once: the broker forgets what it has sent.
    AtMostOnce,
    /// At least once: the broker keeps what we have not acknowledged.
    AtLeastOnce,
}

/// Which topics share a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneBy {
    /// Each topic is a partition.
    Topic,
    /// Topics that agree in these levels (from 0) are one partition: for Sparkplug `[1, 3]`, group and node.
    Levels(Vec<usize>),
}

impl LaneBy {
    /// The name of the partition that `topic` belongs to.
    pub fn partition<'a>(&self, topic: &'a str) -> std::borrow::Cow<'a, str> {
        match self {
            LaneBy::Topic => topic.into(),
            LaneBy::Levels(levels) => {
                let all: Vec<&str> = topic.split('/').collect();
                let named: Vec<&str> = levels.iter().map(|&i| all.get(i).copied().unwrap_or("")).collect();
                named.join("/").into()
            }
        }
    }
}

/// Where it is kept how far the records of a Kafka partition are done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// With the brokers, for the consumer group.
    Group,
    /// Also in the database, in the transaction of the points that came of them: exactly once.
    WithPoints,
}

/// `[sinks.sqlite.<name>]`
#[derive(Clone, Debug)]
pub struct SqliteSink {
    /// The database file.
    pub path: PathBuf,
}

/// `[sinks.mqtt.<name>]`: alerts as JSON on `<prefix>/<rule>/<topic>`, and commands.
#[derive(Clone, Debug)]
pub struct MqttSink {
    /// The broker.
    pub endpoint: MqttEndpoint,
    /// First levels of the alerts' topics.
    pub prefix: String,
    /// At which QoS alerts are published.
    pub qos: Qos,
    /// Whether the broker keeps the last alert of each topic.
    pub retain: bool,
    /// First levels of the topics that copies of dead letters go to; no copies if none.
    pub dead_letters: Option<String>,
    /// The retained topic that says whether this host is connected.
    pub status_topic: Option<String>,
}

/// `[sinks.ndjson.<name>]`: one JSON object a line.
#[derive(Clone, Debug)]
pub struct NdjsonSink {
    /// A file to append to; standard output if none.
    pub path: Option<PathBuf>,
    /// Whether points are written.
    pub points: bool,
    /// Whether alerts are written.
    pub alerts: bool,
    /// Whether dead letters are written.
    pub dead_letters: bool,
}
