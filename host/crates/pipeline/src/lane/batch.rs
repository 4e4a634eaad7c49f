//! A batch: the parcels a lane has taken together, and how each of their messages ends.

use std::sync::{Arc, PoisonError};

use tidegate_model::{
    Ack, Journaled, Latency, Marks, MessageLedger, Messages, Outcome, Parcel, RawMessages, Refused, Sizes, Tally,
};

/// Enough for large batches of telemetry, and little enough that a decoder's memory (16 MiB unless its file says otherwise) holds the
/// payloads and what it makes of them. One parcel, and so one message, may exceed it alone.
const BATCH_BYTES: usize = 1 << 20;

/// Messages of one or more parcels, in order.
pub(crate) struct Batch {
    pub messages: Messages,
    parcels: Vec<Share>,
    /// Of sources with a journal: so many messages, and the half of their ack that waits for the state.
    pub journaled: Vec<(Journaled, usize, Ack)>,
}

/// One parcel's share of a batch.
struct Share {
    first_row: u32,
    rows: u32,
    source: Arc<str>,
    ledger: Arc<MessageLedger>,
    ack: Ack,
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody made anything of it.
    Filtered,
    /// Sinks take it as it came, and nobody made anything else of it.
    Stored,
    /// Points came of it, or a decoder holds it.
    Decoded,
    /// It goes to the dead letters.
    DeadLettered,
    /// It was beyond a limit whose excess is dropped.
    Dropped,
}

impl Fate {
    /// The word used in JSON, which is that of the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fate::Filtered => "filtered",
            Fate::Stored => "stored",
            Fate::Decoded => "decoded",
            Fate::DeadLettered => "dead_lettered",
            Fate::Dropped => "dropped",
        }
    }
}

impl Batch {
    /// Begins with `first`; `next` gives the parcels that are waiting, until there are `rows`, or [`BATCH_BYTES`] of payload.
    pub fn gather(first: Parcel, rows: usize, mut next: impl FnMut() -> Option<Parcel>) -> Self {
        // All are taken before they are put together, so that there is room for them at once.
        let (mut taken, mut bytes, mut more) = (first.messages.len(), first.messages.bytes(), Vec::new());
        while taken < rows && bytes < BATCH_BYTES {
            let Some(parcel) = next() else { break };
            taken += parcel.messages.len();
            bytes += parcel.messages.bytes();
            more.push(parcel);
        }
        let mut batch = Self {
            messages: Messages::default(),
            parcels: Vec::with_capacity(1 + more.len()),
            journaled: Vec::new(),
        };
        batch.add(first);
        let sizes = more.iter().fold(Sizes::default(), |sizes, parcel| sizes.and(parcel.messages.sizes()));
        batch.messages.reserve(sizes);
        more.into_iter().for_each(|parcel| batch.add(parcel));
        batch
    }

    fn add(&mut self, parcel: Parcel) {
        let Parcel { source, ledger, messages, mut ack, journaled } = parcel;
        if let Some(journaled) = journaled {
            let (sinks, kept) = ack.halves();
            self.journaled.push((*journaled, messages.len(), kept));
            ack = sinks;
        }
        let share = Share { first_row: self.messages.len() as u32, rows: messages.len() as u32, source, ledger, ack };
        self.parcels.push(share);
        if self.messages.is_empty() {
            self.messages = messages;
        } else {
            self.messages.append(&messages);
        }
    }

    /// How the messages end if no rule does anything with them; `raw` are those that sinks take as they came.
    pub fn fates(&self, raw: &RawMessages) -> Vec<Fate> {
        let mut fates = vec![Fate::Filtered; self.messages.len()];
        if !raw.any() {
            return fates;
        }
        for share in self.parcels.iter().filter(|share| raw.are_of(&share.source)) {
            let rows = share.first_row as usize..(share.first_row + share.rows) as usize;
            for (fate, &marks) in fates[rows.clone()].iter_mut().zip(&self.messages.marks[rows]) {
                if !Marks(marks).are_not_raw() {
                    *fate = Fate::Stored;
                }
            }
        }
        fates
    }

