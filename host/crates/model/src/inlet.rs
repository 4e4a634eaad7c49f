//! The door from sources to lanes.
//!
//! A source gathers messages into parcels, one open parcel a lane, and sends them when it has nothing more to
//! read: under load parcels are large, when quiet they are one message. The queue to a lane is bounded, so a
//! slow lane holds its sources back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use tokio::sync::mpsc;

use crate::health::Health;
use crate::{Ack, Books, Clock, Full, Marks, MessageLedger, Messages, TopicId};

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
        Self { rows: 1_000, bytes: 1 << 20 }
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
            intake: Intake::default(),
        }
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

    /// Empty parcels, one a lane. A token is what the source must know of a message to settle it; `ack` makes the ack of a
    /// parcel from its messages' tokens, in order of receipt.
    pub fn parcels<T>(&self, ack: impl Fn(Vec<T>) -> Ack + Send + 'static) -> Parcels<T> {
        self.intake.0.fetch_add(1, AcqRel);
        Parcels {
            inlet: self.clone(),
            shut: false,
            open: (0..self.lanes.len()).map(|_| (Messages::default(), Vec::new())).collect(),
            filled: 0,
            full: false,
            ack: Box::new(ack),
        }
    }
}

/// A source's open parcels.
pub struct Parcels<T> {
    inlet: Inlet,
    shut: bool,
    open: Vec<(Messages, Vec<T>)>,
    filled: usize,
    full: bool,
    ack: Box<dyn Fn(Vec<T>) -> Ack + Send>,
}

impl<T> Parcels<T> {
    /// Adds a message to the parcel of `lane`, both as [`Inlet::topic`] gave them; gives the parcel's messages and the row,
    /// for its properties.
    pub fn push(
        &mut self,
        (topic, lane): (TopicId, usize),
        received_us: i64,
        marks: Marks,
        payload: &[u8],
        token: T,
    ) -> (&mut Messages, u32) {
        let (messages, tokens) = &mut self.open[lane];
        let row = messages.push(topic, received_us, marks, payload);
        tokens.push(token);
        self.filled += 1;
        self.full |= messages.len() >= self.inlet.limits.rows || messages.bytes() >= self.inlet.limits.bytes;
        (messages, row)
    }

    /// Adds a message whose topic was refused by [`Inlet::topic`]: it goes to the dead letters, by way of lane 0.
    pub fn push_unnamed(&mut self, topic: &str, received_us: i64, marks: Marks, payload: &[u8], token: T) {
        let (messages, row) = self.push((TopicId::default(), 0), received_us, marks, payload, token);
        messages.unnamed.push((row, topic.into()));
    }

    /// Nothing more will be handed over by these: to be called while draining, once what was open is sent.
    pub fn shut(&mut self) {
        if !std::mem::replace(&mut self.shut, true) {
            self.inlet.intake.0.fetch_sub(1, AcqRel);
        }
    }

    /// Messages not sent yet.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether a parcel is full: send before taking more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Sends all parcels, waiting for room. May be dropped while it waits and called again: nothing is lost or sent twice.
    pub async fn send(&mut self) -> Result<(), InletClosed> {
        for lane in 0..self.open.len() {
            if !self.open[lane].0.is_empty() {
                let lanes = self.inlet.lanes.clone();
                let place = lanes[lane].reserve().await.map_err(|_| InletClosed)?;
                let parcel = self.close(lane);
                place.send(parcel);
            }
        }
        self.full = false;
        Ok(())
    }

    /// Sends the parcels there is room for now; gives whether all went.
    pub fn try_send(&mut self) -> Result<bool, InletClosed> {
        for lane in 0..self.open.len() {
            if !self.open[lane].0.is_empty() {
                let lanes = self.inlet.lanes.clone();
                match lanes[lane].try_reserve() {
                    Ok(place) => {
                        let parcel = self.close(lane);
                        place.send(parcel);
                    }
                    Err(mpsc::error::TrySendError::Full(())) => {}
                    Err(mpsc::error::TrySendError::Closed(())) => return Err(InletClosed),
                }
            }
        }
        if self.filled == 0 {
            self.full = false;
        }
        Ok(self.filled == 0)
    }

    fn close(&mut self, lane: usize) -> Parcel {
        let (messages, tokens) = std::mem::take(&mut self.open[lane]);
        self.filled -= messages.len();
        self.inlet.ledger.receive(messages.len() as u64);
        Parcel {
            source: self.inlet.source.clone(),
            ledger: self.inlet.ledger.clone(),
            messages,
            ack: (self.ack)(tokens),
        }
    }
}

impl<T> Drop for Parcels<T> {
    fn drop(&mut self) {
        self.shut();
    }
}
