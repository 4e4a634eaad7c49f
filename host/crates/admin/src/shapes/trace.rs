//! One message through every rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SeenMessage, SeenPoint, TrialOutput};

/// Which message, of those that pass.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceNext {
    /// An MQTT topic filter. Default: all.
    pub topic: Option<String>,
    /// How long it is waited for, in seconds. Default: 10.
    #[schemars(range(min = 1, max = 60))]
    pub within_s: Option<u32>,
}

/// The way of one message.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TraceOutput {
    /// As it went in. Of one that passed, `ended` says how it really ended in its lane.
    pub message: SeenMessage,
    /// How it ends in this trace: `decoded`, `filtered` or `dead_lettered`.
    pub ended: String,
    /// Why, if it does not become points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rules that got something of it, in the order they run in; each begins without state.
    pub steps: Vec<TraceStep>,
    /// Points that go to the sinks; the first 200.
    pub points: Vec<SeenPoint>,
    /// How many do in all.
    pub points_out: u64,
}

/// One rule.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TraceStep {
    pub rule: String,
    /// `decoder` or `processor`.
    pub kind: String,
    pub generation: u64,
    /// The points it is given, if it is no decoder; the first 200.
    pub given: Vec<SeenPoint>,
    /// How many rows it is given.
    pub rows_in: u64,
    /// How many come out of it and go on.
    pub rows_out: u64,
    /// All it does, of each sort the first 200.
    pub did: TrialOutput,
}
