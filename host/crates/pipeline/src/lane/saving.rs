//! When a lane saves, and what ties that to what it sends.

use std::time::{Duration, Instant};

use tidegate_model::{Ack, Delivery, Outcome};

use crate::lane::flow::Flow;
use crate::lane::keeping::{Handover, Keeping};
use crate::lane::node::Handed;
use crate::lane::slot::Slot;
use crate::lane::{Lane, SAVE_EVERY};

/// How often a lane looks whether the sinks have confirmed, where too much changes that cannot be kept before that.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl<L> Lane<L> {
    /// Sends what no message is the origin of.
    pub(super) fn send_own(&mut self, delivery: Delivery, handed: Option<Flow>) {
        self.around.outlets.show(&delivery, &[], &self.around.books);
        let ack = self.tied(&delivery, Ack::none());
        self.send(delivery, handed, ack);
    }

    /// To the sinks, and what the node's rules match of the same batch to their lane; `ack`, which is [`Self::tied`], waits for both.
    pub(super) fn send(&self, delivery: Delivery, handed: Option<Flow>, ack: Ack) {
        let outlets = &self.around.outlets;
        let (Some(flow), Some(hand_over)) = (handed, &self.hand_over) else { return outlets.send(delivery, ack) };
        let (origin, sources) = (delivery.origin.clone(), delivery.sources.clone());
        let (ack, theirs) = ack.halves();
        outlets.send(delivery, ack);
        hand_over.send(Handed { flow, origin, sources, ack: theirs }, outlets.points());
    }

    /// An ack in the place of `ack`: until it resolves, the state as it is after this delivery is not kept.
    pub(super) fn tied(&mut self, delivery: &Delivery, ack: Ack) -> Ack {
        let Some(keeping) = &mut self.keeping else { return ack };
        keeping.note(&delivery.alerts);
        let epoch = keeping.epoch();
        Ack::new(move |outcome| {
            if outcome == Outcome::Returned {
                epoch.returned();
            }
            ack.resolve(outcome);
            drop(epoch);
        })
    }

    pub(super) fn save(&mut self) {
        let now = Instant::now();
        if now >= self.save_at || self.keeping.as_ref().is_some_and(Keeping::is_full) {
            self.save_at = now + SAVE_EVERY;
            self.save_now(Handover::OneOfMany);
        }
        while self.keeping.as_ref().is_some_and(Keeping::is_overfull) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    pub(super) fn save_now(&mut self, handover: Handover) {
        self.slots.iter_mut().for_each(Slot::save);
        self.note_memory();
        if let Some(keeping) = &mut self.keeping {
            keeping.hand_over(&mut self.slots, &self.around.alert_book, handover);
        }
    }
}
