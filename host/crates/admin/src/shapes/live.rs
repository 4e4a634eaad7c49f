//! Messages, points and alerts as they pass, and as they are tried.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_model::Alert;

/// What is shown of what passes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TailQuery {
    /// An MQTT topic filter: `+` for one level, `#` for all that follow. Default: all.
    pub topic: Option<String>,
    /// Of `message`, `point` and `alert`, with commas between. Default: all of them.
    pub kind: Option<String>,
    /// The most rows in a second; what is beyond is counted in events `skipped`. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub rows_per_s: Option<u32>,
}

/// A message as it came.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SeenMessage {
    pub topic: String,
    /// When it was received: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// Its payload, where that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its payload in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Only the beginning of the payload is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<bool>,
    /// The broker had kept it: it may be old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<bool>,
    /// It comes from the dead letters, by an operator's wish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
    /// The source it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How it ended in its lane, in the words of the ledger: `decoded`, `stored`, `filtered`, `dead_lettered`, `dropped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// A point, taken and given.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeenPoint {
    /// Its series.
    #[schemars(length(min = 1, max = 65_535))]
    pub topic: String,
    /// Default: now.
    pub time_us: Option<i64>,
    /// Null where there is no number.
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Given only: just the beginning of the text is here, 4 KiB of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<bool>,
    /// OPC quality. Default: 192, good.
    pub quality: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Those of its series.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Given only: the row it came from; none if a tick made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
}

impl SeenPoint {
    /// About how many bytes of names and texts are shown.
    pub fn bytes(&self) -> usize {
        let labels = self.labels.iter().flat_map(|(name, value)| [name, value]);
        let texts = [&self.text, &self.unit].into_iter().flatten().chain(labels);
        self.topic.len() + texts.map(String::len).sum::<usize>()
    }
}

/// An alert, as it is sent or would be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct SeenAlert {
    /// The rule that sends it, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub topic: String,
    pub key: String,
    /// `raised`, `cleared` or `event`.
    pub transition: String,
    pub severity: String,
    pub time_us: i64,
    pub value: Option<f64>,
    pub message: String,
}

impl SeenAlert {
    /// About how many bytes of names and texts are shown.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.key.len() + self.message.len()
    }
}

impl From<&Alert> for SeenAlert {
    fn from(alert: &Alert) -> Self {
        Self {
            rule: Some(alert.rule.to_string()),
            topic: alert.topic.to_string(),
            key: alert.key.to_string(),
            transition: alert.transition.as_str().to_owned(),
            severity: alert.severity.as_str().to_owned(),
            time_us: alert.time_us,
            value: Some(alert.value).filter(|value| value.is_finite()),
            message: alert.message.clone(),
        }
    }
}