    /// The first row and the name of each parcel's source.
    pub fn sources(&self) -> Vec<(u32, Arc<str>)> {
        self.parcels.iter().map(|share| (share.first_row, share.source.clone())).collect()
    }

    /// The source of a row.
    pub fn source_of(&self, row: u32) -> Arc<str> {
        let after = self.parcels.partition_point(|share| share.first_row <= row);
        let share = after.checked_sub(1).and_then(|at| self.parcels.get(at));
        share.map(|share| share.source.clone()).unwrap_or_default()
    }

    /// The messages, and the ack for all of them: resolving it keeps the sources' accounts and tells them. `refused` is where sinks say
    /// which messages they would not take as they came, if any takes such.
    pub fn settle(
        self,
        fates: Vec<Fate>,
        refused: Option<Arc<Refused>>,
        latency: Arc<Latency>,
        now_us: impl Fn() -> i64 + Send + 'static,
    ) -> (Messages, Ack) {
        let mut closing = Vec::with_capacity(self.parcels.len());
        for share in self.parcels {
            let (first, rows) = (share.first_row as usize, share.rows as usize);
            let mut tally = Tally::default();
            for fate in &fates[first..first + rows] {
                match fate {
                    Fate::Filtered => tally.filtered += 1,
                    Fate::Stored => tally.stored += 1,
                    Fate::Decoded => tally.decoded += 1,
                    Fate::DeadLettered => tally.dead_lettered += 1,
                    Fate::Dropped => tally.dropped += 1,
                }
            }
            // The first row waited longest: it speaks for its parcel. What is replayed has waited for an operator, not for us.
            let replayed = Marks(self.messages.marks[first]).has(Marks::REPLAYED);
            let oldest_us = (!replayed).then_some(self.messages.received_us[first]);
            let Share { first_row, rows, ledger, ack, .. } = share;
            closing.push(Closing { first_row, rows, ledger, ack, tally, oldest_us });
        }
        let mut refused = refused.map(|refused| (refused, fates));
        let ack = Ack::new(move |outcome| {
            if let (Outcome::Settled, Some((refused, fates))) = (outcome, &mut refused) {
                let rows = refused.messages.lock().unwrap_or_else(PoisonError::into_inner);
                correct(&mut closing, fates, &rows);
            }
            let now_us = now_us();
            for closing in closing {
                let Closing { rows, ledger, ack, tally, oldest_us, .. } = closing;
                match outcome {
                    Outcome::Settled => {
                        ledger.settle(u64::from(rows), tally);
                        if let Some(oldest_us) = oldest_us {
                            latency.record(now_us - oldest_us, u64::from(rows));
                        }
                    }
                    Outcome::Returned => ledger.give_back(u64::from(rows)),
                }
                ack.resolve(outcome);
            }
        });
        (self.messages, ack)
    }
}

/// A parcel's share of a batch, waiting for the sinks' word.
struct Closing {
    first_row: u32,
    rows: u32,
    ledger: Arc<MessageLedger>,
    ack: Ack,
    tally: Tally,
    oldest_us: Option<i64>,
}

/// Messages that sinks were to store as they came, and that are in the dead letters instead; each counts once, however many sinks refused it.
fn correct(closing: &mut [Closing], fates: &mut [Fate], refused: &[u32]) {
    for &row in refused {
        let Some(fate) = fates.get_mut(row as usize).filter(|fate| **fate == Fate::Stored) else { continue };
        *fate = Fate::DeadLettered;
        let after = closing.partition_point(|share| share.first_row <= row);
        if let Some(share) = after.checked_sub(1).and_then(|at| closing.get_mut(at)) {
            share.tally.stored -= 1;
            share.tally.dead_lettered += 1;
        }
    }
}
