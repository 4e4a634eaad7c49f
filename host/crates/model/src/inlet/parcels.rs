//! A source's open parcels: what it has read and no lane has yet.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::AcqRel;
use std::time::Instant;

use tokio::sync::mpsc;

use super::{Inlet, InletClosed, Parcel, ParcelLimits};
use crate::limit::Passage;
use crate::{Ack, Journaled, Marks, Messages, Sizes, TopicId};

impl Inlet {
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

    /// Adds a message whose topic was refused by [`Inlet::topic`]: it goes to the dead letters, and to sinks that take messages, by way of lane
    /// 0. Gives what [`Self::push`] does.
    pub fn push_unnamed(
        &mut self,
        topic: &str,
        received_us: i64,
        marks: Marks,
        payload: &[u8],
        token: T,
    ) -> (&mut Messages, u32) {
        let (messages, row) = self.push((TopicId::default(), 0), received_us, marks, payload, token);
        messages.unnamed.push((row, topic.into()));
        (messages, row)
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
