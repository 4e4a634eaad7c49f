//! The door from sources to lanes.
//!
//! A source gathers messages into parcels, one open parcel a lane, and sends them when it has nothing more to
//! read: under load parcels are large, when quiet they are one message. The queue to a lane is bounded, so a
//! slow lane holds its sources back.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::health::Health;
use crate::limit::{Limiter, Limits, Passage};
use crate::{Ack, Books, Clock, Full, Journaled, Marks, MessageLedger, Messages, Sizes, TopicId};

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

    /// The lane of a partition, for messages whose order is not that of their topics: the lane that rules' stored state of that partition
    /// goes to as well. Takes a lock.
    pub fn lane_of(&self, partition: &str) -> Result<usize, Full> {
        let partition = self.books.intern_partition(partition)?;
        Ok(partition.index() % self.lanes.len().max(1))
    }

    /// Empty parcels, one a lane. A token is what the source must know of a message to settle it; `ack` makes the ack of a
    /// parcel from its messages' tokens, in order of receipt.
    pub fn parcels<T>(&self, ack: impl Fn(Vec<T>) -> Ack + Send + 'static) -> Parcels<T> {
        self.intake.0.fetch_add(1, AcqRel);
        Parcels {
            inlet: self.clone(),
            shut: false,
            open: (0..self.lanes.len()).map(|_| VecDeque::from([Open::default()])).collect(),
            expected: vec![Sizes::default(); self.lanes.len()],
            filled: 0,
            full: false,
            held_until: None,
            ack: Box::new(ack),
            journaled: None,
        }
    }
}

/// A parcel before it is sent.
struct Open<T> {
    messages: Messages,
    tokens: Vec<T>,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self { messages: Messages::default(), tokens: Vec::new() }
    }
}

impl<T> Open<T> {
    fn is_full(&self, limits: ParcelLimits) -> bool {
        self.messages.len() >= limits.rows || self.messages.bytes() >= limits.bytes
    }
}

/// A source's open parcels.
pub struct Parcels<T> {
    inlet: Inlet,
    shut: bool,
    /// By lane, oldest first: those that were full when the lane had no room, and the one that grows; there is always one.
    open: Vec<VecDeque<Open<T>>>,
    /// By lane, how large the last parcel was: the next has room for as much when it gets its first message, so that none is held while
    /// nothing comes.
    expected: Vec<Sizes>,
    filled: usize,
    full: bool,
    /// When the next message that a limit holds may go.
    held_until: Option<Instant>,
    ack: Box<dyn Fn(Vec<T>) -> Ack + Send>,
    journaled: Option<Box<Journal<T>>>,
}

/// Says which messages a parcel has.
type Journal<T> = dyn Fn(&[T], &mut Messages) -> Option<Box<Journaled>> + Send;

impl<T> Parcels<T> {
    /// The same parcels, whose acks wait for the state that has their messages: `journaled` says which these are, from their tokens and columns.
    #[must_use]
    pub fn journaled(
        mut self,
        journaled: impl Fn(&[T], &mut Messages) -> Option<Box<Journaled>> + Send + 'static,
    ) -> Self {
        self.journaled = Some(Box::new(journaled));
        self
    }

