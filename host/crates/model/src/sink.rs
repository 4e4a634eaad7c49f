//! Where deliveries go.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Delivery;

/// A target of points, alerts, commands or dead letters. It writes; when to write, to try again and to
/// acknowledge is the pipeline's business.
#[async_trait]
pub trait Sink: Send {
    /// Which parts of a delivery it takes: constant over its life.
    fn wants(&self) -> Wants;

    /// Writes its part of all these deliveries, in order. `Ok` means durable: the messages may be acknowledged.
    /// It connects when it must, so a target that is down is [`SinkError::Retry`], and may be called again with the same
    /// deliveries: at least once.
    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError>;

    /// Ends connections, after the last write.
    async fn close(&mut self) {}
}

/// Which parts of a delivery a sink takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Points.
    pub points: bool,
    /// Alerts.
    pub alerts: bool,
    /// Commands.
    pub commands: bool,
    /// Dead letters.
    pub dead_letters: bool,
}

impl Wants {
    /// How many rows of `delivery` such a sink writes.
    pub fn rows_of(&self, delivery: &Delivery) -> usize {
        let part = |wanted: bool, rows: usize| if wanted { rows } else { 0 };
        part(self.points, delivery.points.len())
            + part(self.alerts, delivery.alerts.len())
            + part(self.commands, delivery.commands.len())
            + part(self.dead_letters, delivery.dead_letters.len())
    }

    /// Whether there is something in `delivery` for such a sink.
    pub fn any_of(&self, delivery: &Delivery) -> bool {
        (self.points && !delivery.points.is_empty())
            || (self.alerts && !delivery.alerts.is_empty())
            || (self.commands && !delivery.commands.is_empty())
            || (self.dead_letters && !delivery.dead_letters.is_empty())
    }
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Points made durable.
    pub points: u64,
    /// Alerts made durable.
    pub alerts: u64,
    /// Of the points, those that were durable already, by topic and time, and were not written again.
    pub repeats: u64,
    /// Of the repeats, those whose value is not the one that is stored.
    pub differing: u64,
    /// Points the target will never take.
    pub rejected: Vec<Rejected>,
}

/// A point the target will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which of the deliveries.
    pub delivery: usize,
    /// Which of its points.
    pub row: u32,
    /// Why, for people.
    pub reason: String,
}

/// Why nothing of a write counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It may work later; all of it is tried again.
    #[error("{0}")]
    Retry(String),
    /// It will not work until somebody acts (a missing permission, a table of another shape). It is tried again, seldom.
    #[error("{0}")]
    NeedsOperator(String),
}
