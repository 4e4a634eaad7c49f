//! `[sinks.…]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawMqttVersion, RawSpool};

/// A SQLite database.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSqliteSink {
    /// The database file. Default: `<name of the sink>.db` in `data_dir`.
    pub path: Option<String>,
    /// The durable queue in front of it; what is not written here is as in `[spool]`.
    pub spool: Option<RawSpool>,
}

/// Alerts as JSON to an MQTT broker, on `<prefix>/<rule>/<topic>`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMqttSink {
    /// The broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS.
    #[schemars(required)]
    pub url: Option<String>,
    /// The version of MQTT to speak. Default: 5.
    pub version: Option<RawMqttVersion>,
    /// The name the broker knows this connection by; `{node}` stands for the name of this host.
    /// Default: `tidegate-{node}-<name of the sink>-out`.
    pub client_id: Option<String>,
    /// The first levels of the alerts' topics. Default: `alerts`.
    pub prefix: Option<String>,
    /// The QoS of alerts: 0 (at most once) or 1 (at least once). Default: 1.
    #[schemars(range(min = 0, max = 1))]
    pub qos: Option<i64>,
    /// Whether the broker keeps the last alert of each topic for those that subscribe later. Default: false.
    pub retain: Option<bool>,
    /// The first levels of the topics that copies of dead letters go to, as JSON, `<these>/<topic>`. Default: no copies.
    pub dead_letters: Option<String>,
    /// The topic that holds `online` while this host is connected and `offline` when it is not, retained; `{node}` stands
    /// for the name of this host. Default: none.
    pub status_topic: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// How often the client says that it is alive, in seconds. Default: 30.
    #[schemars(range(min = 5, max = 3600))]
    pub keep_alive_s: Option<i64>,
    /// The largest packet sent or taken, in bytes. Default: 1048576, 1 MiB.
    #[schemars(range(min = 1024, max = 268_435_455))]
    pub max_packet_bytes: Option<i64>,
    /// PEM file of the certificates to trust. Default: those of the system.
    pub ca_file: Option<String>,
    /// PEM file of our own certificate, for mutual TLS; with `key_file`.
    pub cert_file: Option<String>,
    /// PEM file of our own key; with `cert_file`.
    pub key_file: Option<String>,
    /// The durable queue in front of it; what is not written here is as in `[spool]`.
    pub spool: Option<RawSpool>,
}

/// A JSON object a line, to a file or to standard output.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNdjsonSink {
    /// The file to append to. Default: standard output.
    pub path: Option<String>,
    /// Whether points are written. Default: true.
    pub points: Option<bool>,
    /// Whether alerts are written. Default: true.
    pub alerts: Option<bool>,
    /// Whether dead letters are written. Default: false.
    pub dead_letters: Option<bool>,
}

/// Counts what it gets and forgets it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDiscardSink {}
