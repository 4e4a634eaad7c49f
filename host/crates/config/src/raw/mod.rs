//! The files as they are written: serde types that take nothing they do not know.
//!
//! Every field is optional here, so that one missing key does not hide the next mistake: what is needed, and within which
//! bounds, is said by `checks`. The doc comments are the descriptions of the JSON Schema; numbers wait as `i64` so that
//! a negative one is answered with its bounds, not with the name of a Rust type.

mod admin;
mod dead_letters;
mod kafka_sink;
mod limit;
mod rule;
mod rules;
mod sink;
mod source;
mod spool;
mod timescale;
mod values;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use admin::*;
pub(crate) use dead_letters::*;
pub(crate) use kafka_sink::*;
pub(crate) use limit::*;
pub(crate) use rule::*;
pub(crate) use rules::*;
pub(crate) use sink::*;
pub(crate) use source::*;
pub(crate) use spool::*;
pub(crate) use timescale::*;
pub(crate) use values::*;

/// The configuration of one Tidegate host. Relative paths are relative to this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tidegate.toml")]
pub(crate) struct RawConfig {
    /// What this host is called in MQTT client ids. It must stay the same over restarts and differ between hosts.
    /// Default: the variable TIDEGATE_NODE, else the host name.
    pub node: Option<String>,
    /// Where everything that Tidegate writes is kept. Default: `data` beside this file.
    pub data_dir: Option<String>,
    /// Where rules (`.wasm` files and their `<rule>.toml`) are dropped. Default: `rules.d` beside this file.
    pub rules_dir: Option<String>,
    /// Threads that run rules. Default: as many as the CPU quota of this process gives.
    #[schemars(range(min = 1, max = 256))]
    pub lanes: Option<i64>,
    /// The most messages that go through the rules in one call. Default: 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_rows: Option<i64>,
    /// The most series (and topics) this host takes in; past it messages are dead letters. Default: 100000.
    /// Names are kept until this process ends. Each rule may make some series beyond the limit, a 32nd of it, so that one which makes
    /// names without end leaves its neighbours some.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series: Option<i64>,
    /// How long a shutdown may take, in seconds. Default: 10.
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout_s: Option<i64>,
    /// What modules must have before they may serve, and what looking them over may take.
    pub rules: Option<RawRules>,
    /// The HTTP interface: health, metrics, API.
    pub admin: Option<RawAdmin>,
    /// Where telemetry comes from; at least one.
    #[schemars(required)]
    pub sources: Option<RawSources>,
    /// Where points, alerts and dead letters go. Default: a SQLite database `store` in `data_dir`.
    pub sinks: Option<RawSinks>,
    /// How long dead letters are kept.
    pub dead_letters: Option<RawDeadLetters>,
    /// The durable queues in front of databases and brokers: what holds for all that do not say otherwise.
    pub spool: Option<RawSpool>,
}

/// Where telemetry comes from, by protocol and name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSources {
    /// MQTT brokers, by the name of the source.
    #[serde(default)]
    pub mqtt: BTreeMap<String, RawMqttSource>,
    /// Kafka clusters, by the name of the source.
    #[serde(default)]
    pub kafka: BTreeMap<String, RawKafkaSource>,
}

/// Where points, alerts and dead letters go, by kind and name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSinks {
    /// SQLite databases, by the name of the sink.
    #[serde(default)]
    pub sqlite: BTreeMap<String, RawSqliteSink>,
    /// TimescaleDB or PostgreSQL databases, by the name of the sink.
    #[serde(default)]
    pub timescale: BTreeMap<String, RawTimescaleSink>,
    /// Kafka clusters, by the name of the sink.
    #[serde(default)]
    pub kafka: BTreeMap<String, RawKafkaSink>,
    /// MQTT brokers that alerts are published to, by the name of the sink.
    #[serde(default)]
    pub mqtt: BTreeMap<String, RawMqttSink>,
    /// Files, or standard output, with a JSON object a line, by the name of the sink.
    #[serde(default)]
    pub ndjson: BTreeMap<String, RawNdjsonSink>,
    /// Sinks that count what they get and forget it, for load tests, by the name of the sink.
    #[serde(default)]
    pub discard: BTreeMap<String, RawDiscardSink>,
}
