//! From the queue to the sink.

use std::pin::pin;

use tidegate_model::{Outcome, RecordId, SinkError, Spool, SpoolOrder, Written};

use super::drain::Given;
use super::intake::{AtEnd, Batch};
use super::{Flush, UNLIMITED, told};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// The sink has it; refused points are in the dead letters.
    Settled,
    /// It is in the spool; or held, if the spool did not take it.
    Spooled,
    /// Its messages went back to their sources: the shutdown's time was over first, or the sink lacks what was before them.
    Returned,
}

/// How a write ended, as far as the batch goes.
enum Attempt {
    Done(Result<Written, SinkError>),
    /// It took too long, and the batch stands in the spool since, up to this record; how the write ended then, if it did.
    Spooled(RecordId, Option<Result<Written, SinkError>>),
    GivenUp,
}

impl Flush {
    /// Writes a batch. Without a spool it is tried until it is done; with one, once.
    pub(super) async fn live(&mut self, batch: Batch) -> Went {
        let wants = self.sink.wants();
        let mut batch = self.without_late(batch);
        if batch.deliveries.is_empty() {
            self.intake.in_hand(0);
            return Went::Settled;
        }
        loop {
            if let Some(wait) = self.wait.take() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = told(&self.give_up) => return self.returned(batch),
                }
            }
            if let Some(upcoming) = self.sink.upcoming() {
                upcoming.clear();
                // While a spool is drained its oldest may come first.
                if self.spool.as_ref().is_none_or(|spool| spool.totals().records == 0) {
                    upcoming.extend_from_slice(self.intake.upcoming());
                }
            }
            match self.attempt(&mut batch).await {
                Attempt::Done(Ok(written)) => {
                    self.worked();
                    self.status.hold_back(None);
                    self.status.count(&wants, &batch.deliveries, &written);
                    self.acknowledge(batch, &written).await;
                    self.intake.in_hand(0);
                    return Went::Settled;
                }
                Attempt::Done(Err(error)) => {
                    self.failed(&error);
                    // Another try would never do. With a spool the sources have no part in it any more.
                    if matches!(error, SinkError::WentBack(_)) && self.spool.is_none() {
                        // What waits behind it goes the same way, and its source takes its time.
                        self.wait = None;
                        return self.give_back(batch);
                    }
                    if let Some(spool) = &self.spool {
                        let deliveries = batch.deliveries.clone();
                        if let Some(through) = self.intake.append(&**spool, batch).await {
                            // What is removed from a spool is its oldest, and how much stands in one is not known before it is open.
                            self.unfinished = match spool.order() {
                                _ if alone(&**spool, deliveries.len()) => Some(Given::again(deliveries, through)),
                                SpoolOrder::LiveFirst => Some(Given::before_its_turn(deliveries, through)),
                                SpoolOrder::Kept => None,
                            };
                        }
                        return Went::Spooled;
                    }
                }
                Attempt::Spooled(through, Some(Ok(written))) => {
                    self.worked();
                    self.status.count(&wants, &batch.deliveries, &written);
                    let letters = self.refused(&batch.deliveries, &written);
                    // Else its records stay, and are written again.
                    let _forgotten = self.forget(letters, through).await;
                    return Went::Spooled;
                }
                Attempt::Spooled(through, Some(Err(error))) => {
                    self.failed(&error);
                    self.unfinished = Some(Given::again(batch.deliveries, through));
                    return Went::Spooled;
                }
                Attempt::Spooled(_, None) => return Went::Spooled,
                Attempt::GivenUp => return self.returned(batch),
            }
        }
    }

    async fn attempt(&mut self, batch: &mut Batch) -> Attempt {
        let mut write = pin!(self.sink.write(&batch.deliveries));
        // Behind older records it is not appended before its write has ended: what is removed from a spool is its oldest.
        let spool = self.spool.as_ref().filter(|spool| spool.totals().records == 0);
        let takes_long = tokio::select! {
            biased;
            written = &mut write => return Attempt::Done(written),
            () = told(&self.give_up) => return Attempt::GivenUp,
            () = tokio::time::sleep(self.grace), if spool.is_some() => true,
            () = self.intake.fills(), if spool.is_some() => false,
        };
        let Some(spool) = spool else { return Attempt::GivenUp };
        match spool.append(&batch.deliveries).await {
            Ok(through) => {
                if takes_long {
                    tracing::warn!(
                        sink = &*self.name,
                        grace_s = self.grace.as_secs(),
                        "a write takes long: what it holds and what comes goes to the spool"
                    );
                }
                std::mem::take(&mut batch.acks).into_iter().for_each(|ack| ack.resolve(Outcome::Settled));
                self.intake.in_hand(0);
                if !alone(&**spool, batch.deliveries.len()) {
                    return Attempt::Spooled(through, None);
                }
                self.intake.allowance = UNLIMITED;
                Attempt::Spooled(through, self.intake.meanwhile(&**spool, AtEnd::Leave, write).await)
            }
            Err(error) => {
                self.status.hold_back(Some(error.to_string()));
                tokio::select! {
                    biased;
                    written = write => Attempt::Done(written),
                    () = told(&self.give_up) => Attempt::GivenUp,
                }
            }
        }
    }

    fn returned(&self, batch: Batch) -> Went {
        tracing::warn!(
            sink = &*self.name,
            deliveries = batch.acks.len(),
            "the shutdown's time is over while the sink was writing: the messages go back to their sources"
        );
        self.give_back(batch)
    }

    fn give_back(&self, batch: Batch) -> Went {
        batch.resolve(Outcome::Returned);
        self.intake.in_hand(0);
        Went::Returned
    }
}

/// Whether nothing stands in the spool but so many records, which were appended just now.
fn alone(spool: &dyn Spool, appended: usize) -> bool {
    spool.totals().records <= appended as u64
}
