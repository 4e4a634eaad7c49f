//! What a rule's faults take of its lane's time: a rule whose batches fail as a whole and never in their parts has no poison row to be found, and may stay
//! within each limit there is; its neighbours wait for it all the same.

use std::time::{Duration, Instant};

use tidegate_engine::Limits;

/// So much is given back of the time that passes: as ticks and saves have a tenth of it.
const SHARE: u32 = 10;
/// What may be taken beyond that: five poison rows of each of three devices, where each fault costs an instance that takes 0.3 s to be made.
const MOST: Duration = Duration::from_secs(15);
/// And so many calls at least that run into their limit, for whoever allows long ones: five poison rows with two each, and what else is in their batches.
const CALLS: u32 = 15;

/// How long a lane has been taking batches apart for a rule, less what time has given back.
#[derive(Debug, Default)]
pub(super) struct Toll {
    taken: Duration,
    at: Option<Instant>,
}

impl Toll {
    /// Enters that a batch took so long from its first fault on; gives whether that is too much by now.
    pub fn enter(&mut self, took: Duration, now: Instant, limits: &Limits) -> bool {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |then| now.duration_since(then));
        self.taken = self.taken.saturating_sub(passed / SHARE) + took;
        self.taken >= MOST.max(limits.batch_cpu * CALLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: whoever takes nearly all of a lane's time is stopped within twenty seconds, however that is dealt out; who takes less than a tenth never
    /// is; and rules that may take longer for each call may so for their faults.
    #[test]
    fn what_is_too_much() {
        for (cpu_ms, took_ms, every_ms, entries) in [
            (50, 1_400, 1_450, Some(12)),
            (50, 100, 110, Some(169)),
            (50, 100, 1_000, None),
            (50, 14_900, 150_000, None),
            (10_000, 29_000, 30_000, Some(6)),
        ] {
            let limits = Limits { batch_cpu: Duration::from_millis(cpu_ms), ..Limits::default() };
            let (mut toll, start) = (Toll::default(), Instant::now());
            let enter = |at: u64| {
                toll.enter(Duration::from_millis(took_ms), start + Duration::from_millis(at * every_ms), &limits)
            };
            let enough = (0..1_000).map(enter).position(|enough| enough).map(|at| at + 1);
            assert_eq!(enough, entries, "{took_ms} ms every {every_ms} ms");
        }
    }
}
