//! What waits for a sink: taken batch by batch; or appended to the spool, while the sink is busy with what came before.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_model::{Ack, Delivery, Outcome, RecordId, Spool, SpoolError, Wants};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::status::SinkStatus;
use super::{UNLIMITED, told};
use crate::outlets::Consignment;

/// How long the spool is left alone when it did not take a batch. It is on a disk of this machine: no fleet comes back to it.
pub(super) const SPOOL_RETRY: Duration = Duration::from_millis(250);

/// No more is written together than this: what a sink has in hand is in memory, and so is the batch after it, with what the sink has made ready of it.
const WRITE_BYTES: usize = 16 << 20;

/// Deliveries that are written together, and their acks.
#[derive(Default)]
pub(super) struct Batch {
    pub deliveries: Vec<Arc<Delivery>>,
    pub acks: Vec<Ack>,
}

impl Batch {
    /// All of it ended so.
    pub fn resolve(self, outcome: Outcome) {
        self.acks.into_iter().for_each(|ack| ack.resolve(outcome));
    }
}

/// Rows of these deliveries that such a sink takes; each has one at least.
pub(super) fn weight(wants: &Wants, deliveries: &[Arc<Delivery>]) -> i64 {
    deliveries.iter().map(|delivery| wants.rows_of(delivery).max(1) as i64).sum()
}

/// What becomes of work under way when nobody sends any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// It is left: it may take long, and what it is about stands in the spool.
    Leave,
    /// It is seen through, as long as the shutdown's time lasts.
    SeeThrough,
}

/// A sink's end of its queue.
pub(super) struct Intake {
    pub name: Arc<str>,
    pub queue: mpsc::Receiver<Consignment>,
    /// Told by senders who do not wait for room, where they are such, while half of the queue is taken.
    pub filling: Option<Arc<Notify>>,
    /// Which parts of a delivery the sink takes.
    pub wants: Wants,
    /// The most rows of one batch, of what the sink takes.
    pub rows: usize,
    pub status: Arc<SinkStatus>,
    /// Set when nobody sends any more: take what is waiting, and end.
    pub finish: watch::Receiver<bool>,
    /// Set when the deadline of a shutdown has passed.
    pub give_up: watch::Receiver<bool>,
    /// What the spool would not take: it comes before all that waits.
    pub held: Option<Batch>,
    /// What a sink was told of, or is to be told of when it is a whole batch: it comes before all that waits in the queue.
    pub ahead: Batch,
    /// When the spool is asked again to take it.
    pub ask_at: Instant,
    /// How many rows may be appended now. Below 0 when the last batch had more.
    pub allowance: i64,
}

impl Intake {
    /// The next batch: what waits, up to the limit, and never waiting for more than its first delivery. None when nobody sends any
    /// more and all was taken. What is cancelled here has taken nothing.
    pub async fn next(&mut self) -> Option<Batch> {
        if let Some(batch) = self.taken() {
            return Some(batch);
        }
        let first = tokio::select! {
            biased;
            first = self.queue.recv() => first,
            () = told(&self.finish) => {
                self.queue.close();
                self.queue.recv().await
            }
        };
        first.map(|first| self.gathered(first))
    }

    /// The next batch, if one waits.
    pub fn waiting(&mut self) -> Option<Batch> {
        if let Some(batch) = self.taken() {
            return Some(batch);
        }
        let first = self.queue.try_recv().ok()?;
        Some(self.gathered(first))
    }

    /// What was taken from the queue before, the oldest first.
    fn taken(&mut self) -> Option<Batch> {
        if self.held.is_some() {
            return self.held.take();
        }
        if self.ahead.acks.is_empty() {
            return None;
        }
        let mut batch = std::mem::take(&mut self.ahead);
        self.fill(&mut batch);
        self.in_hand(batch.acks.len());
        Some(batch)
    }

