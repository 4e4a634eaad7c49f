//! Into what a batch that a rule fails on is taken apart, and for how long a lane has patience with that.
//!
//! What counts is the time of the calls that failed: a trap takes microseconds, and what it costs to make new instances is not the poison's doing.
//! Of the processor: a busy node punishes nobody. Neighbours wait for all of it, though, so there is an end to that in all.

use std::time::Duration;

use tidegate_engine::{Fault, Limits, thread_cpu};

/// A part that fails is cut into so many. Of a thousand rows each then stands alone after two cuts; each fault costs an instance, and where a
/// rule runs into its limit of time, all of that: to halve would take ten.
const PARTS: usize = 32;
/// So many calls may run into their limit before a poison row is found: more than there are cuts of any batch.
const CALLS_A_POISON: u32 = 12;
/// And this long at least, however short the limit is.
const LEAST: Duration = Duration::from_secs(1);
/// For how many such rows, one after the other, a lane stands still at most, all in all, with what it takes to make new instances.
const MOST: u32 = 3;
/// But no longer than this, or than two calls may take that run into their limit: a row that does is found with those.
const ENOUGH: Duration = Duration::from_secs(5);
const CALLS_IN_ALL: u32 = 2;

/// How many rows each part has that a part of so many is cut into.
fn rows_of_a_part(rows: usize) -> usize {
    rows.div_ceil(PARTS).max(1)
}

/// The one of these that all of them are, if there is one.
pub(crate) fn sole<T: PartialEq>(mut of: impl Iterator<Item = T>) -> Option<T> {
    let first = of.next()?;
    of.all(|other| other == first).then_some(first)
}

/// How long one rule has been failing in one batch; times are of the thread's processor.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// When it failed first.
    began: Option<Duration>,
    /// What it said last.
    last: String,
    /// What the calls took that have failed since a poison row was found last.
    failing: Duration,
    /// What it took to bring the first new instance to where the first one stood.
    revival: Duration,
}

impl Patience {
    /// How the rule has failed last in this batch, if it has.
    pub fn last_fault(&self) -> Option<&str> {
        self.began.map(|_| &*self.last)
    }

    /// When a call begins, where that may be asked of it: a rule that has not failed yet pays for no clock.
    pub fn clock(&self) -> Option<Duration> {
        self.began.map(|_| thread_cpu())
    }

    /// A call that began at `call` has failed at `now`; gives whether it is the first.
    pub fn failed(&mut self, fault: &Fault, call: Option<Duration>, now: Duration) -> bool {
        self.last = fault.to_string();
        self.failing += call.map_or(Duration::ZERO, |call| now.saturating_sub(call));
        let first = self.began.is_none();
        self.began.get_or_insert(now);
        first
    }

    /// A new instance is ready at `now`.
    pub fn revived(&mut self, now: Duration) {
        self.revival = now.saturating_sub(self.began.unwrap_or(now));
    }

    /// A poison row stands alone.
    pub fn found(&mut self) {
        self.failing = Duration::ZERO;
    }

    /// Whether it is enough: what fails from now on is taken apart no more.
    pub fn is_spent(&self, limits: &Limits, now: Duration) -> bool {
        self.failing >= a_poison(limits) || self.since_first(now) >= self.in_all(limits)
    }

    /// Takes the next part off what is `left` of so many `rows` that failed, if anything is. Some time after it is enough that is all of it, in one call: also
    /// calls that go well may take all the time that there is for each.
    pub fn next_part<'a>(
        &self,
        left: &mut &'a [u32],
        rows: usize,
        limits: &Limits,
        now: Duration,
    ) -> Option<&'a [u32]> {
        let over = self.since_first(now) >= self.in_all(limits) + ENOUGH;
        let many = if over { left.len() } else { rows_of_a_part(rows).min(left.len()) };
        let (part, rest) = left.split_at(many);
        *left = rest;
        (!part.is_empty()).then_some(part)
    }

    /// How long ago it failed first.
    pub fn since_first(&self, now: Duration) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    fn in_all(&self, limits: &Limits) -> Duration {
        let most = ENOUGH.max(limits.batch_cpu * CALLS_IN_ALL);
        most.min((a_poison(limits) + self.revival * CALLS_A_POISON) * MOST)
    }
}

