//! CPU time and how it is read: of one thread, or of the whole process.
//!
//! CPU time is what a run cost; wall time on a busy machine also tells what others did meanwhile.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// User and system time of all threads of this process since it began: the same account as `getrusage(RUSAGE_SELF)`
/// (POSIX, `CLOCK_PROCESS_CPUTIME_ID`), without its microsecond grain. Other processes, and so feeders and brokers, are not in it.
pub fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// User and system time of the calling thread since it began.
pub fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// The same of all threads but the calling one: what the rest of the process spends on what this thread gives it.
pub fn other_threads_cpu() -> Duration {
    process_cpu().saturating_sub(thread_cpu())
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Neither clock goes below zero.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Nanoseconds of `total` for each of `parts`.
pub fn nanos_each(total: Duration, parts: usize) -> f64 {
    total.as_nanos() as f64 / parts.max(1) as f64
}
