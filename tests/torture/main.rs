//! Torture: the host, the broker and the database are killed again and again, and the lines between them broken, under
//! load; then every message must be stored or in the dead letters.
//!
//! `make torture KILLS=200 SECONDS=3600` ends after so many kills of the host or so many seconds, whatever comes first, and
//! prints its ledger as one JSON object on the last line. `SEED=n` makes the same choices again; `RATE=n` is the load in
//! messages a second.
//!
//! What the *broker* loses is told apart. mosquitto acknowledges first and writes its store later, so that a `kill -9` takes
//! with it what it has promised. A tap on the line between broker and host knows what the host
//! has acknowledged: a message is the broker's own loss only if the host never acknowledged it *and* the broker took it just
//! before it was killed. All else that is missing is ours.
//!
//! Start reading with `plan.rs` (what may happen), then `verdict.rs` (what counts as what).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test tool")]

mod book;
mod feed;
mod plan;
mod plant;
mod stream;
mod tap;
mod verdict;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use book::Book;
use plan::Plan;
use plant::Plant;

/// Messages a second, if not said otherwise: what a debug build stores with ease while it is killed every few seconds.
const RATE: u64 = 1_000;

fn main() -> ExitCode {
    let kills = setting("KILLS").unwrap_or(200);
    let span = Duration::from_secs(setting("SECONDS").unwrap_or(3_600));
    let rate = setting("RATE").unwrap_or(RATE);
    let seed = setting("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("torture: until {kills} kills of the host or {span:?}, {rate} messages a second, SEED={seed}");

    let start = Instant::now();
    let book = Arc::new(Book::new());
    let Some(mut plant) = Plant::start(book.clone(), rate, seed) else { return ExitCode::FAILURE };
    let mut plan = Plan::new(seed);
    while plant.tally.kills < kills && start.elapsed() < span {
        let step = plan.step();
        plant.load_for(step.after);
        if plant.make(step.blow) {
            println!("{:4} s  {}  after {}", start.elapsed().as_secs(), plant.progress(), step.blow);
        }
    }
    println!("{:4} s  everything is repaired; waiting for what is on the way", start.elapsed().as_secs());
    plant.repair();
    let verdict = plant.settle(&book);
    println!("{verdict}");
    println!("{}", verdict.ledger(&plant.tally, seed, start.elapsed()));
    if verdict.holds() {
        ExitCode::SUCCESS
    } else {
        println!("{}", plant.keep());
        ExitCode::FAILURE
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}; give a whole number")))
}
