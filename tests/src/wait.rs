//! Waiting on a condition, never on the clock alone.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long anything here may take: far more than it does, since a busy machine is no failure, and who waits on a condition waits no longer than it takes.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` gives a value; past `deadline` the test fails with what was seen last.
pub fn wait_for<T, S: Display>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, S>) -> T {
    let start = Instant::now();
    loop {
        // The time is taken before looking: what comes true in the last moment counts.
        let late = start.elapsed() >= deadline;
        match look() {
            Ok(value) => return value,
            Err(last) if late => panic!("waited {deadline:?} for {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(EVERY),
        }
    }
}
