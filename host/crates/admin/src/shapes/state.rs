//! Parts of how the host is, where they are put together here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
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
