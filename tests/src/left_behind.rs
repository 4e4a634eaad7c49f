//! What is left behind of what was done many times: for the suite, and, taken in by its path, for tests of crates that have a process of their own.

/// A field of `/proc/<process>/status` in KiB, see proc(5): `VmRSS` is what is resident, `VmHWM` the most that ever was. `self` is this process.
pub fn memory_kib(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many traps a test makes: as `TIDEGATE_TRAPS` in the environment says, else so many as keep the suite short.
pub fn traps(usual: usize) -> usize {
    std::env::var("TIDEGATE_TRAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
