//! What a lane has done, as others read it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::Serialize;

/// Which rules a lane runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LaneKind {
    /// Those whose state belongs to series or partitions, or that have none: on the messages of its share of the partitions.
    #[default]
    Partitions,
    /// Those whose state belongs to the whole node: on the rows that the other lanes hand over.
    Node,
}

/// One lane among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId {
    pub kind: LaneKind,
    pub index: usize,
}

/// What a lane has done.
#[derive(Debug, Default)]
pub struct LaneStatus {
    pub(super) kind: LaneKind,
    pub(super) rules: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) busy_nanos: AtomicU64,
    pub(super) changing_nanos: AtomicU64,
    pub(super) changing_cpu_nanos: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) memory_bytes: AtomicU64,
}

/// A reading of [`LaneStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LaneTotals {
    /// Which rules it runs.
    pub kind: LaneKind,
    /// How many rules it runs.
    pub rules: u64,
    /// Batches taken.
    pub batches: u64,
    /// Messages in them; points on the node's lane.
    pub rows: u64,
    /// Time spent on them, waiting for sinks included: nanoseconds.
    pub busy_nanos: u64,
    /// Time in which batches waited since its rules were changed: nanoseconds.
    pub changing_nanos: u64,
    /// What of it the lane worked: nanoseconds of CPU time. For the rest it had no processor.
    pub changing_cpu_nanos: u64,
    /// Parcels in its queue when it last looked; batches on the node's lane.
    pub waiting: u64,
    /// Linear memory of its rules: bytes.
    pub memory_bytes: u64,
}

impl LaneStatus {
    /// Of a lane that has done nothing yet.
    pub(crate) fn new(kind: LaneKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// A reading.
    pub fn totals(&self) -> LaneTotals {
        LaneTotals {
            kind: self.kind,
            rules: self.rules.load(Relaxed),
            batches: self.batches.load(Relaxed),
            rows: self.rows.load(Relaxed),
            busy_nanos: self.busy_nanos.load(Relaxed),
            changing_nanos: self.changing_nanos.load(Relaxed),
            changing_cpu_nanos: self.changing_cpu_nanos.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
        }
    }
}
