//! The way from lanes to sinks: who gets a part of a delivery, and whose word its ack waits for.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_model::{Ack, Books, Delivery, Outcome, PointLedger, RawMessages, Wants};
use tokio::sync::mpsc;

use crate::alert_history::AlertHistory;
use crate::lane::Fate;
use crate::tap::Taps;

/// A delivery on its way to one sink, and that sink's part of the ack.
pub(crate) type Consignment = (Arc<Delivery>, Ack);

/// The queues of all sinks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outlets {
    sinks: Arc<[(Wants, mpsc::Sender<Consignment>)]>,
    messages: RawMessages,
    points: Arc<PointLedger>,
    taps: Arc<Taps>,
    history: Arc<AlertHistory>,
}

impl Outlets {
    pub fn new(sinks: Vec<(Wants, mpsc::Sender<Consignment>)>, points: Arc<PointLedger>) -> Self {
        let messages = sinks.iter().fold(RawMessages::None, |all, (wants, _)| all.with(&wants.messages));
        Self { sinks: sinks.into(), messages, points, taps: Arc::default(), history: Arc::default() }
    }

    /// The points' account.
    pub fn points(&self) -> &Arc<PointLedger> {
        &self.points
    }

    /// The messages that any sink takes as they came.
    pub fn messages(&self) -> &RawMessages {
        &self.messages
    }

    /// Whether any sink takes points.
    pub fn store_points(&self) -> bool {
        self.sinks.iter().any(|(wants, _)| wants.points)
    }

    /// Those who look on.
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// Whether anybody looks on.
    pub fn is_watched(&self) -> bool {
        self.taps.is_watched()
    }

    /// The alerts published last.
    pub fn history(&self) -> &AlertHistory {
        &self.history
    }

    /// Shows a delivery to those who look on, if there are any. `fates` are those of its messages.
    pub fn show(&self, delivery: &Delivery, fates: &[Fate], books: &Books) {
        self.taps.show(delivery, fates, books);
    }

    /// Hands a delivery to every sink that wants a part of it, waiting while their queues are full; `ack` resolves when all
    /// of them have confirmed. Its alerts are taken down for the history. Must not be called on a runtime's thread.
    pub fn send(&self, delivery: Delivery, ack: Ack) {
        self.history.enter(&delivery.alerts);
        let (points, ledger) = (delivery.points.len() as u64, self.points.clone());
        let refused = delivery.refused.clone();
        let ack = Ack::new(move |outcome| {
            match outcome {
                Outcome::Settled => {
                    let refused = refused.points.load(Relaxed).min(points);
                    ledger.stored.fetch_add(points - refused, Relaxed);
                    ledger.dead_lettered.fetch_add(refused, Relaxed);
                }
                Outcome::Returned => {
                    ledger.returned.fetch_add(points, Relaxed);
                }
            }
            ack.resolve(outcome);
        });
        let delivery = Arc::new(delivery);
        let takers: Vec<_> = self.sinks.iter().filter(|(wants, _)| wants.any_of(&delivery)).collect();
        for ((_, queue), part) in takers.iter().zip(ack.split(takers.len())) {
            // A closed queue drops the part, which returns the messages to their source.
            let _ = queue.blocking_send((delivery.clone(), part));
        }
    }
}
