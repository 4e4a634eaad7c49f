//! What a backtest is asked for with.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::shapes::Definition;

/// A rule as its file says, or as another definition says; and what it is given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestInput {
    /// The rule's name. Without it, `definition` says what is tried.
    pub rule: Option<String>,
    /// A candidate: what would be PUT to /api/v1/rules/{rule}.
    #[schemars(with = "Option<Definition>")]
    pub definition: Option<Value>,
    /// Where the rows come from. Default: `stored`.
    #[serde(default)]
    pub read: ReadFrom,
    /// Whose database is read, if several sinks have one. Default: the first by name.
    pub sink: Option<String>,
    /// An MQTT topic filter, of what the rule gets at all. Default: the rule's own topics.
    pub topic: Option<String>,
    /// A part of what a Kafka source reads, instead: its messages are decoded, where the rule is no decoder, by the rules that serve now, and go
    /// through those that stand before the rule.
    pub kafka: Option<KafkaPart>,
    /// From this time on: microseconds since 1970-01-01 UTC. Default: from the oldest.
    pub from_us: Option<i64>,
    /// Before this time. Default: all.
    pub until_us: Option<i64>,
}

/// A part of a Kafka topic.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaPart {
    /// The source. Default: the one there is.
    pub source: Option<String>,
    /// Of the topics of that source, which one. Default: the one there is.
    pub topic: Option<String>,
    /// The first record: `earliest`, `latest`, `offset:<number>`, or a time (RFC 3339, UTC, by the records' timestamps). Default: `earliest`.
    pub from: Option<String>,
    /// The first record that is not read any more, written likewise. Default: `latest`.
    pub to: Option<String>,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadFrom {
    /// From the database of a sink: the points that came out of all rules.
    #[default]
    Stored,
    /// From the body of `PUT /api/v1/backtests/{id}/rows`, which is to begin within a minute.
    Upload,
}
