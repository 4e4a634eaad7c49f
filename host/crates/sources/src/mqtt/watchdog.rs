//! Tells a connection on which nothing comes any more from one that is merely quiet for a while.
//!
//! A connection can look well for long after its broker has forgotten the subscription, or a bridge behind it has died: pings are
//! answered, and no message comes. Only the operator knows how long topics may be silent; that is `stale_after`.
//!
//! What counts is the silence of the broker. Silence that we cause does not: while we do not read, or while messages wait for
//! us to acknowledge them, the broker may have no leave to send more. So the time begins anew when that ends. No I/O.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    stale_after: Duration,
    heard_at: Instant,
    /// Kept between looks: a timer that is registered costs nothing to poll.
    timer: Pin<Box<Sleep>>,
}

impl Watchdog {
    /// Begins now.
    pub(super) fn new(stale_after: Duration) -> Self {
        let now = Instant::now();
        Self { stale_after, heard_at: now, timer: Box::pin(sleep_until(now + stale_after)) }
    }

    /// The broker has sent something, or could not have: the time begins anew. Cheap; the timer is not touched.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Resolves when nothing was heard for too long. May be dropped and called again.
    pub(super) async fn silence(&mut self) {
        loop {
            self.timer.as_mut().await;
            let stale_at = self.heard_at + self.stale_after;
            if Instant::now() >= stale_at {
                return;
            }
            self.timer.as_mut().reset(stale_at);
        }
    }
}

/// As [`Watchdog::silence`]; never, without one.
pub(super) async fn silence(watchdog: &mut Option<Watchdog>) {
    match watchdog {
        Some(watchdog) => watchdog.silence().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the alarm comes when the whole time has passed since the broker was last heard, not since the beginning.
    #[tokio::test]
    async fn the_whole_time_since_it_was_heard() {
        let stale_after = Duration::from_millis(50);
        let mut watchdog = Watchdog::new(stale_after);
        let begun = watchdog.heard_at;
        while Instant::now() < begun + stale_after / 2 {
            std::hint::spin_loop();
        }
        let heard = Instant::now();
        watchdog.heard();
        watchdog.silence().await;
        assert!(Instant::now() >= heard + stale_after);
    }

    /// Guarantees: silence that has lasted too long already is told at once; without a watchdog there is no alarm.
    #[tokio::test]
    async fn told_at_once_or_never() {
        let (mut none, mut watchdog) = (None, Some(Watchdog::new(Duration::ZERO)));
        tokio::select! {
            biased;
            () = silence(&mut none) => unreachable!("there is no watchdog"),
            () = silence(&mut watchdog) => {}
        }
    }
}
