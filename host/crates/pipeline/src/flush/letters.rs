//! What a sink refused goes to the dead letters, before it counts as settled.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use fail::fail_point;
use tidegate_model::{Ack, DeadLetter, Delivery, Outcome, Rejected, Stage, Written};
use tokio::sync::oneshot;

use super::Flush;
use super::intake::Batch;
use crate::dead_letter::{Cause, handed_on};

impl Flush {
    /// Acknowledges what was written; a delivery of which something was refused only once that is in the dead letters.
    pub(super) async fn acknowledge(&mut self, batch: Batch, written: &Written) {
        fail_point!("ack-before", |_| std::process::abort());
        let Batch { deliveries, acks } = batch;
        for (i, (delivery, ack)) in deliveries.iter().zip(acks).enumerate() {
            let of_this = |all: &[Rejected]| all.iter().filter(|r| r.delivery == i).cloned().collect::<Vec<_>>();
            let (points, messages) = (of_this(&written.rejected), of_this(&written.rejected_messages));
            match &self.dead_letters {
                Some(dead_letters) if !(points.is_empty() && messages.is_empty()) => {
                    delivery.refused.points.fetch_add(points.len() as u64, Relaxed);
                    let rows = messages.iter().map(|r| r.row);
                    delivery.refused.messages.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
                    let refused = Written { rejected: points, rejected_messages: messages, ..Written::default() };
                    let letters = self.refused(&deliveries, &refused);
                    // A closed queue drops the ack: the messages go back to their source.
                    let _ = dead_letters.send((Arc::new(of(letters)), ack)).await;
                }
                _ => ack.resolve(Outcome::Settled),
            }
        }
    }

    /// The letters of what was refused, one for each message: it is in it whole.
    pub(super) fn refused(&self, deliveries: &[Arc<Delivery>], written: &Written) -> Vec<DeadLetter> {
        let mut seen = HashSet::new();
        // What a sink would not take as it came is still for it when it is put back.
        let raw: HashSet<_> = written.rejected_messages.iter().map(|r| (r.delivery, r.row)).collect();
        let from = |r: &Rejected| deliveries.get(r.delivery)?.origin_row(r.row);
        let points = written.rejected.iter().map(|r| (r, from(r)));
        let messages = written.rejected_messages.iter().map(|r| (r, Some(r.row)));
        let letter = |(r, row): (&Rejected, Option<u32>)| {
            let first = row.is_none_or(|row| seen.insert((r.delivery, row)));
            let delivery = deliveries.get(r.delivery).filter(|_| first)?;
            let letter = self.dead_letter(delivery, row, &r.reason);
            let is_raw = row.is_some_and(|row| raw.contains(&(r.delivery, row)));
            Some(if is_raw { letter } else { handed_on(letter, &self.raw) })
        };
        points.chain(messages).filter_map(letter).collect()
    }

    /// Hands letters whose messages were acknowledged long ago to the dead letters; gives whether they are durable there.
    pub(super) fn bury(&self, letters: Vec<DeadLetter>) -> impl Future<Output = bool> + use<> {
        let queue = self.dead_letters.clone();
        async move {
            let Some(queue) = queue else { return false };
            let (done, settled) = oneshot::channel();
            // Nobody listens any more when the shutdown's time is over: the records stay in the spool then.
            let ack = Ack::new(move |outcome| {
                let _ = done.send(outcome == Outcome::Settled);
            });
            queue.send((Arc::new(of(letters)), ack)).await.is_ok() && settled.await.unwrap_or(false)
        }
    }

    fn dead_letter(&self, delivery: &Delivery, row: Option<u32>, reason: &str) -> DeadLetter {
        let cause = Cause {
            stage: Stage::Sink,
            rule: Some(&self.letters_name),
            module: None,
            reason: reason.into(),
            backtrace: None,
        };
        let source = row.and_then(|row| delivery.source_of(row)).cloned().unwrap_or_default();
        cause.letter(&self.books, &delivery.origin, row, source)
    }
}

fn of(letters: Vec<DeadLetter>) -> Delivery {
    Delivery { dead_letters: letters, ..Delivery::default() }
}
