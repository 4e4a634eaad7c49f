//! Alerts that stand, and those that were published last.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SeenAlert;

/// Which alerts that stand.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertQuery {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of series that match this MQTT topic filter.
    pub topic: Option<String>,
    /// How many at most, the oldest; up to 10000. Default: 1000.
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: Option<u32>,
}

/// Which alerts that were published.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastQuery {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of series that match this MQTT topic filter.
    pub topic: Option<String>,
    /// Of then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Of before then.
    pub until_us: Option<i64>,
    /// Go on from here: the `next` of the page before.
    pub before: Option<u64>,
    /// How many at most, up to 1000. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// A page of alerts that were published, the newest first. The host keeps the last 10,000 since its start, and fewer where their texts
/// are long; the stores that take alerts have all of them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PastAlerts {
    pub alerts: Vec<SeenAlert>,
    /// What to ask for with `before`, if there may be more.
    pub next: Option<u64>,
}