    fn gathered(&mut self, (delivery, ack): Consignment) -> Batch {
        let mut batch = Batch { deliveries: vec![delivery], acks: vec![ack] };
        self.fill(&mut batch);
        self.in_hand(batch.acks.len());
        batch
    }

    /// Adds what waits, and tells whether the batch is as large as it may be.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        let mut rows: usize = batch.deliveries.iter().map(|delivery| self.wants.rows_of(delivery)).sum();
        let mut bytes: usize = batch.deliveries.iter().map(|delivery| delivery.bytes()).sum();
        while rows < self.rows && bytes < WRITE_BYTES {
            let Ok((delivery, ack)) = self.queue.try_recv() else { return false };
            rows += self.wants.rows_of(&delivery);
            bytes += delivery.bytes();
            batch.deliveries.push(delivery);
            batch.acks.push(ack);
        }
        true
    }

    /// What the batch after the one in hand will be, where that is certain: nothing could be added to it, and nothing comes before it. It stays here.
    pub fn upcoming(&mut self) -> &[Arc<Delivery>] {
        let mut batch = std::mem::take(&mut self.ahead);
        let is_full = self.fill(&mut batch);
        self.ahead = batch;
        if is_full && self.held.is_none() { &self.ahead.deliveries } else { &[] }
    }

    /// So many deliveries are taken and not settled, beside those that are taken ahead.
    pub fn in_hand(&self, deliveries: usize) {
        self.status.waiting.store((self.queue.len() + self.ahead.acks.len() + deliveries) as u64, Relaxed);
    }

    /// Whether nobody sends any more, and all was taken.
    pub fn is_over(&mut self) -> bool {
        if *self.finish.borrow() {
            self.queue.close();
        }
        self.queue.is_closed() && self.queue.is_empty() && self.held.is_none() && self.ahead.acks.is_empty()
    }

    /// Waits for `work`, and meanwhile appends what comes to the spool. None when it was left, as `at_end` says, or given up.
    pub async fn meanwhile<T>(
        &mut self,
        spool: &dyn Spool,
        at_end: AtEnd,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let give_up = self.give_up.clone();
        let mut over = false;
        loop {
            let batch = tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = told(&give_up) => return None,
                batch = self.when_allowed(), if !over => batch,
            };
            let Some(batch) = batch else {
                if at_end == AtEnd::Leave {
                    return None;
                }
                over = true;
                continue;
            };
            self.allowance = self.allowance.saturating_sub(weight(&self.wants, &batch.deliveries));
            // Not to be cut off: what was appended must be acknowledged.
            let mut append = pin!(self.append(spool, batch));
            let mut done = None;
            loop {
                tokio::select! {
                    biased;
                    now_done = &mut work, if done.is_none() => done = Some(now_done),
                    _ = &mut append => break,
                }
            }
            if done.is_some() {
                return done;
            }
        }
    }

    /// Resolves once half of the queue is taken, where its senders go another way rather than wait.
    pub async fn fills(&mut self) {
        let Some(filling) = &self.filling else { return std::future::pending().await };
        while self.queue.len() < self.queue.max_capacity() / 2 {
            filling.notified().await;
        }
    }

    /// The next batch that may be appended.
    async fn when_allowed(&mut self) -> Option<Batch> {
        if self.allowance <= 0 {
            self.fills().await;
            self.allowance = UNLIMITED;
        }
        self.when_asked().await
    }

    /// The next batch, but what is held only when the spool is to be asked again.
    async fn when_asked(&mut self) -> Option<Batch> {
        if self.held.is_some() {
            tokio::time::sleep_until(self.ask_at).await;
        }
        self.next().await
    }

    /// Appends a batch to the spool, and acknowledges it once it is on disk; else it is held. Gives its last record, if it was appended.
    pub async fn append(&mut self, spool: &dyn Spool, batch: Batch) -> Option<RecordId> {
        match spool.append(&batch.deliveries).await {
            Ok(through) => {
                if self.status.hold_back(None) {
                    tracing::info!(sink = &*self.name, "the spool takes what comes again");
                }
                batch.resolve(Outcome::Settled);
                self.in_hand(0);
                Some(through)
            }
            Err(error) => {
                self.hold(batch, &error);
                None
            }
        }
    }

    fn hold(&mut self, batch: Batch, error: &SpoolError) {
        if self.status.hold_back(Some(error.to_string())) {
            tracing::warn!(
                sink = &*self.name,
                "the sink is behind and its spool takes nothing: sources are held back; {error}"
            );
        }
        self.in_hand(batch.acks.len());
        self.ask_at = Instant::now() + SPOOL_RETRY;
        self.held = Some(batch);
    }

    /// What was taken and is not settled goes back to its sources, and so does what waits.
    pub fn give_back(&mut self) {
        self.queue.close();
        while let Some(batch) = self.waiting() {
            batch.resolve(Outcome::Returned);
        }
        self.in_hand(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_model::{NO_ROW, Points, SeriesId};

    use super::*;

    fn of_rows(rows: usize) -> Consignment {
        let mut points = Points::default();
        (0..rows).for_each(|row| points.push(SeriesId(0), 0, row as f64, 192));
        (Arc::new(Delivery { points, from_row: vec![NO_ROW; rows], ..Delivery::default() }), Ack::none())
    }

    fn sizes<'a>(deliveries: impl IntoIterator<Item = &'a Arc<Delivery>>) -> Vec<usize> {
        deliveries.into_iter().map(|delivery| delivery.points.len()).collect()
    }

    fn next(intake: &mut Intake) -> Vec<usize> {
        intake.waiting().map_or(Vec::new(), |batch| sizes(&batch.deliveries))
    }

    /// Guarantees: a batch is foretold when nothing can be added to it and nothing comes before it, and is the next one then; what was taken and is not whole is
    /// filled up, and nothing more is taken ahead than one batch. Till it has its turn it counts as waiting, and there is no end.
    #[test]
    fn what_comes_next_is_known_when_it_is_whole() {
        let (queue, receiver) = mpsc::channel(16);
        let (finish, give_up) = (watch::Sender::new(false), watch::Sender::new(false));
        let mut intake = Intake {
            name: "test".into(),
            queue: receiver,
            filling: None,
            wants: Wants { points: true, ..Wants::default() },
            rows: 8,
            status: Arc::new(SinkStatus::new(None)),
            finish: finish.subscribe(),
            give_up: give_up.subscribe(),
            held: None,
            ahead: Batch::default(),
            ask_at: Instant::now(),
            allowance: 0,
        };
        let send = |rows: &[usize]| rows.iter().for_each(|&rows| queue.try_send(of_rows(rows)).unwrap());
        assert!(intake.upcoming().is_empty());

        send(&[5, 2]);
        assert!(intake.upcoming().is_empty(), "there is room in it");
        send(&[3, 8, 8]);
        assert_eq!((next(&mut intake), intake.queue.len()), (vec![5, 2, 3], 2));

        assert_eq!(sizes(intake.upcoming()), [8]);
        assert_eq!(
            (sizes(intake.upcoming()), intake.queue.len()),
            (vec![8], 1),
            "one batch, however often it is asked"
        );
        intake.in_hand(3);
        assert_eq!(intake.status.waiting.load(Relaxed), 3 + 1 + 1);

        let (delivery, ack) = of_rows(1);
        intake.held = Some(Batch { deliveries: vec![delivery], acks: vec![ack] });
        assert!(intake.upcoming().is_empty(), "what the spool did not take comes first");
        assert_eq!([next(&mut intake), next(&mut intake)], [vec![1], vec![8]]);
        assert_eq!(sizes(intake.upcoming()), [8]);
        finish.send_replace(true);
        assert!(!intake.is_over());
        assert_eq!(next(&mut intake), [8]);
        assert!(intake.is_over());
    }
}
