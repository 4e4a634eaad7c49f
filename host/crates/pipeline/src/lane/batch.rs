//! A batch: the parcels a lane has taken together, and how each of their messages ends.

use std::sync::Arc;

use tidegate_model::{Ack, Latency, Marks, MessageLedger, Messages, Outcome, Parcel, Tally};

/// Enough for large batches of telemetry, and little enough that a decoder's memory (16 MiB unless its file says otherwise) holds the
/// payloads and what it makes of them. One parcel, and so one message, may exceed it alone.
const BATCH_BYTES: usize = 1 << 20;

/// Messages of one or more parcels, in order.
pub(crate) struct Batch {
    pub messages: Messages,
    parcels: Vec<Share>,
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
pub(crate) enum Fate {
    /// Nobody made anything of it.
    Filtered,
    /// Points came of it, or a decoder holds it.
    Decoded,
    /// It goes to the dead letters.
    DeadLettered,
    /// It was beyond a limit whose excess is dropped.
    Dropped,
}

impl Batch {
    /// Begins with `first`; `next` gives the parcels that are waiting, until there are `rows`, or [`BATCH_BYTES`] of payload.
    pub fn gather(first: Parcel, rows: usize, mut next: impl FnMut() -> Option<Parcel>) -> Self {
        let mut batch = Self { messages: Messages::default(), parcels: Vec::new() };
        batch.add(first);
        while batch.messages.len() < rows && batch.messages.bytes() < BATCH_BYTES {
            let Some(parcel) = next() else { break };
            batch.add(parcel);
        }
        batch
    }

    fn add(&mut self, parcel: Parcel) {
        let Parcel { source, ledger, messages, ack } = parcel;
        let share = Share { first_row: self.messages.len() as u32, rows: messages.len() as u32, source, ledger, ack };
        self.parcels.push(share);
        if self.messages.is_empty() {
            self.messages = messages;
        } else {
            self.messages.append(&messages);
        }
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

    /// The messages, and the ack for all of them: resolving it keeps the sources' accounts and tells them.
    pub fn settle(
        self,
        fates: &[Fate],
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
                    Fate::Decoded => tally.decoded += 1,
                    Fate::DeadLettered => tally.dead_lettered += 1,
                    Fate::Dropped => tally.dropped += 1,
                }
            }
            // The first row waited longest: it speaks for its parcel. What is replayed has waited for an operator, not for us.
            let replayed = Marks(self.messages.marks[first]).has(Marks::REPLAYED);
            let oldest_us = (!replayed).then_some(self.messages.received_us[first]);
            closing.push((share.ledger, share.ack, u64::from(share.rows), tally, oldest_us));
        }
        let ack = Ack::new(move |outcome| {
            let now_us = now_us();
            for (ledger, ack, messages, tally, oldest_us) in closing {
                match outcome {
                    Outcome::Settled => {
                        ledger.settle(messages, tally);
                        if let Some(oldest_us) = oldest_us {
                            latency.record(now_us - oldest_us, messages);
                        }
                    }
                    Outcome::Returned => ledger.give_back(messages),
                }
                ack.resolve(outcome);
            }
        });
        (self.messages, ack)
    }
}
