//! Where messages come from.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::Inlet;

/// A supplier of messages: it hands them to the [`Inlet`], each with an [`crate::Ack`], and settles with its broker
/// what those acks say.
#[async_trait]
pub trait Source: Send {
    /// Runs until `phase` is [`Phase::Closed`] and all is settled that can be, reconnecting for ever.
    /// An error ends the source for good: a setting that cannot work, found too late for `check`.
    async fn run(self: Box<Self>, inlet: Inlet, phase: PhaseWatch) -> Result<(), SourceError>;
}

/// In which part of its life the host is. Goes forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Take messages.
    Running,
    /// Take no more: hand over what was taken, shut the parcels ([`crate::Parcels::shut`]), leave what arrives unacknowledged, keep the
    /// connection alive and go on settling.
    Draining,
    /// All acks have come that will: send what is settled, and go.
    Closed,
}

/// A view of the phase.
pub type PhaseWatch = watch::Receiver<Phase>;

/// Why a source ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
