//! Where deliveries go.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Delivery, OriginIs};

/// A target of messages, points, alerts, commands or dead letters. It writes; when to write, to try again and to
/// acknowledge is the pipeline's business.
#[async_trait]
pub trait Sink: Send {
    /// Which parts of a delivery it takes: constant over its life.
    fn wants(&self) -> Wants;

    /// Writes its part of all these deliveries, in order. `Ok` means durable: the messages may be acknowledged.
    /// It connects when it must, so a target that is down is [`SinkError::Retry`], and may be called again with the same
    /// deliveries: at least once.
    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError>;

    /// Where it is told, before a write, what the next one will bring: to be made ready while the target works, in this process and no further. It is lent,
    /// and may come later, in other company or not at all. None of a sink that makes nothing ready.
    fn upcoming(&mut self) -> Option<&mut Vec<Arc<Delivery>>> {
        None
    }

    /// Points of a time before this are slow to store, and need no order with others: they may be given to another sink of this kind,
    /// so that none of the others waits for them. None where there are none such, or it is not known yet.
    fn late_before_us(&self) -> Option<i64> {
        None
    }

    /// Ends connections, after the last write.
    async fn close(&mut self) {}
}

/// Which parts of a delivery a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Messages as they came.
    pub messages: RawMessages,
    /// Points.
    pub points: bool,
    /// Alerts.
    pub alerts: bool,
    /// Commands.
    pub commands: bool,
    /// Dead letters.
    pub dead_letters: bool,
    /// How far logs have come, points or not.
    pub positions: bool,
}

/// The messages that a sink takes as they came, decoded or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RawMessages {
    /// None.
    #[default]
    None,
    /// Those of every source.
    All,
    /// Those of the sources of these names.
    Of(Arc<[Arc<str>]>),
}

impl RawMessages {
    /// Whether there can be any.
    pub fn any(&self) -> bool {
        *self != RawMessages::None
    }

    /// Whether those of `source` are among them.
    pub fn are_of(&self, source: &str) -> bool {
        match self {
            RawMessages::None => false,
            RawMessages::All => true,
            RawMessages::Of(names) => names.iter().any(|name| **name == *source),
        }
    }

    /// These and those of `other`.
    #[must_use]
    pub fn with(&self, other: &RawMessages) -> RawMessages {
        match (self, other) {
            (RawMessages::None, some) | (some, RawMessages::None) => some.clone(),
            (RawMessages::All, _) | (_, RawMessages::All) => RawMessages::All,
            (RawMessages::Of(one), RawMessages::Of(other)) => {
                RawMessages::Of(one.iter().chain(other.iter()).cloned().collect())
            }
        }
    }
}

impl Wants {
    /// How many rows of `delivery` such a sink writes.
    pub fn rows_of(&self, delivery: &Delivery) -> usize {
        let part = |wanted: bool, rows: usize| if wanted { rows } else { 0 };
        delivery.raw_rows(&self.messages).count()
            + part(self.points, delivery.points.len())
            + part(self.alerts, delivery.alerts.len())
            + part(self.commands, delivery.commands.len())
            + part(self.dead_letters, delivery.dead_letters.len())
    }

    /// What of a delivery that was spooled for such a sink it does not take any more: it was taken out of a source's hands, so it must
    /// not be passed over.
    pub fn lacks(&self, spooled: &Delivery) -> Option<&'static str> {
        let chosen = matches!(spooled.origin_is, OriginIs::Chosen(_));
        let parts = [
            (chosen && !self.messages.any(), "messages"),
            (!self.points && !spooled.points.is_empty(), "points"),
            (!self.alerts && !spooled.alerts.is_empty(), "alerts"),
            (!self.commands && !spooled.commands.is_empty(), "commands"),
            (!self.dead_letters && !spooled.dead_letters.is_empty(), "dead letters"),
        ];
        parts.into_iter().find_map(|(lacking, part)| lacking.then_some(part))
    }

    /// Whether there is something in `delivery` for such a sink.
    pub fn any_of(&self, delivery: &Delivery) -> bool {
        (self.points && !delivery.points.is_empty())
            || (self.alerts && !delivery.alerts.is_empty())
            || (self.commands && !delivery.commands.is_empty())
            || (self.dead_letters && !delivery.dead_letters.is_empty())
            || delivery.raw_rows(&self.messages).next().is_some()
            || (self.positions && !delivery.positions.is_empty())
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
    /// Of the points, those for a part of the table that may be compressed, which is slow.
    pub late: u64,
    /// Points the target will never take.
    pub rejected: Vec<Rejected>,
    /// Messages the target will never take; their rows are those of the delivery's `origin`.
    pub rejected_messages: Vec<Rejected>,
}

/// A point, or a message, the target will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which of the deliveries.
    pub delivery: usize,
    /// Which of its points, or messages.
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
    /// What it has stored of a log went back, behind what it is given: that goes back to its source, which reads again what is missing.
    #[error("{0}")]
    WentBack(String),
}
