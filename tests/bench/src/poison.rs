//! One message in a hundred is poison, of each kind in turn: what becomes of the good ones, and how fast, by the same messages without
//! poison.
//!
//! **In**: the host from socket to store: the MQTT client at QoS 1, the lanes with decoder and threshold in WebAssembly, points and dead letters
//! each into a SQLite file of their own, synced, as the host keeps them by default, and a sink beside them that adds up what it discards; from
//! connecting to the last message. **Out**: the feeder, a process of its own, which sends packets encoded beforehand.
//!
//! `mixed` has all kinds but `trap` in turn. `huge-256-kib` alone has no target: 97 of 100 of its bytes are poison, and all of them are made durable.
//!
//! Wall time. After each run every good message must have come as a point with its value and time, and every poisoned one must be in the
//! file, byte for byte and once, with a reason.
//!
//! `trap` is another matter: a rule that fails on so many rows is quarantined after a few, as it should be, and from then on is passed by. So a poisoned row
//! must be a dead letter or have come to the sink as it is, and some must be dead letters.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tidegate_sinks::{DeadLetters, dead_letters};

use crate::consumer::host::{Host, HostSetup, Letters};
use crate::consumer::{Consumer, RECEIVE_MAXIMUM};
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::mqtt::feeder::Feed;
use crate::mqtt::process::Process;
use crate::mqtt::wire::{Qos, Version};
use crate::report::Progress;
use crate::rules::Setup;
use crate::workload;

/// Messages of one repetition.
const MESSAGES: usize = 300_000;
/// The same where poison is so large that memory would run short.
const MESSAGES_OF_HUGE: usize = 30_000;
const HUGE_BYTES: usize = 256 << 10;
const DEPTH: usize = 1_000;
const REPETITIONS: usize = 7;
/// What the rule with a bug traps on: no good reading has it.
pub const DEADLY: f64 = -7_777.5;
/// A topic that is subscribed to, and that no decoder wants.
const LOST: &str = "dev/lost/in/the/mail";

/// What each hundredth message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hundredth {
    /// Garbage of several kinds: the workload of all other benches.
    Usual,
    /// A reading like all others.
    Reading,
    /// JSON that breaks off.
    Garbage,
    Empty,
    /// An object of 256 KiB, whole, in which the value is missing: it has to be read to its end.
    #[value(name = "huge-256-kib")]
    Huge,
    #[value(name = "not-utf-8")]
    NotUtf8,
    /// A thousand arrays in each other.
    #[value(name = "deeply-nested")]
    Nested,
    WrongType,
    /// A sound reading on a topic that no decoder wants.
    NoDecoder,
    /// A sound reading that a rule traps on.
    Trap,
    /// All of these but the last in turn.
    Mixed,
}

impl Hundredth {
    pub const POISONS: [Hundredth; 9] = [
        Hundredth::Garbage,
        Hundredth::Empty,
        Hundredth::Huge,
        Hundredth::NotUtf8,
        Hundredth::Nested,
        Hundredth::WrongType,
        Hundredth::NoDecoder,
        Hundredth::Trap,
        Hundredth::Mixed,
    ];

