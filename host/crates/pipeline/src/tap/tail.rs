//! The reader's end of a tap.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Glimpse, Tap, Taps};

/// How often the budget is refilled.
const REFILL_EVERY: Duration = Duration::from_millis(100);
/// What a second is in those.
const REFILLS_A_SECOND: i64 = 10;

/// What somebody who looks on reads from; it is over when this is dropped.
#[derive(Debug)]
pub struct Tail {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    glimpses: mpsc::Receiver<Glimpse>,
    refill: Interval,
    told: u64,
}

impl Tail {
    pub(super) fn new(taps: Arc<Taps>, tap: Arc<Tap>, glimpses: mpsc::Receiver<Glimpse>) -> Self {
        let mut refill = tokio::time::interval(REFILL_EVERY);
        // Who did not read for a while has no right to a flood.
        refill.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { taps, tap, glimpses, refill, told: 0 }
    }

    /// What has passed. Can be given up and asked again without a loss.
    pub async fn next(&mut self) -> Glimpse {
        loop {
            tokio::select! {
                biased;
                _ = self.refill.tick() => self.refilled(),
                Some(glimpse) = self.glimpses.recv() => return glimpse,
            }
        }
    }

    fn refilled(&self) {
        let a_second = i64::from(self.tap.wanted.rows_per_s);
        let more = (a_second / REFILLS_A_SECOND).max(1);
        let filled = |left: i64| Some((left + more).min(a_second));
        let _ = self.tap.budget.fetch_update(Relaxed, Relaxed, filled);
    }

    /// How many rows were wanted and not shown, since this was last asked.
    pub fn skipped(&mut self) -> u64 {
        let all = self.tap.skipped.load(Relaxed);
        all - std::mem::replace(&mut self.told, all)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.taps.close(&self.tap);
    }
}
