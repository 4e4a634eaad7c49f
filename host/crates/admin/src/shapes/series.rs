//! Series: which, and pages of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which series.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesQuery {
    /// An MQTT topic filter: `+` for one level, `#` for all that follow. Default: all.
    pub topic: Option<String>,
    /// A part of the topic.
    pub contains: Option<String>,
    /// Go on from here: the `next` of the page before.
    pub after: Option<u32>,
    /// How many at most, up to 1000. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// A page of series.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Series<'a> {
    pub series: Vec<OneSeries<'a>>,
    /// What to ask for with `after`, if there may be more.
    pub next: Option<u32>,
    /// How many are known in all.
    pub known: u32,
}

/// One series.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OneSeries<'a> {
    /// Its identity.
    pub topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'a str>,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<&'a str, &'a str>,
}
