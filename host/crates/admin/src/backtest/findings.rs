//! What a backtest has found, as it is shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::shapes::SeenAlert;

/// The most alerts that are shown; all are counted.
pub(super) const MAX_ALERTS: usize = 1_000;
/// The most faults and bad lines that are shown.
pub(super) const MAX_TOLD: usize = 20;
/// The most reasons of refusal that are told apart.
pub(super) const MAX_REASONS: usize = 20;

/// A backtest.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Backtest")]
pub(crate) struct Backtest {
    #[schemars(range(min = 1))]
    pub id: u64,
    /// The rule's name.
    pub rule: String,
    /// The sha256 of its module.
    pub module: String,
    pub state: JobState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was asked for: microseconds since 1970-01-01 UTC.
    pub asked_us: i64,
    /// How much of the history has been read, from 0 to 1; null where that is not known.
    pub done: Option<f64>,
    /// How long it has run.
    pub seconds: f64,
    #[serde(flatten)]
    pub findings: Findings,
}

impl JobState {
    /// Whether nothing more will come.
    pub const fn is_over(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// How far a backtest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// For its turn, or for its upload.
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// What the rule would have done.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Findings {
    pub rows: Rows,
    pub alerts: Alerts,
    /// The alerts themselves, as they would have been published; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alert_list: Vec<SeenAlert>,
    /// Messages it would have published.
    pub commands: u64,
    /// Rows on which it failed. Each alone is left out, and the rule goes on as if it had not been given it.
    pub faults: u64,
    /// The first 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fault_list: Vec<FaultShape>,
    /// Why rows were refused, and how many for each reason; 20 reasons are told apart.
    pub reasons: BTreeMap<String, u64>,
    /// Lines of an upload that could not be read; the first 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_lines: Vec<String>,
    /// How often it was called with rows.
    pub calls: u64,
    /// How often it was ticked: as the history's own time goes on.
    pub ticks: u64,
    /// CPU time of the ticks, in nanoseconds.
    pub tick_nanos: u64,
    /// CPU time of the calls with rows, in nanoseconds.
    pub nanos: u64,
    /// The same by row that it was given. More than in a lane where `calls` has few rows each, as where ticks part them.
    pub ns_per_row: f64,
    /// The times of the first and the last row it was given: microseconds since 1970-01-01 UTC.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Rows {
    /// Looked at in the history.
    pub read: u64,
    /// Given to the rule.
    pub given: u64,
    /// Of those, rows that went on with another value, time, quality or series.
    pub changed: u64,
    /// Rows it let fall.
    pub filtered: u64,
    /// Rows it refused.
    pub rejected: u64,
    /// Rows it kept for later.
    pub held: u64,
    /// Points that went on.
    pub out: u64,
    /// Points that a tick made.
    pub generated: u64,
    /// Rows of which there were too many names.
    pub nameless: u64,
    /// Lines that could not be read.
    pub bad_lines: u64,
    /// Rows of which the rules before it made nothing, where the history has messages: no decoder took them, or one refused them.
    pub lost_before: u64,
}

/// The alerts it would have published: what stands already and is raised again is no news, as in a lane.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Alerts {
    pub raised: u64,
    pub cleared: u64,
    pub events: u64,
    /// Those that stand at the end.
    pub standing: u64,
}

/// A row on which the rule failed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FaultShape {
    pub topic: String,
    pub time_us: i64,
    pub fault: String,
}

impl Findings {
    /// Without lists and reasons, which may be long, and may tell what was in the rows.
    pub fn in_short(&self) -> Self {
        let (alert_list, fault_list, bad_lines) = (Vec::new(), Vec::new(), Vec::new());
        Self { alert_list, fault_list, bad_lines, reasons: BTreeMap::new(), ..*self }
    }

    /// Counts refused rows of one reason.
    pub fn refused(&mut self, reason: &str) {
        self.rows.rejected += 1;
        let full = self.reasons.len() >= MAX_REASONS && !self.reasons.contains_key(reason);
        let reason = if full { "other reasons" } else { reason };
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Notes a line that cannot be read.
    pub fn bad_line(&mut self, what: String) {
        self.rows.bad_lines += 1;
        if self.bad_lines.len() < MAX_TOLD {
            self.bad_lines.push(what);
        }
    }
}
