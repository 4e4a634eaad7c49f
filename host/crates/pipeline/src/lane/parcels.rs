//! Parcels of messages through a lane's rules: decoded, processed, and sent on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tidegate_model::{OriginIs, Outcome, Parcel};

use crate::lane::batch::Batch;
use crate::lane::node::Awaits;
use crate::lane::work::Work;
use crate::lane::{Lane, Load, decode, node, process};

impl Load for Parcel {
    fn take(self, lane: &mut Lane<Parcel>) {
        let began = Instant::now();
        let queue = &mut lane.queue;
        let mut batch = Batch::gather(self, lane.around.batch_rows, || queue.try_recv().ok());
        lane.status.waiting.store(lane.queue.len() as u64, Relaxed);
        let rows = batch.messages.len() as u64;
        let now_us = lane.around.clock.now_us();
        let source_of = |row: u32| batch.source_of(row);
        let (books, alert_book, outlets) = (&lane.around.books, &lane.around.alert_book, &lane.around.outlets);
        let fates = batch.fates(outlets.messages());
        let mut work = Work::new(&batch.messages, (books, outlets.messages()), alert_book, &source_of, now_us, fates);
        let mut flow = decode::decode(&mut work, &mut lane.slots, &mut lane.routes);
        process::process(&mut work, &mut lane.slots, 0, &mut lane.routes, &mut flow);
        let handed = node::part(&mut flow, &mut lane.routes, books);
        let (mut delivery, fates) = work.close(flow, outlets.points(), outlets.store_points());
        delivery.sources = batch.sources();
        let clock = lane.around.clock.clone();
        let refused = outlets.messages().any().then(|| delivery.refused.clone());
        delivery.origin_is = if refused.is_some() { OriginIs::Cargo } else { OriginIs::Context };
        let journaled = std::mem::take(&mut batch.journaled);
        let awaits = if journaled.is_empty() { Awaits::Sinks } else { Awaits::StateOfNode };
        // Whoever begins to look on now sees the next batch.
        let seen = outlets.is_watched().then(|| fates.clone());
        let (mut messages, ack) = batch.settle(fates, refused, lane.around.latency.clone(), move || clock.now_us());
        delivery.positions = std::mem::take(&mut messages.positions);
        delivery.origin = Arc::new(messages);
        if let Some(fates) = seen {
            lane.around.outlets.show(&delivery, &fates, &lane.around.books);
        }
        let ack = lane.tied(&delivery, ack);
        lane.send(delivery, handed, awaits, ack);
        for (journaled, rows, kept) in journaled {
            match &mut lane.checkpoints {
                Some(checkpoints) => checkpoints.take(journaled, rows, kept),
                None => kept.resolve(Outcome::Settled),
            }
        }
        lane.status.batches.fetch_add(1, Relaxed);
        lane.status.rows.fetch_add(rows, Relaxed);
        lane.status.busy_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
    }
}
