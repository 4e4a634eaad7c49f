//! What a reading of a shadow's report tells.

use schemars::JsonSchema;
use serde::Serialize;

/// How a shadow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShadowState {
    /// It is given what the rule is given.
    #[default]
    Running,
    /// It failed too often.
    Stopped,
    /// The rule has been replaced, switched off or taken away since; or the shadow has become what serves.
    Ended,
}

/// A reading of [`ShadowReport`].
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShadowTotals {
    /// How it is.
    pub state: ShadowState,
    /// Why it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Calls compared, and rows in them.
    pub batches: u64,
    /// See `batches`.
    pub rows: u64,
    /// Calls that passed it by, since it had used up its share of the time, and rows in them.
    pub skipped_batches: u64,
    /// See `skipped_batches`.
    pub skipped_rows: u64,
    /// Rows of which it made something else.
    pub rows_changed: u64,
    /// Rows refused by the serving one.
    pub rejected_serving: u64,
    /// Rows refused by the candidate.
    pub rejected_candidate: u64,
    /// Alerts that only the serving one sent.
    pub alerts_only_serving: u64,
    /// Alerts that only the candidate would have sent.
    pub alerts_only_candidate: u64,
    /// Commands of the serving one.
    pub commands_serving: u64,
    /// Commands of the candidate.
    pub commands_candidate: u64,
    /// Points that ticks of the serving one made.
    pub generated_serving: u64,
    /// Points that ticks of the candidate made.
    pub generated_candidate: u64,
    /// Nanoseconds a row in the serving one, in the calls compared.
    pub ns_per_row_serving: f64,
    /// Nanoseconds a row in the candidate, in the same calls.
    pub ns_per_row_candidate: f64,
    /// What the shadow has cost the lanes, comparing included: nanoseconds.
    pub cost_nanos: u64,
    /// The most it may cost a lane: percent of its time.
    pub max_share_percent: f64,
    /// Linear memory of its instances, and the alerts that stand by their state: bytes.
    pub memory_bytes: u64,
    /// How often it failed; each time it began anew, without state.
    pub faults: u64,
    /// The last of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<String>,
    /// The newest rows that differ, at most a hundred.
    pub row_differences: Vec<RowDifference>,
    /// The newest alerts that only one of them sent, at most a hundred.
    pub alert_differences: Vec<AlertDifference>,
}

impl ShadowTotals {
    /// Without the rows and alerts in which they differ.
    #[must_use]
    pub fn in_short(self) -> Self {
        Self { row_differences: Vec::new(), alert_differences: Vec::new(), ..self }
    }
}

/// A row of which the two made something else.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RowDifference {
    /// The message's topic, or the point's series; empty for what came of no row.
    pub topic: String,
    /// When it was received or measured: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// What the serving one made of it.
    pub serving: RowMade,
    /// What the candidate made of it.
    pub candidate: RowMade,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RowMade {
    /// `passed`, `filtered`, `rejected` or `held`.
    pub outcome: &'static str,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first points made of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub points: Vec<PointMade>,
}

/// A point as it would go on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PointMade {
    /// Its series.
    pub topic: String,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// None where there is no number.
    pub value: Option<f64>,
    /// Its text, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// OPC quality, and this house's flags.
    pub quality: u16,
}

/// An alert that only one of them sent.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AlertDifference {
    /// Who sent it: `serving` or `candidate`.
    pub only: &'static str,
    /// The series it is about.
    pub topic: String,
    /// Tells apart several of one rule on one series.
    pub key: String,
    /// `raised`, `cleared` or `event`.
    pub transition: &'static str,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// The reading that caused it.
    pub value: Option<f64>,
    /// For people.
    pub message: String,
}
