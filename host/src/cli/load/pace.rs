//! The schedule: message `n` is due `n / rate` seconds after the begin, whatever has become of those before it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::cli::load::connection::{Senders, Traffic};
use crate::simulator::Simulator;

/// How often the clock is asked what is due.
const TICK: Duration = Duration::from_millis(1);
/// The end, where none was asked for.
const NEVER: Duration = Duration::from_secs(366 * 86_400);

/// When messages are due.
#[derive(Clone, Copy)]
pub struct Pace {
    /// When the first message is due.
    pub began: Instant,
    /// Messages a second.
    pub rate: f64,
    /// When no more are due.
    pub end: Option<Instant>,
}

impl Pace {
    /// How many messages are due by `now`.
    pub fn due(&self, now: Instant) -> u64 {
        let now = self.end.map_or(now, |end| now.min(end));
        (now.saturating_duration_since(self.began).as_secs_f64() * self.rate) as u64
    }

    /// How long after `written` messages the next one has been due.
    pub fn lag(&self, written: u64, now: Instant) -> Duration {
        if written >= self.due(now) {
            return Duration::ZERO;
        }
        let now = self.end.map_or(now, |end| now.min(end));
        now.saturating_duration_since(self.began + Duration::from_secs_f64(written as f64 / self.rate))
    }
}

/// Sends what is due until the end. A message carries the time it was due at, so that delays downstream of a late load are
/// seen in full.
pub async fn run_at(pace: Pace, mut simulator: Simulator, senders: Senders, traffic: Arc<Traffic>) {
    let began_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let end = pace.end.unwrap_or(pace.began + NEVER);
    let mut sent: u64 = 0;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now = tick.tick().await;
        while sent < pace.due(Instant::now()) {
            let due_us = began_us + (sent as f64 / pace.rate * 1e6) as i64;
            let (topic, payload) = simulator.next(due_us);
            match timeout_at(end, senders.send(topic, payload)).await {
                Ok(Ok(())) => sent += 1,
                // The connection's task has ended, or the time is over.
                Ok(Err(_)) | Err(_) => return,
            }
            traffic.garbage.store(simulator.garbage(), Ordering::Relaxed);
        }
        if now >= end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is due depends on the clock alone and stops at the end; the lag is the age of the oldest message due.
    #[test]
    fn due_and_lag() {
        let began = Instant::now();
        let pace = Pace { began, rate: 200.0, end: Some(began + Duration::from_secs(10)) };
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!([0, 4, 5, 1_000, 10_000, 20_000].map(|ms| pace.due(at(ms))), [0, 0, 1, 200, 2_000, 2_000]);
        assert_eq!(pace.lag(200, at(1_000)), Duration::ZERO);
        assert_eq!(pace.lag(100, at(1_000)), Duration::from_millis(500));
        assert_eq!(pace.lag(1_900, at(20_000)), Duration::from_millis(500));
    }
}
