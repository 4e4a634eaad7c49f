//! The durable queue in front of a sink: what it promises to the pipeline.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{DeadLetter, Delivery};

/// Keeps deliveries on disk, in order, while their sink cannot take them. What it has appended may be acknowledged; it
/// survives the process, and is given back until it is removed: at least once.
#[async_trait]
pub trait Spool: Send + Sync + fmt::Debug {
    /// Appends one record for each delivery, all or none. `Ok` means on disk: the messages may be acknowledged. Gives the id of the
    /// last record.
    ///
    /// # Errors
    /// Nothing was appended, as far as the spool knows; after a failed disk it may find the records all the same.
    async fn append(&self, deliveries: &[Arc<Delivery>]) -> Result<RecordId, SpoolError>;

    /// The oldest records, in order, until they have `rows` rows or are many bytes; empty when nothing stands in the spool. Records that
    /// cannot be read any more are set aside and counted, and the next ones given.
    ///
    /// # Errors
    /// The spool cannot be read now.
    async fn oldest(&self, rows: usize) -> Result<Vec<Spooled>, SpoolError>;

    /// Forgets the records up to and including `through`.
    ///
    /// # Errors
    /// They are still there, and will be given again.
    async fn remove(&self, through: RecordId) -> Result<(), SpoolError>;

    /// How full it is and what it has done; without waiting for the disk.
    fn totals(&self) -> SpoolTotals;

    /// What new deliveries do while older ones stand in the spool.
    fn order(&self) -> SpoolOrder;

    /// Closes the file. What stands in it stays.
    async fn close(&self);
}

/// A record's number: counts up from 1, in the order of appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// A record as it comes back.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// Its number.
    pub id: RecordId,
    /// The sink's part of what was appended, with the ids of this process.
    pub delivery: Arc<Delivery>,
    /// Points that cannot be given an id in this process (`max_series`): to be written as dead letters before the record is removed.
    pub unplaced: Vec<DeadLetter>,
}

/// What new deliveries do while older ones stand in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolOrder {
    /// They are appended behind: the sink gets everything in order.
    #[default]
    Kept,
    /// Once the sink works again they go to it at once, and the spool is drained in between.
    LiveFirst,
}

/// Why a spool did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// It has reached its bound, and is not to drop anything.
    #[error("the spool is full: {bytes} of {max_bytes} bytes; bring the sink back, or raise `max_mib` of its spool")]
    Full {
        /// What stands in it.
        bytes: u64,
        /// What may.
        max_bytes: u64,
    },
    /// The file cannot be used now; it may be later.
    #[error("{0}")]
    Unavailable(String),
}

/// How full a spool is and what it has done. Rows are messages, points, alerts, commands and dead letters together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SpoolTotals {
    /// Records that stand in it.
    pub records: u64,
    /// Rows that stand in it.
    pub rows: u64,
    /// Bytes of the records that stand in it.
    pub bytes: u64,
    /// What `bytes` may become.
    pub max_bytes: u64,
    /// Rows appended since the start.
    pub appended: u64,
    /// Rows that the sink took from it since the start.
    pub drained: u64,
    /// Rows dropped since the start, the oldest first, since it was full and told to drop.
    pub dropped: u64,
    /// Records found damaged since the start: set aside, or gone.
    pub damaged_records: u64,
    /// Files moved aside since the start since they could not be read as they were; what was whole in them was taken over.
    pub damaged_files: u64,
    /// Why it cannot be used now, if it cannot.
    pub unusable: Option<String>,
}
