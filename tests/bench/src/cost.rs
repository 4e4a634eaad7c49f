//! What a repetition took beside its figure: CPU time and memory of this process. Feeders, brokers and databases are processes of their
//! own, and not in it; nor is psql, where that is what ours is compared with.

use anyhow::Result;
use serde::Serialize;

use crate::clock;
use crate::resident::{self, Pages};

/// What one repetition took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds of CPU time, of all threads.
    pub cpu_s: f64,
    /// Resident memory at its end: MiB.
    pub rss_mib: f64,
}

impl Cost {
    /// What two parts of a repetition took, one after the other.
    pub fn and(self, next: Self) -> Self {
        Self { cpu_s: self.cpu_s + next.cpu_s, rss_mib: next.rss_mib }
    }
}

/// Does `work`, and gives what it took.
pub fn of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let before = clock::process_cpu();
    let made = work()?;
    let cpu_s = clock::process_cpu().saturating_sub(before).as_secs_f64();
    Ok((made, Cost { cpu_s, rss_mib: resident::kib(Pages::All)? as f64 / 1024.0 }))
}
