//! What a sink refused goes to the dead letters, before it counts as settled.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fail::fail_point;
use tidegate_model::{Ack, DeadLetter, Delivery, Outcome, Rejected, Stage};
use tokio::sync::oneshot;

use super::Flush;
use super::intake::Batch;
use crate::dead_letter::Cause;

impl Flush {
    /// Acknowledges what was written; a delivery with refused points only once those are in the dead letters.
    pub(super) async fn acknowledge(&mut self, batch: Batch, rejected: &[Rejected]) {
        fail_point!("ack-before", |_| std::process::abort());
        let Batch { deliveries, acks } = batch;
        for (i, (delivery, ack)) in deliveries.iter().zip(acks).enumerate() {
            let refused: Vec<&Rejected> = rejected.iter().filter(|r| r.delivery == i).collect();
            match (&self.dead_letters, refused.is_empty()) {
                (Some(dead_letters), false) => {
                    delivery.refused.fetch_add(refused.len() as u64, Relaxed);
                    let mut seen = HashSet::new();
                    let first = refused.iter().filter(|r| first_of_message(&mut seen, delivery, r));
                    let letters = first.map(|r| self.dead_letter(delivery, r)).collect();
                    // A closed queue drops the ack: the messages go back to their source.
                    let _ = dead_letters.send((Arc::new(of(letters)), ack)).await;
                }
                _ => ack.resolve(Outcome::Settled),
            }
        }
    }

    /// The letters of refused points.
    pub(super) fn refused(&self, deliveries: &[Arc<Delivery>], rejected: &[Rejected]) -> Vec<DeadLetter> {
        let mut seen = HashSet::new();
        let letter = |r: &Rejected| {
            let delivery = deliveries.get(r.delivery)?;
            first_of_message(&mut seen, delivery, r).then(|| self.dead_letter(delivery, r))
        };
        rejected.iter().filter_map(letter).collect()
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

    fn dead_letter(&self, delivery: &Delivery, rejected: &Rejected) -> DeadLetter {
        let cause = Cause {
            stage: Stage::Sink,
            rule: Some(self.name.clone()),
            module: None,
            reason: rejected.reason.clone(),
            backtrace: None,
        };
        let row = delivery.origin_row(rejected.row);
        let source = row.and_then(|row| delivery.source_of(row)).cloned().unwrap_or_default();
        cause.letter(&self.books, &delivery.origin, row, source)
    }
}

/// Whether this is the first refused point of its message: one letter, which has the message whole, speaks for all.
fn first_of_message(seen: &mut HashSet<(usize, u32)>, delivery: &Delivery, rejected: &Rejected) -> bool {
    delivery.origin_row(rejected.row).is_none_or(|row| seen.insert((rejected.delivery, row)))
}

fn of(letters: Vec<DeadLetter>) -> Delivery {
    Delivery { dead_letters: letters, ..Delivery::default() }
}
