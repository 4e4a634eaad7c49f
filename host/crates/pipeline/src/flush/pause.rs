//! How long a sink is left alone after it failed.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);

/// Full jitter: a random time between nothing and a bound that doubles with each failure, so that a fleet that lost its database in
/// the same second does not come back to it in the same second.
#[derive(Debug)]
pub(super) struct Pause {
    bound: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { bound: FIRST }
    }
}

impl Pause {
    /// It failed: how long to wait. What only a person can mend is given `at_least` as its bound from the first time on.
    pub fn failed(&mut self, at_least: Duration) -> Duration {
        let bound = self.bound.max(at_least).min(LAST);
        self.bound = (bound * 2).min(LAST);
        bound.mul_f64(fastrand::f64())
    }

    /// It worked: the next failure begins anew.
    pub fn worked(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: waits begin small, are spread over the whole time up to the bound, and never pass it.
    #[test]
    fn waits_are_bounded_and_spread() {
        let mut pause = Pause::default();
        assert!(pause.failed(Duration::ZERO) <= FIRST);
        let waits: Vec<_> = (0..1_000).map(|_| pause.failed(Duration::ZERO)).collect();
        assert!(waits.iter().all(|wait| *wait <= LAST));
        // Of a thousand, none in either half of the time happens once in 2^1000 runs.
        assert!(waits.iter().any(|wait| *wait < LAST / 2) && waits.iter().any(|wait| *wait > LAST / 2));
        pause.worked();
        assert!(pause.failed(Duration::ZERO) <= FIRST);
    }
}
