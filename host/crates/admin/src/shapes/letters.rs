//! Dead letters: which, and pages of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which dead letters, and how many.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterQuery {
    /// The rule or sink that refused them.
    pub rule: Option<String>,
    /// The source they came from.
    pub source: Option<String>,
    /// Where they died: `route`, `decode`, `process`, `sink` or `parked`.
    pub stage: Option<String>,
    /// An MQTT topic filter.
    pub topic: Option<String>,
    /// Died then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Died before then.
    pub until_us: Option<i64>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// Only those that are to be put back. Default: false.
    pub requested: Option<bool>,
    /// Go on after this id. Default: from the oldest.
    #[schemars(range(min = 0))]
    pub after: Option<i64>,
    /// The newest instead, the oldest of them first. Default: false.
    pub newest: Option<bool>,
    /// How many at most, up to 1000. Default: 50.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// Which dead letters are replayed, kept from that, or purged: all that agree with all that is given. To mean really all, say `all=true`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurgeQuery {
    /// This one.
    #[schemars(range(min = 0))]
    pub id: Option<i64>,
    /// The rule or sink that refused them.
    pub rule: Option<String>,
    /// The source they came from.
    pub source: Option<String>,
    /// Where they died: `route`, `decode`, `process`, `sink` or `parked`.
    pub stage: Option<String>,
    /// An MQTT topic filter.
    pub topic: Option<String>,
    /// Died then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Died before then.
    pub until_us: Option<i64>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// Only those that are to be put back. Default: false.
    pub requested: Option<bool>,
    /// All there are.
    pub all: Option<bool>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LetterPage {
    pub letters: Vec<serde_json::Map<String, Value>>,
    /// How many match in all.
    pub matching: u64,
}

/// How many it was done to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Counted {
    pub letters: u64,
}