    /// Adds a message to the parcel of `lane`, both as [`Inlet::topic`] gave them; gives the parcel's messages and the row,
    /// for its properties.
    #[inline]
    pub fn push(
        &mut self,
        (topic, lane): (TopicId, usize),
        received_us: i64,
        marks: Marks,
        payload: &[u8],
        token: T,
    ) -> (&mut Messages, u32) {
        let (limits, parcels) = (self.inlet.limits, &mut self.open[lane]);
        if parcels.back().is_none_or(|open| open.is_full(limits)) {
            parcels.push_back(Open::default());
        }
        let last = parcels.len() - 1;
        let Open { messages, tokens } = &mut parcels[last];
        if tokens.is_empty() {
            let expected = self.expected[lane];
            messages.reserve(expected);
            tokens.reserve(expected.rows);
        }
        let row = messages.push(topic, received_us, marks, payload);
        tokens.push(token);
        self.filled += 1;
        self.full |= messages.len() >= limits.rows || messages.bytes() >= limits.bytes;
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

    /// Bytes of payloads and properties not sent yet.
    pub fn bytes(&self) -> usize {
        self.open.iter().flatten().map(|open| open.messages.bytes()).sum()
    }

    /// Sends all parcels, waiting for room and for what a limit holds. May be dropped while it waits and called again: nothing is
    /// lost or sent twice.
    pub async fn send(&mut self) -> Result<(), InletClosed> {
        while !self.is_empty() {
            self.send_some().await?;
        }
        Ok(())
    }

    /// Sends what there is room for, waiting until there is some for a parcel, or until a limit lets a message pass: then there
    /// may be more to send. May be dropped while it waits and called again.
    pub async fn send_some(&mut self) -> Result<(), InletClosed> {
        let before = self.filled;
        if self.try_send()? || self.filled < before {
            return Ok(());
        }
        match self.held_until {
            Some(until) => tokio::time::sleep_until(until.into()).await,
            None => {
                let Some(lane) = (0..self.open.len()).find(|&lane| self.waits(lane)) else {
                    return Ok(());
                };
                let lanes = self.inlet.lanes.clone();
                drop(lanes[lane].reserve().await.map_err(|_| InletClosed)?);
            }
        }
        self.try_send().map(drop)
    }

    /// Sends the parcels there is room for now; gives whether all went.
    pub fn try_send(&mut self) -> Result<bool, InletClosed> {
        let held = self.held_until.take();
        if let Some(until) = held
            && Instant::now() < until
        {
            self.held_until = held;
            return Ok(self.filled == 0);
        }
        for lane in 0..self.open.len() {
            while self.waits(lane) && self.held_until.is_none() {
                let lanes = self.inlet.lanes.clone();
                match lanes[lane].try_reserve() {
                    Ok(place) => {
                        if let Some(parcel) = self.close(lane) {
                            place.send(parcel);
                        }
                    }
                    Err(mpsc::error::TrySendError::Full(())) => break,
                    Err(mpsc::error::TrySendError::Closed(())) => return Err(InletClosed),
                }
            }
        }
        if self.filled == 0 {
            self.full = false;
        }
        Ok(self.filled == 0)
    }

    /// Whether something waits for a lane.
    fn waits(&self, lane: usize) -> bool {
        self.open[lane].front().is_some_and(|open| !open.messages.is_empty())
    }

    /// Closes the oldest parcel of a lane, or as much of it as the limits let pass.
    fn close(&mut self, lane: usize) -> Option<Parcel> {
        let parcels = &mut self.open[lane];
        let Open { mut messages, mut tokens } = parcels.pop_front()?;
        if parcels.is_empty() {
            parcels.push_back(Open::default());
        }
        if let Some(limiter) = &self.inlet.limiter {
            let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
            if let Passage::Until(rows, at) = limiter.pass(Instant::now(), &self.inlet.books, &mut messages) {
                self.held_until = Some(self.held_until.map_or(at, |other| other.min(at)));
                let (passed, held) = (messages.split_to(rows), tokens.split_off(rows));
                if self.open[lane].front().is_some_and(|open| open.messages.is_empty()) {
                    self.open[lane].clear();
                }
                self.open[lane].push_front(Open { messages, tokens: held });
                messages = passed;
            }
        }
        if messages.is_empty() {
            return None;
        }
        self.expected[lane] = self.inlet.limits.cap(messages.sizes());
        self.filled -= messages.len();
        self.inlet.ledger.receive(messages.len() as u64);
        let journaled = self.journaled.as_ref().and_then(|journaled| journaled(&tokens, &mut messages));
        Some(Parcel {
            source: self.inlet.source.clone(),
            ledger: self.inlet.ledger.clone(),
            messages,
            ack: (self.ack)(tokens),
            journaled,
        })
    }
}

impl<T> Drop for Parcels<T> {
    fn drop(&mut self) {
        self.shut();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