    /// What this one of the messages is.
    fn of(self, message: usize) -> Self {
        if self == Hundredth::Mixed { Self::POISONS[message / 100 % 7] } else { self }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Hundredth::Usual => "usual",
            Hundredth::Reading => "reading",
            Hundredth::Garbage => "garbage",
            Hundredth::Empty => "empty",
            Hundredth::Huge => "huge-256-kib",
            Hundredth::NotUtf8 => "not-utf-8",
            Hundredth::Nested => "deeply-nested",
            Hundredth::WrongType => "wrong-type",
            Hundredth::NoDecoder => "no-decoder",
            Hundredth::Trap => "trap",
            Hundredth::Mixed => "mixed",
        }
    }

    /// The topic of a message.
    pub fn topic(self, message: usize) -> String {
        let lost = self.of(message) == Hundredth::NoDecoder && workload::is_garbage(message);
        if lost { LOST.to_owned() } else { workload::topic(workload::topic_of(message)) }
    }

    /// Appends the payload of a message. No two are the same, but the empty ones.
    pub fn payload(self, message: usize, to: &mut Vec<u8>) {
        if !workload::is_garbage(message) {
            return workload::reading(message, to);
        }
        // Writing to a Vec cannot fail.
        let _ = match self.of(message) {
            Hundredth::Mixed => Ok(()),
            Hundredth::Usual => return workload::payload(message, to),
            Hundredth::Reading => return workload::reading(message, to),
            Hundredth::Empty => Ok(()),
            Hundredth::Garbage => write!(to, r#"{{"v":{message},"q":"go"#),
            Hundredth::Huge => write!(to, r#"{{"n":{message},"pad":"{}"}}"#, "x".repeat(HUGE_BYTES - 30)),
            Hundredth::NotUtf8 => {
                let _ = write!(to, r#"{{"v":{message},"u":""#);
                to.write_all(b"\xb0C\"}")
            }
            Hundredth::Nested => write!(to, r#"{{"n":{message},"v":{}{}}}"#, "[".repeat(DEPTH), "]".repeat(DEPTH)),
            Hundredth::WrongType => write!(to, r#"{{"v":{message},"q":"good","ts":"yesterday"}}"#),
            Hundredth::NoDecoder => write!(to, r#"{{"v":{message},"q":"good"}}"#),
            // Of bad quality: a threshold behind the rule that traps does not judge it, should it pass by.
            Hundredth::Trap => write!(to, r#"{{"v":{DEADLY},"q":"bad","n":{message}}}"#),
        };
    }

    fn messages(self) -> usize {
        if self == Hundredth::Huge { MESSAGES_OF_HUGE } else { MESSAGES }
    }

    /// What the dead letter's reason must speak of.
    const fn reason(self) -> &'static str {
        match self {
            Hundredth::Huge => "no value",
            Hundredth::NoDecoder => "decoder",
            Hundredth::Trap => "trap",
            _ => "",
        }
    }
}

/// Messages a second.
pub fn measure(poison: Hundredth, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let messages = effort.amount(poison.messages());
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let hundredth = match side {
            Side::Ours => poison,
            Side::Baseline => Hundredth::Reading,
        };
        run(hundredth, poison, messages)
    })
}

fn run(hundredth: Hundredth, poison: Hundredth, messages: usize) -> Result<f64> {
    let lost = |message: usize| hundredth != Hundredth::Reading && workload::is_garbage(message);
    let expected = Arc::new(workload::expected_without(messages, lost));
    let setup = HostSetup {
        version: Version::V3,
        qos: Qos::AtLeastOnce,
        batch_rows: None,
        dead_letters: Letters::KeptWithPoints,
    };
    let decoder = Setup { filter: "dev/+/+/temperature".into(), ..Setup::json_reading() };
    let mut rules = vec![decoder, Setup::threshold()];
    if poison == Hundredth::Trap {
        let config = format!(r#"{{"value":{DEADLY}}}"#);
        rules.push(Setup { name: "trap".into(), module: "bench-trap", config, filter: "#".into(), order: 50 });
    }
    let window = usize::from(RECEIVE_MAXIMUM);
    let feed = Feed { messages, version: setup.version, qos: setup.qos, window, hundredth };
    let (feeder, port) = Process::feeder(feed)?;
    let mut host = Host::with_rules(setup, &expected, &rules)?;
    let began = Instant::now();
    host.connect(port)?;
    let ended = host.finished()?;
    feeder.says("done")?;
    let bypassed = host.end()?;
    letters(&DeadLetters::path(host.data()), hundredth, messages, bypassed)?;
    points(&host.store(), expected.points + bypassed)?;
    Ok(messages as f64 / (ended - began).as_secs_f64())
}

/// Looks over the points in the file: so many rows, none twice.
fn points(path: &Path, due: u64) -> Result<()> {
    let store = rusqlite::Connection::open(path).context("the store cannot be opened")?;
    let rows: u64 = store.query_row("SELECT count(*) FROM metrics", [], |row| row.get(0))?;
    ensure!(rows == due, "{rows} points are in the store, of {due}");
    Ok(())
}

/// Looks over the dead letters in the file: each poisoned message there once with the bytes that came, and a reason, but for those that
/// passed a quarantined rule by.
fn letters(path: &Path, hundredth: Hundredth, messages: usize, bypassed: u64) -> Result<()> {
    let mut due: HashSet<Vec<u8>> = HashSet::new();
    let mut poisoned = 0;
    for message in (0..messages).filter(|&message| workload::is_garbage(message)) {
        let mut payload = Vec::new();
        hundredth.payload(message, &mut payload);
        due.insert(payload);
        poisoned += 1;
    }
    let (mut found, mut after) = (0, 0);
    loop {
        let page = dead_letters::list(path, dead_letters::MAX_LIMIT, after, &dead_letters::Filter::default())
            .context("the dead letters cannot be read")?;
        let Some(last) = page.last() else { break };
        after = last.id;
        found += page.len() as u64;
        for stored in &page {
            let letter = &stored.letter;
            let is_due =
                if letter.payload.is_empty() { due.contains(&letter.payload) } else { due.remove(&letter.payload) };
            ensure!(is_due, "a dead letter is not what came, or is there twice: {} bytes", letter.payload.len());
            let told = !letter.reason.is_empty() && letter.reason.contains(hundredth.reason());
            ensure!(told, "the reason of a dead letter does not say so: {:?}", letter.reason);
        }
    }
    let poisoned = if hundredth == Hundredth::Reading { 0 } else { poisoned };
    ensure!(
        found + bypassed == poisoned,
        "{found} dead letters are in the file, {bypassed} passed by, of {poisoned}"
    );
    ensure!(bypassed == 0 || (hundredth == Hundredth::Trap && found > 0), "{bypassed} were no dead letters");
    Ok(())
}
