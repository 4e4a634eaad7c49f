//! Torture: the host, the broker and the database are killed again and again, and the lines between them broken, under
//! load; then every message must be stored or in the dead letters.
//!
//! `make torture KILLS=200 SECONDS=3600` ends after so many kills of the host or so many seconds, whatever comes first, and
//! prints its ledger as one JSON object on the last line. `SEED=n` makes the same choices again. `RATE=n` is the load in
//! messages a second, a fifth of it through Kafka (a mock cluster in this process, which outlives the hosts). `MESSAGES=n`
//! goes on, `KILLS` reached, until there were so many. `BROKER=spared` leaves the MQTT broker alone.
//!
//! Half of the host's kills are its own: it is started so that it ends at a certain site in its code (crate `fail`) when it
//! has passed it a certain number of times.
//!
//! What the *broker* loses is told apart by evidence. mosquitto acknowledges first and writes its store later, so that a
//! `kill -9` takes with it what it has promised. A message is the broker's own loss only if its file, read when it was dead, has
//! it not, and if a tap on the line between broker and host has neither heard the host acknowledge it, nor a later
//! life of the broker deliver it. All else that is missing is ours.
//!
//! A run fails, too, if any thread of it does, if the load was smaller than asked for, if the host ends where it was not
//! armed, if its accounts do not balance in the end, or if its log tells of a panic or a bug.
//!
//! Start reading with `plan.rs` (what may happen), then `book.rs` and `verdict.rs` (what counts as what).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test tool")]

mod alarm;
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
use plan::{Broker, Plan};
use plant::Plant;

/// Messages a second, if not said otherwise: what a debug build stores with ease while it is killed every few seconds.
const RATE: u64 = 2_000;

fn main() -> ExitCode {
    let kills = number("KILLS").unwrap_or(200);
    let messages = number("MESSAGES").unwrap_or(0);
    let span = Duration::from_secs(number("SECONDS").unwrap_or(3_600));
    let rate = number("RATE").unwrap_or(RATE);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let broker = match setting("BROKER").as_deref() {
        None | Some("killed") => Broker::Killed,
        Some("spared") => Broker::Spared,
        Some(other) => panic!("BROKER={other}: it can be `killed` or `spared`"),
    };
    println!(
        "torture: until {kills} kills of the host and {messages} messages, or {span:?}; {rate} messages a second, SEED={seed}"
    );

    alarm::install();
    let start = Instant::now();
    let book = Arc::new(Book::default());
    let Some(mut plant) = Plant::start(book.clone(), rate, seed) else { return ExitCode::FAILURE };
    let mut plan = Plan::new(seed, broker);
    while (plant.tally.kills < kills || book.len() < messages) && start.elapsed() < span {
        let step = plan.step();
        plant.load_for(step.after, &mut plan);
        if plant.make(step.blow) {
            println!("{:4} s  {}  after {}", start.elapsed().as_secs(), plant.progress(), step.blow);
        }
    }
    println!("{:4} s  everything is repaired; waiting for what is on the way", start.elapsed().as_secs());
    plant.repair();
    let verdict = plant.settle();
    if !verdict.holds() {
        println!("{}", plant.keep());
    }
    println!("{verdict}");
    println!("{}", verdict.ledger(&plant.tally, seed, start.elapsed()));
    if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str) -> Option<u64> {
    let text = setting(name)?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}; give a whole number")))
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
