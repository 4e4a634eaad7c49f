//! Parts of how the host is, where they are put together here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_model::{MessageTotals, PointTotals, SpoolTotals};

/// How all messages and points ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ledger {
    /// All sources' accounts together.
    pub messages: MessageTotals,
    /// The points' account.
    pub points: PointTotals,
    /// The messages' account of each source.
    pub by_source: BTreeMap<String, MessageTotals>,
    /// Accounts that do not balance though they stood still: a bug of the host.
    pub wrong: Vec<String>,
}

/// The spool of a sink.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OneSpool {
    /// The sink that it stands before.
    pub sink: String,
    #[serde(flatten)]
    pub totals: SpoolTotals,
}

/// Which state of a rule is to be forgotten; all of it if nothing is said.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetQuery {
    /// That of this series only: its topic.
    pub series: Option<String>,
    /// That of this partition and its series only: its name, which is a topic where `lane_by` says nothing else.
    pub partition: Option<String>,
}

/// What was forgotten.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StateReset {
    /// How many series and partitions had state.
    pub cells: usize,
    /// Whether that is on disk. If not, it will be once the sinks have confirmed what came before; a crash till then brings state and alerts back.
    pub durable: bool,
}
