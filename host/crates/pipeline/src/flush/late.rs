//! Late points go their own way: those that are slow to store are handed to a task of their own, so that nothing waits for them.
//!
//! A delivery's ack then waits for both parts. That task spools what waits as soon as half of its queue is taken; what finds no room all the same stays in the
//! write it came with: nothing here waits.

use std::sync::Arc;

use tidegate_model::{Delivery, Wants};
use tokio::sync::{Notify, mpsc};

use super::Flush;
use super::intake::Batch;
use crate::outlets::Consignment;

/// The way to a task, for one who does not wait for room.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub queue: mpsc::Sender<Consignment>,
    /// Told while half of the queue is taken.
    pub filling: Arc<Notify>,
}

impl Beside {
    fn send(&self, place: mpsc::Permit<'_, Consignment>, late: Consignment) {
        place.send(late);
        if self.queue.capacity() <= self.queue.max_capacity() / 2 {
            self.filling.notify_one();
        }
    }
}

impl Flush {
    /// The batch without its late points, as far as those are on their way beside it.
    pub(super) fn without_late(&self, batch: Batch) -> Batch {
        let Some((beside, before_us)) = self.late.as_ref().zip(self.sink.late_before_us()) else { return batch };
        let parted = batch.deliveries.into_iter().zip(batch.acks);
        let parted = parted.filter_map(|consignment| part(consignment, before_us, beside, &self.intake.wants));
        let (deliveries, acks) = parted.unzip();
        Batch { deliveries, acks }
    }
}

/// Sends the late points of a delivery; gives the rest, if there is any.
fn part((delivery, ack): Consignment, before_us: i64, beside: &Beside, wants: &Wants) -> Option<Consignment> {
    let is_late = |time_us: &i64| *time_us < before_us;
    if !delivery.points.time_us.iter().any(is_late) {
        return Some((delivery, ack));
    }
    let Ok(place) = beside.queue.try_reserve() else { return Some((delivery, ack)) };
    let (late, others): (Vec<u32>, Vec<u32>) =
        (0..delivery.points.len() as u32).partition(|&row| is_late(&delivery.points.time_us[row as usize]));
    let rest = Delivery {
        origin_is: delivery.origin_is.clone(),
        positions: delivery.positions.clone(),
        alerts: where_taken(wants.alerts, &delivery.alerts),
        commands: where_taken(wants.commands, &delivery.commands),
        dead_letters: where_taken(wants.dead_letters, &delivery.dead_letters),
        ..delivery.points_of(&others)
    };
    let late = Arc::new(delivery.points_of(&late));
    if !wants.any_of(&rest) {
        beside.send(place, (late, ack));
        return None;
    }
    let (ours, theirs) = ack.halves();
    beside.send(place, (late, theirs));
    Some((Arc::new(rest), ours))
}

/// What other sinks take is theirs: this one is not to pay for a copy.
fn where_taken<T: Clone>(taken: bool, all: &[T]) -> Vec<T> {
    if taken { all.to_vec() } else { Vec::new() }
}
