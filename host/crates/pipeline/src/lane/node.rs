//! The node's lane: rules whose state belongs to the whole node (k of n, totals of a plant), with one instance each.
//!
//! The other lanes hand over the rows that such a rule matches, after their own rules and in their order: the points, and with them what leads
//! back to their messages. From then on the rows are the node's lane's: what its rules let through goes to the sinks, what they refuse to the
//! dead letters. A message is settled when the sinks have confirmed both what its own lane sent and what this one did.
//!
//! The queue is bounded, and a lane waits where it is full. The node's lane waits for sinks and for no lane, so that nobody waits in a circle; it
//! ends when the last lane has. It is always there: a thread that sleeps costs nothing, and none has to be started under load.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use tidegate_model::{Ack, Books, Messages, PointLedger};
use tokio::sync::mpsc;

use crate::lane::flow::{Flow, Insert};
use crate::lane::route::{NODE_LANE, Routes, Share};
use crate::lane::work::Work;
use crate::lane::{Lane, Load, process};

/// Rows for the rules of the node.
pub(crate) struct Handed {
    pub flow: Flow,
    /// The messages they came from, shared with what their own lane sent.
    pub origin: Arc<Messages>,
    /// The source of each message, as (first row, name).
    pub sources: Vec<(u32, Arc<str>)>,
    /// This part's share of the messages' ack.
    pub ack: Ack,
    /// Another one, which waits for the node's state; see [`Awaits::StateOfNode`].
    pub kept: Option<Ack>,
}

/// What the part of an ack waits for that goes to the node's lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// That the sinks confirm what comes of it.
    Sinks,
    /// That the state of the node's rules is on disk as well. The state of the lane that sends it, which says that it has these messages, is kept
    /// after that: so a crash between the two gives them to the node's rules twice, and never not at all.
    StateOfNode,
}

/// What comes to the node's lane.
#[allow(
    clippy::large_enum_variant,
    reason = "a box for each batch would be an allocation on the data path; barriers are few"
)]
pub(crate) enum ToNode {
    Rows(Handed),
    /// Answer once all before this is done.
    Barrier(SyncSender<()>),
}

/// A lane's way to the node's lane.
pub(crate) struct HandOver(pub mpsc::Sender<ToNode>);

impl HandOver {
    /// Hands rows over, waiting while the queue is full.
    pub fn send(&self, handed: Handed, points: &PointLedger) {
        let rows = handed.flow.points.len() as u64;
        // A lane that has ended took nothing: the ack is dropped with the rows, which returns their messages.
        if self.0.blocking_send(ToNode::Rows(handed)).is_err() {
            points.returned.fetch_add(rows, Relaxed);
        }
    }

    /// Waits until all that was handed over is with the sinks.
    pub fn settle(&self) {
        let (reply, done) = sync_channel(1);
        if self.0.blocking_send(ToNode::Barrier(reply)).is_ok() {
            // Without an answer the lane has ended, and holds nothing any more.
            let _ = done.recv();
        }
    }
}

/// Takes the rows out of `flow` that rules of the node match. Where there are no such rules this is one branch.
pub(crate) fn part(flow: &mut Flow, routes: &mut Routes, books: &Books) -> Option<Flow> {
    if !routes.hands_over() || flow.points.is_empty() {
        return None;
    }
    routes.look(&flow.points, books);
    match routes.share(NODE_LANE, &flow.points) {
        Share::None => None,
        Share::All => Some(std::mem::take(flow)),
        Share::Some(rows) => {
            let from_row = rows.iter().map(|&row| flow.from_row[row as usize]).collect();
            let handed = Flow { points: flow.points.gather(&rows), from_row };
            let mut gone = vec![false; flow.points.len()];
            rows.iter().for_each(|&row| gone[row as usize] = true);
            flow.change(&gone, Insert::default());
            Some(handed)
        }
    }
}

impl Load for ToNode {
    fn take(self, lane: &mut Lane<ToNode>) {
        lane.status.waiting.store(lane.queue.len() as u64, Relaxed);
        match self {
            ToNode::Rows(handed) => lane.take_rows(handed),
            ToNode::Barrier(reply) => {
                // Who asked may have ended.
                let _ = reply.send(());
            }
        }
    }
}

impl Lane<ToNode> {
    fn take_rows(&mut self, handed: Handed) {
        let began = Instant::now();
        let Handed { mut flow, origin, sources, ack, kept } = handed;
        let rows = flow.points.len() as u64;
        let now_us = self.around.clock.now_us();
        let source_of = |row: u32| {
            let after = sources.partition_point(|(first, _)| *first <= row);
            let source = after.checked_sub(1).and_then(|at| sources.get(at));
            source.map(|(_, name)| name.clone()).unwrap_or_default()
        };
        let (books, alert_book, outlets) = (&self.around.books, &self.around.alert_book, &self.around.outlets);
        // How the messages end was decided by the lane that decoded them.
        let mut work = Work::new(&origin, (books, outlets.messages()), alert_book, &source_of, now_us, Vec::new());
        process::process(&mut work, &mut self.slots, 0, &mut self.routes, &mut flow);
        let (mut delivery, _) = work.close(flow, outlets.points(), outlets.store_points());
        // Before the messages are with it: who looks on has seen them when their lane sent them.
        outlets.show(&delivery, &[], books);
        (delivery.origin, delivery.sources) = (origin, sources);
        let ack = self.tied(&delivery, ack);
        self.around.outlets.send(delivery, ack);
        if let (Some(checkpoints), Some(kept)) = (&mut self.checkpoints, kept) {
            checkpoints.hold(kept);
        }
        self.status.batches.fetch_add(1, Relaxed);
        self.status.rows.fetch_add(rows, Relaxed);
        self.status.busy_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
    }
}
