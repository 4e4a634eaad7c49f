//! What comes from outside, changed at random: nothing of it may bring the host down, or be taken for what it is not.
//!
//! Each target is a plain function of some bytes that panics when something does not hold. [`fuzz`] gives it the stored corpus
//! (`corpus/<target>/`), then that corpus changed at random for some seconds, in the same order every time. It does not see what code it
//! reaches; but it builds with any compiler, and runs wherever tests run.
//!
//! `make fuzz SECONDS=600` has libFuzzer drive the same targets (`fuzz_targets/`), which does see that, where there is a C++ compiler to build it
//! with; it needs no other Rust, for `coverage.sh` has ours count. So does `cargo fuzz`, which builds all crates anew with flags of its own, and is
//! therefore best given those targets that run no guests; what it learns goes to the first directory named:
//!
//! ```text
//! mkdir -p target/fuzz/cells
//! cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none --dev --no-default-features --features libfuzzer \
//!   fuzz-cells target/fuzz/cells tests/fuzz/corpus/cells -- -max_total_time=60
//! ```
//!
//! and `fuzz-filters` likewise.
//!
//! | target | what is changed |
//! |---|---|
//! | `filters` | MQTT topic filters and topics, against a plain reference |
//! | `admission` | modules that are looked over and compiled |
//! | `cases` | test cases that a module ships |
//! | `outputs` | what a guest returns, byte for byte |
//! | `state` | saved state that a rule is given |
//! | `cells` | the same as the SDK reads it, without a guest around it |
//!
//! What it finds becomes a file in the corpus, so that it is looked for ever after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test")]

mod change;
#[cfg(feature = "engine")]
mod guest;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use change::Changes;
pub use targets::{Target, all};

/// The most bytes of an input.
const MAX_BYTES: usize = 16 << 10;

/// Gives a target its corpus, then changes of it until the time is over; gives how many inputs it had.
///
/// # Panics
/// The target does; the input is printed before.
pub fn fuzz(target: &Target, time: Duration) -> u64 {
    let mut corpus = stored(target.name);
    corpus.extend((target.seeds)());
    assert!(!corpus.is_empty(), "there is no corpus of {}", target.name);
    corpus.iter().for_each(|input| one(target, input));
    let (until, mut changes) = (Instant::now() + time, Changes::of(&corpus));
    let mut inputs = corpus.len() as u64;
    while Instant::now() < until {
        let mut input = changes.next();
        input.truncate(MAX_BYTES);
        one(target, &input);
        inputs += 1;
    }
    inputs
}

/// Tries one input on the target of that name.
///
/// # Panics
/// The target does, or there is none of that name.
pub fn try_input(name: &str, input: &[u8]) {
    let all = all();
    let target = all.iter().find(|target| target.name == name).expect("there is such a target");
    (target.run)(input);
}

fn one(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{} fails on {} bytes: {hex}", target.name, input.len());
        resume_unwind(panic);
    }
}

fn stored(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}
