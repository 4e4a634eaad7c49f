//! Which partitions are a lane's: what comes of them, and their state.

use tidegate_model::PartitionId;

/// One lane of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dealt {
    pub index: usize,
    /// At least one.
    pub lanes: usize,
}

impl Dealt {
    /// Whether that partition is this lane's.
    pub fn has(self, partition: PartitionId) -> bool {
        partition.index() % self.lanes == self.index
    }
}
