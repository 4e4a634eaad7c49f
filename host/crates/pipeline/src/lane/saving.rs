//! When a lane saves, and what ties that to what it sends.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidegate_engine::thread_cpu;
use tidegate_model::{Ack, Delivery, Outcome};

use crate::lane::checkpoint::{Checkpoints, Handover};
use crate::lane::flow::Flow;
use crate::lane::node::{Awaits, Handed};
use crate::lane::slot::Saved;
use crate::lane::{Lane, SAVE_EVERY};

/// How often a lane looks whether the sinks have confirmed, where too much changes that cannot be kept before that.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// For how many times as long as the rules took to save they are not asked again, unless what one was given has no more room. Acks that wait for
/// their state wait longer then: who takes all the time that it may for each save would else have the lane for itself.
const REST_AFTER_SAVES: u32 = 9;

impl<L> Lane<L> {
    /// Sends what no message is the origin of.
    pub(super) fn send_own(&mut self, delivery: Delivery, handed: Option<Flow>) {
        self.around.outlets.show(&delivery, &[], &self.around.books);
        let ack = self.tied(&delivery, Ack::none());
        self.send(delivery, handed, Awaits::Sinks, ack);
    }

    /// To the sinks, and what the node's rules match of the same batch to their lane; `ack`, which is [`Self::tied`], waits for both.
    pub(super) fn send(&self, delivery: Delivery, handed: Option<Flow>, awaits: Awaits, ack: Ack) {
        let outlets = &self.around.outlets;
        let (Some(flow), Some(hand_over)) = (handed, &self.hand_over) else { return outlets.send(delivery, ack) };
        let (origin, sources) = (delivery.origin.clone(), delivery.sources.clone());
        let (ack, theirs) = ack.halves();
        let (theirs, kept) = match awaits {
            Awaits::Sinks => (theirs, None),
            Awaits::StateOfNode => {
                let (theirs, kept) = theirs.halves();
                (theirs, Some(kept))
            }
        };
        outlets.send(delivery, ack);
        hand_over.send(Handed { flow, origin, sources, ack: theirs, kept }, outlets.points());
    }

    /// An ack in the place of `ack`: until it resolves, the state as it is after this delivery is not kept.
    pub(super) fn tied(&mut self, delivery: &Delivery, ack: Ack) -> Ack {
        let Some(checkpoints) = &mut self.checkpoints else { return ack };
        checkpoints.note(&delivery.alerts);
        let epoch = checkpoints.epoch();
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
        let is = |what: fn(&Checkpoints) -> bool| self.checkpoints.as_ref().is_some_and(what);
        let due = now >= self.save_at || is(Checkpoints::is_full);
        if due && (now >= self.saves_rest_until || is(Checkpoints::cannot_wait)) {
            self.save_at = now + SAVE_EVERY;
            self.save_now(Handover::OneOfMany);
            self.status.busy_nanos.fetch_add(now.elapsed().as_nanos() as u64, Relaxed);
        }
        while self.checkpoints.as_ref().is_some_and(Checkpoints::is_overfull) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    pub(super) fn save_now(&mut self, handover: Handover) {
        // Time of the processor: a busy node punishes nobody.
        let began = thread_cpu();
        let saved = self.slots.iter_mut().fold(Saved::All, |all, slot| slot.save().and(all));
        self.saves_rest_until = Instant::now() + thread_cpu().saturating_sub(began) * REST_AFTER_SAVES;
        self.note_memory();
        if let Some(checkpoints) = &mut self.checkpoints {
            if saved == Saved::NotAll && checkpoints.due().is_some() {
                return checkpoints.put_off();
            }
            checkpoints.hand_over(&mut self.slots, &self.around.alert_book, handover);
        }
    }
}
