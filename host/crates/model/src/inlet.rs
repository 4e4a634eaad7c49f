//! The door from sources to lanes.
//!
//! A source gathers messages into parcels, one open parcel a lane, and sends them when it has nothing more to
//! read: under load parcels are large, when quiet they are one message. The queue to a lane is bounded, so a
//! slow lane holds its sources back.

mod parcels;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::health::Health;
use crate::limit::{Limiter, Limits};
use crate::{Ack, Books, Clock, Full, Journaled, MessageLedger, Messages, Sizes, TopicId};

pub use parcels::Parcels;

/// Messages on their way to a lane, and the promise to tell how they ended.
#[derive(Debug)]
pub struct Parcel {
    /// The source's name.
    pub source: Arc<str>,
    /// The source's account.
    pub ledger: Arc<MessageLedger>,
    /// The messages, all of one lane.
    pub messages: Messages,
    /// Stands for all of them.
    pub ack: Ack,
    /// Which they are, where the ack is to wait until the state that has them is on disk.
    pub journaled: Option<Box<Journaled>>,
}

/// When a parcel is full.
#[derive(Clone, Copy, Debug)]
pub struct ParcelLimits {
    /// Messages.
    pub rows: usize,
    /// Bytes of payload; one message may exceed it alone.
    pub bytes: usize,
}

impl Default for ParcelLimits {
    fn default() -> Self {
        Self { rows: 1_000, bytes: 256 << 10 }
    }
}

impl ParcelLimits {
    /// What of these sizes a parcel may be expected to have: one message alone may have had more.
    fn cap(self, sizes: Sizes) -> Sizes {
        Sizes {
            rows: sizes.rows.min(self.rows),
            payload_bytes: sizes.payload_bytes.min(self.bytes),
            properties: sizes.properties.min(self.rows),
            property_bytes: sizes.property_bytes.min(self.bytes),
        }
    }
}

/// The host has closed the lanes: nothing more can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lanes are closed")]
pub struct InletClosed;

/// What a source is given: the way to the lanes. Cheap to clone, for sources with several connections.
#[derive(Clone, Debug)]
pub struct Inlet {
    source: Arc<str>,
    books: Arc<Books>,
    ledger: Arc<MessageLedger>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    lanes: Arc<[mpsc::Sender<Parcel>]>,
    limits: ParcelLimits,
    limiter: Option<Arc<Mutex<Limiter>>>,
    intake: Intake,
}

/// How many [`Parcels`] of a source may still hand something over. Lanes are closed only when there are none: a parcel that came
/// too late would leave a gap in the order of acknowledgement, and all behind the gap would be delivered again.
#[derive(Clone, Debug, Default)]
pub struct Intake(Arc<AtomicUsize>);

impl Intake {
    /// Whether nothing will be handed over any more, unless the source opens new parcels.
    pub fn is_shut(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

impl Inlet {
    /// A door for the source of that name to these lanes (at least one).
    pub fn new(
        source: Arc<str>,
        books: Arc<Books>,
        clock: Arc<dyn Clock>,
        lanes: Vec<mpsc::Sender<Parcel>>,
        limits: ParcelLimits,
    ) -> Self {
        Self {
            source,
            books,
            ledger: Arc::default(),
            health: Arc::default(),
            clock,
            lanes: lanes.into(),
            limits,
            limiter: None,
            intake: Intake::default(),
        }
    }

    /// The same door, with a limit on how fast messages may come through it.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limiter = Limiter::new(limits, Instant::now()).map(|limiter| Arc::new(Mutex::new(limiter)));
        self
    }

    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The same door for messages that came by way of another source before: they are accounted for here, and bear its name.
    #[must_use]
    pub fn on_behalf_of(&self, source: Arc<str>) -> Self {
        Self { source, ..self.clone() }
    }

    /// The source's account.
    pub fn ledger(&self) -> &Arc<MessageLedger> {
        &self.ledger
    }

    /// Whether the source may still hand something over.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Where the source says how it is.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    /// The id of a topic, and the lane its partition belongs to. Takes a lock: ask once a topic and keep the answer.
    pub fn topic(&self, name: &str, partition: &str) -> Result<(TopicId, usize), Full> {
        let id = self.books.intern_topic(name, partition)?;
        let partition = self.books.topic(id).map_or(0, |topic| topic.partition.index());
        Ok((id, partition % self.lanes.len().max(1)))
    }

    /// The name of a topic, and that of the partition it belongs to. Takes no lock.
    pub fn partition_of(&self, topic: TopicId) -> Option<(&str, &str)> {
        let topic = self.books.topic(topic)?;
        Some((&topic.name, self.books.partition(topic.partition)?))
    }

    /// The lane of a partition, for messages whose order is not that of their topics: the lane that rules' stored state of that partition
    /// goes to as well. Takes a lock.
    pub fn lane_of(&self, partition: &str) -> Result<usize, Full> {
        let partition = self.books.intern_partition(partition)?;
        Ok(partition.index() % self.lanes.len().max(1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
