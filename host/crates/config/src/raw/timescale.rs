//! `[sinks.timescale.…]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawSpool;

/// A TimescaleDB or plain PostgreSQL database.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTimescaleSink {
    /// `postgres://user@host:5432/database`; add `?sslmode=require` for TLS, which nothing else asks for. With several hosts, `host1:5432,host2:5432`, the
    /// one that takes writes is found, the one that was reached last tried first; each for 5 seconds, a single one for 10, or as `connect_timeout` in
    /// the URL says.
    #[schemars(required)]
    pub url: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// The table of the points, optionally with its schema, as in `plant.metrics`. Default: `metrics`.
    pub table: Option<String>,
    /// The table of the alerts, in the same schema. Default: `alerts`.
    pub alerts_table: Option<String>,
    /// The table of what is known of each series, in the same schema. Default: `series`.
    pub series_table: Option<String>,
    /// What the columns of the points' table are called, where not as by default.
    pub columns: Option<RawColumns>,
    /// Whether to make what is missing: tables, hypertable, index, policies, aggregates. Default: true.
    pub manage_schema: Option<bool>,
    /// How much time a chunk of a hypertable made by Tidegate holds, in hours. Default: 24.
    #[schemars(range(min = 1, max = 8784))]
    pub chunk_hours: Option<i64>,
    /// The age at which its chunks are compressed, in days; 0 for never. Default: 7.
    #[schemars(range(min = 0, max = 36_500))]
    pub compress_after_days: Option<i64>,
    /// The age at which its chunks are dropped, in days; 0 for never. Default: 90.
    #[schemars(range(min = 0, max = 36_500))]
    pub retain_days: Option<i64>,
    /// Whether points are summed up in `<table>_1min`, `<table>_1hour` and `<table>_1day`. Default: true.
    pub aggregates: Option<bool>,
    /// How those that Tidegate makes are refreshed.
    pub refresh: Option<RawRefreshes>,
    /// The most connections. In a write the rows of one series go over one of them, in order; the next write may give them to another. Rows for
    /// chunks that may be compressed have half as many more of their own, made when there are any; with one connection, or `exactly_once`, none.
    /// Default: 4.
    #[schemars(range(min = 1, max = 20))]
    pub connections: Option<i64>,
    /// Whether a point whose topic and time are stored already is counted and left out; costs half of the speed. Default: false.
    pub dedupe: Option<bool>,
    /// `"kafka"`: each point of a Kafka record is stored once, since the record's offset is stored in the same transaction, in the table
    /// `source_positions`. Each Kafka partition keeps to one lane and one connection then, and there is no spool. Before switching it on again
    /// after a time without, delete the group's rows there: they are read from what was stored last with it. Default: at least once.
    pub exactly_once: Option<RawExactlyOnce>,
    /// The most rows of one COPY. Default: 20000 shared out over `connections`, and 5000 at least.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_rows: Option<i64>,
    /// How long one statement may take, in seconds. What takes longer is tried again with fewer rows in a statement. Default: 30.
    #[schemars(range(min = 1, max = 600))]
    pub statement_timeout_s: Option<i64>,
    /// How far ahead of this host's clock a point's time may be, in hours; what is further is a dead letter, and makes no chunk that nothing compresses
    /// or drops for years. 0 for any. Default: 8784, 366 days: this host's own clock may be days behind until NTP has set it, while those of devices
    /// are right.
    #[schemars(range(min = 0, max = 876_000))]
    pub ahead_hours: Option<i64>,
    /// How far behind the time of receipt (of Kafka records as `time_from` says), in days; what is older is a dead letter, and makes no chunk. How long it
    /// waits for the database is not counted, nor has `tidegate replay` this bound. 0 for any. Default: 0.
    #[schemars(range(min = 0, max = 36_500))]
    pub behind_days: Option<i64>,
    /// PEM file of the certificates to trust. Default: those of the system.
    pub ca_file: Option<String>,
    /// PEM file of our own certificate, for mutual TLS; with `key_file`.
    pub cert_file: Option<String>,
    /// PEM file of our own key; with `cert_file`.
    pub key_file: Option<String>,
    /// The durable queue in front of it; what is not written here is as in `[spool]`.
    pub spool: Option<RawSpool>,
}

/// What is stored exactly once.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawExactlyOnce {
    /// What comes of Kafka records.
    Kafka,
}

/// How the aggregates are refreshed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRefreshes {
    /// `<table>_1min`. Default: 3 days back, each minute, up to a minute ago.
    pub minute: Option<RawRefresh>,
    /// `<table>_1hour`. Default: 14 days back, each 30 minutes, up to 60 minutes ago.
    pub hour: Option<RawRefresh>,
    /// `<table>_1day`. Default: 60 days back, each 360 minutes, up to 1440 minutes ago.
    pub day: Option<RawRefresh>,
}

/// How an aggregate is refreshed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRefresh {
    /// How far back it looks for what came late, in days; `minute`, and all three before TimescaleDB 2.9, never as far as `retain_days`.
    #[schemars(range(min = 1, max = 36_500))]
    pub window_days: Option<i64>,
    /// How often it is done, in minutes.
    #[schemars(range(min = 1, max = 525_600))]
    pub every_minutes: Option<i64>,
    /// What is younger is left to the next time, and summed up when it is asked for, in minutes.
    #[schemars(range(min = 0, max = 525_600))]
    pub behind_minutes: Option<i64>,
}

/// What the columns of the points' table are called.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawColumns {
    /// When it was measured, a `timestamptz`. Default: `time`.
    pub time: Option<String>,
    /// The series, a `text`. Default: `topic`.
    pub topic: Option<String>,
    /// The number, a `double precision`. Default: `value`.
    pub value: Option<String>,
    /// The text, a `text`. Default: `value_str`.
    pub value_str: Option<String>,
    /// The OPC quality, a `smallint`. Default: `quality`.
    pub quality: Option<String>,
    /// The unit, a `text`. Default: `unit`.
    pub unit: Option<String>,
}
