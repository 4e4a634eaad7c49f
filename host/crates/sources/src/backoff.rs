//! How long to wait before trying again.
//!
//! Full jitter: a random time between nothing and a bound that doubles with each attempt, so that a fleet of hosts that
//! lost its broker in the same second does not come back in the same second.

use std::time::{Duration, Instant};

/// The first bound.
const BASE: Duration = Duration::from_millis(250);
/// The largest bound.
const CAP: Duration = Duration::from_secs(30);
/// What has held this long counts as good: the next failure begins anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// The attempts so far, and when the last one began to hold.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
    holding_since: Option<Instant>,
}

impl Backoff {
    /// What was tried works, for now.
    pub(crate) fn holds(&mut self) {
        self.holding_since = Some(Instant::now());
    }

    /// What was tried failed: how long to wait before the next attempt.
    pub(crate) fn failed(&mut self) -> Duration {
        if self.holding_since.take().is_some_and(|since| since.elapsed() >= GOOD_AFTER) {
            self.attempts = 0;
        }
        let wait = self.bound().mul_f64(fastrand::f64());
        self.attempts = self.attempts.saturating_add(1);
        wait
    }

    fn bound(&self) -> Duration {
        BASE.saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX)).min(CAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: waits never pass 30 s, however long it goes on, and grow from a quarter of a second.
    #[test]
    fn waits_are_bounded() {
        let mut backoff = Backoff::default();
        assert!(backoff.failed() <= BASE);
        for _ in 0..100 {
            assert!(backoff.failed() <= CAP);
        }
        assert_eq!(backoff.bound(), CAP);
    }

    /// Guarantees: full jitter: hosts that failed as often spread over the whole time up to the bound, from its beginning on.
    #[test]
    fn waits_are_spread() {
        let waits = (0..1_000).map(|_| Backoff { attempts: 20, holding_since: None }.failed().as_secs_f64());
        let mut tenths = [0; 10];
        waits.for_each(|wait| tenths[((wait / CAP.as_secs_f64() * 10.0) as usize).min(9)] += 1);
        // 100 are expected in each; that one has fewer than 50 happens once in 10 million runs.
        assert!(tenths.iter().all(|&count| count >= 50), "{tenths:?}");
    }

    /// Guarantees: a connection that is made and lost again at once does not begin anew.
    #[test]
    fn a_short_success_is_no_success() {
        let mut backoff = Backoff { attempts: 5, holding_since: None };
        backoff.holds();
        backoff.failed();
        assert_eq!(backoff.attempts, 6);
    }
}
