//! Rows of a history for one call of a rule.

use tidegate_model::{Messages, Points};

/// Rows for one call.
pub(super) enum Batch {
    Points(Points),
    Messages(Messages),
}

impl Batch {
    pub fn len(&self) -> usize {
        match self {
            Batch::Points(points) => points.len(),
            Batch::Messages(messages) => messages.len(),
        }
    }

    pub fn gather(&self, rows: &[u32]) -> Self {
        match self {
            Batch::Points(points) => Batch::Points(points.gather(rows)),
            Batch::Messages(messages) => Batch::Messages(messages.gather(rows)),
        }
    }

    /// Bytes of the payload or text of a row.
    pub fn bytes_of(&self, row: u32) -> usize {
        match self {
            Batch::Points(points) => points.texts.get(row).map_or(0, <[u8]>::len),
            Batch::Messages(messages) => messages.payload.get(row as usize).len(),
        }
    }

    pub fn times(&self) -> &[i64] {
        match self {
            Batch::Points(points) => &points.time_us,
            Batch::Messages(messages) => &messages.received_us,
        }
    }
}