fn a_poison(limits: &Limits) -> Duration {
    LEAST.max(limits.batch_cpu * CALLS_A_POISON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(cpu_ms: u64) -> Limits {
        Limits { batch_cpu: Duration::from_millis(cpu_ms), ..Limits::default() }
    }

    fn fault() -> Fault {
        Fault::bad_output("it fails")
    }

    /// Guarantees: any batch is taken apart to single rows in a few cuts.
    #[test]
    fn few_cuts() {
        for (rows, most) in [(1, 1), (2, 1), (33, 2), (1_000, 2), (1_024, 2), (10_000, 3), (1_000_000, 4)] {
            let cuts =
                std::iter::successors(Some(rows), |&rows| (rows > 1).then(|| rows_of_a_part(rows))).count() - 1;
            assert!(cuts <= most, "{rows} rows take {cuts} cuts");
        }
        assert_eq!(
            (sole([7, 7].iter()), sole([7, 8].iter()), sole::<u8>(std::iter::empty())),
            (Some(&7), None, None)
        );
    }

    /// Guarantees: a row that runs into a limit of any length is found before patience is at an end, also where it takes long to make new instances; a
    /// rule that goes on and on failing is stopped, however quickly poison is found, and before its neighbours have waited for long.
    #[test]
    fn what_counts() {
        for (cpu_ms, most_ms) in [(1, 5_000), (50, 5_000), (1_000, 5_000), (10_000, 20_000)] {
            let (limits, cpu) = (limits(cpu_ms), Duration::from_millis(cpu_ms));
            let revival = Duration::from_secs(2);
            let began = Duration::from_secs(5);
            let (mut patience, mut now) = (Patience::default(), began);
            assert!(patience.failed(&fault(), None, now));
            now += revival;
            patience.revived(now);
            // Of a thousand rows, and then of thirty; the next is the row alone.
            let call = now;
            now += cpu;
            assert!(!patience.failed(&fault(), Some(call), now) && !patience.is_spent(&limits, now), "{cpu_ms} ms");
            now += revival + cpu;
            patience.found();
            while !patience.is_spent(&limits, now) {
                let call = now;
                now += cpu + revival;
                patience.failed(&fault(), Some(call), call + cpu);
                patience.found();
            }
            let waited = now - began;
            assert!(waited < Duration::from_millis(most_ms) + cpu + revival, "{waited:?} with {cpu_ms} ms");
        }
        let (limits, mut patience) = (limits(50), Patience::default());
        patience.failed(&fault(), None, Duration::ZERO);
        patience.failed(&fault(), Some(Duration::ZERO), Duration::from_millis(999));
        assert!(!patience.is_spent(&limits, Duration::from_millis(999)));
        patience.failed(&fault(), Some(Duration::from_millis(999)), Duration::from_millis(1_001));
        assert!(patience.is_spent(&limits, Duration::from_millis(1_001)), "no poison was found for so long");
    }

    /// Guarantees: all rows are in some part, in order; and parts that take long, though they go well, are few.
    #[test]
    fn parts() {
        let rows: Vec<u32> = (0..1_000).collect();
        for (seconds_a_part, calls) in [(0, 32), (1, 9), (30, 2)] {
            let (mut patience, mut now) = (Patience::default(), Duration::from_secs(5));
            patience.failed(&fault(), None, now);
            let (mut left, mut taken) = (&rows[..], Vec::new());
            while let Some(part) = patience.next_part(&mut left, rows.len(), &limits(50), now) {
                taken.push(part);
                now += Duration::from_secs(seconds_a_part);
            }
            assert_eq!((taken.len(), taken.concat()), (calls, rows.clone()), "{seconds_a_part} s each");
        }
    }
}
