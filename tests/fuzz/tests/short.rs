//! Every target for a little while: `TIDEGATE_FUZZ_SECONDS` in the environment sets how long each has.
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use tidegate_fuzz::{all, fuzz};

fn try_target(name: &str) {
    let seconds = std::env::var("TIDEGATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let all = all();
    let target = all.iter().find(|target| target.name == name).expect("there is such a target");
    let inputs = fuzz(target, Duration::from_secs(seconds));
    println!("{name}: {inputs} inputs in {seconds} s");
    assert!(inputs > 20, "{name}: {inputs} inputs are too few to have tried anything");
}

/// Guarantees: filters are read and matched as the standard says, whatever they are.
#[test]
fn filters() {
    try_target("filters");
}

/// Guarantees: whatever is given for a module is one or is refused.
#[cfg(feature = "engine")]
#[test]
fn admission() {
    try_target("admission");
}

/// Guarantees: whatever test cases a module ships, they are refused, pass or fail.
#[cfg(feature = "engine")]
#[test]
fn cases() {
    try_target("cases");
}

/// Guarantees: whatever a guest returns is a fault or sound.
#[cfg(feature = "engine")]
#[test]
fn outputs() {
    try_target("outputs");
}

/// Guarantees: whatever stands for saved state is refused or lived with.
#[cfg(feature = "engine")]
#[test]
fn state() {
    try_target("state");
}

/// Guarantees: the same of what the SDK reads, and what it took is what it saves.
#[test]
fn cells() {
    try_target("cells");
}
