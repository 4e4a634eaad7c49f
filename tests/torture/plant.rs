//! Host, broker, database, the lines between, and what happens to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_tests::{Fault, Host, Mosquitto, Postgres, Proxy, Setup, built_module, root, variant};

use crate::book::Book;
use crate::feed::Feed;
use crate::plan::{Blow, Line, Replace};
use crate::stream::FILTER;
use crate::tap::tap;
use crate::verdict::Verdict;

/// mosquitto writes its whole store, to disk, after so many changes: what it loses by `kill -9` is little, and it still takes
/// the load. After every single change it takes but 200 messages a second.
const SAVE_SOON: &str = "autosave_on_changes true\nautosave_interval 100";

/// What the shutdown of a host may take: its own deadline, and a little for the machine.
const STOP: Duration = Duration::from_secs(30);

/// How long nothing may arrive, with everything in repair, before what is missing is held for lost.
const QUIET: Duration = Duration::from_secs(45);

/// The same where the broker explains all that is missing.
const BROKER_QUIET: Duration = Duration::from_secs(10);

/// The most that is waited for what is on the way.
const DRAIN: Duration = Duration::from_secs(900);

/// How often repairs and progress are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// `kill -9` of the host.
    pub kills: u64,
    pub broker_kills: u64,
    pub database_kills: u64,
    pub stops: u64,
    pub line_faults: u64,
    pub reloads: u64,
}

/// All of it.
pub struct Plant {
    pub tally: Tally,
    book: Arc<Book>,
    feed: Option<Feed>,
    host: Host,
    broker_line: Proxy,
    database_line: Proxy,
    broker: Mosquitto,
    database: Postgres,
    decoder: Vec<u8>,
    repairs: Vec<(Instant, Repair)>,
    seed: u64,
}

/// What is broken until its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Host,
    Broker,
    Database,
    Line(Line),
}

impl Plant {
    /// None, loudly, where a server is not installed.
    pub fn start(book: Arc<Book>, rate: u64, seed: u64) -> Option<Self> {
        let (broker, database) = (Mosquitto::start_with(SAVE_SOON)?, Postgres::start()?);
        let heard = book.clone();
        let broker_line = Proxy::tapped(broker.port(), move || tap(&heard));
        let database_line = Proxy::start(database.port());
        let decoder = built_module("json-reading");
        let version = ["3.1.1", "5"][usize::from(seed % 2 == 1)];
        let host = Setup::new()
            .toml(&format!(
                "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"{version}\"\ntopics = [\"{FILTER}\"]\n\n\
                 [sinks.timescale.db]\nurl = \"{}\"\n",
                broker_line.port(),
                database.url_by(database_line.port()),
            ))
            .bytes("json-reading", &decoder)
            .bytes("threshold", &built_module("threshold"))
            .rule("hot", &limit_file(50))
            .start();
        let feed = Some(Feed::start(book.clone(), broker.port(), rate));
        let (tally, repairs) = (Tally::default(), Vec::new());
        Some(Self { tally, book, feed, host, broker_line, database_line, broker, database, decoder, repairs, seed })
    }

    /// Lets the load go on for a while; repairs what is due meanwhile.
    pub fn load_for(&mut self, time: Duration) {
        let start = Instant::now();
        loop {
            self.repair_until(Instant::now());
            assert!(self.broken(Repair::Host) || self.lives(), "the host has ended by itself; {}", self.host.tail());
            match time.checked_sub(start.elapsed()) {
                // The pace of the run, not a wait for anything.
                Some(left) => std::thread::sleep(left.min(LOOK_EVERY)),
                None => return,
            }
        }
    }

    /// Makes it happen; false for what is broken already, which is not broken once more.
    pub fn make(&mut self, blow: Blow) -> bool {
        match blow {
            Blow::KillHost { down } if !self.broken(Repair::Host) => {
                self.host.kill();
                self.tally.kills += 1;
                self.later(down, Repair::Host);
            }
            Blow::StopHost if !self.broken(Repair::Host) => {
                let status = self.host.stop(STOP);
                // 2 says that something was returned to the broker, which may be away.
                assert!(status.code().is_some(), "the host ended by a signal: {status}; {}", self.host.tail());
                self.tally.stops += 1;
                self.later(Duration::ZERO, Repair::Host);
            }
            Blow::KillBroker { down } if !self.broken(Repair::Broker) => {
                self.broker.kill();
                self.book.broker_ended();
                self.tally.broker_kills += 1;
                self.later(down, Repair::Broker);
            }
            Blow::KillDatabase { down } if !self.broken(Repair::Database) => {
                self.database.kill();
                self.tally.database_kills += 1;
                self.later(down, Repair::Database);
            }
            Blow::Break { line, fault, span } if !self.broken(Repair::Line(line)) => {
                self.line(line).set(fault);
                self.tally.line_faults += 1;
                self.later(span, Repair::Line(line));
            }
            Blow::Cut { line, way, bytes } => {
                self.line(line).cut_after(way, bytes);
                self.tally.line_faults += 1;
            }
            Blow::ReplaceModule { mark, how } => {
                self.replace("json-reading.wasm", &variant(&self.decoder, mark), how);
            }
            Blow::ChangeRule { limit, how } => self.replace("hot.toml", limit_file(limit).as_bytes(), how),
            _ => return false,
        }
        true
    }

    /// How far it is.
    pub fn progress(&self) -> String {
        let (taken, settled, again) = self.book.counts();
        let Tally { kills, broker_kills, database_kills, .. } = self.tally;
        let connections = self.broker_line.connections();
        let open = taken.saturating_sub(settled);
        format!(
            "{kills} kills (broker {broker_kills}, database {database_kills}), {taken} taken, {open} open, {again} delivered again by connection {connections}"
        )
    }

    /// Everything works again.
    pub fn repair(&mut self) {
        let end = self.repairs.iter().map(|(due, _)| *due).max();
        self.repair_until(end.unwrap_or_else(Instant::now));
        self.host.wait_ready();
    }

    /// Ends the load; waits until all is there, or nothing more comes.
    pub fn settle(&mut self, book: &Book) -> Verdict {
        if let Some(feed) = self.feed.take() {
            feed.end();
        }
        let (start, mut last, mut since) = (Instant::now(), (0, 0), Instant::now());
        loop {
            let now = (self.database.number("SELECT count(*) FROM metrics").unwrap_or(0), book.counts().1);
            if now != last {
                (last, since) = (now, Instant::now());
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            let verdict = Verdict::of(book, &self.database, &self.host);
            let patience = if verdict.holds() { BROKER_QUIET } else { QUIET };
            if verdict.complete() || since.elapsed() > patience || start.elapsed() > DRAIN {
                return verdict;
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// Keeps what tells how it came, and says where.
    pub fn keep(&self) -> String {
        let place = root().join("target/torture");
        let to = place.join(format!("tidegate-{}.log", self.seed));
        let kept = std::fs::create_dir_all(&place)
            .and_then(|()| std::fs::copy(self.host.path().join("tidegate.log"), &to).map(drop));
        match kept {
            Ok(()) => format!("the host's log is kept: {}", to.display()),
            Err(error) => format!("the host's log could not be kept: {error}; {}", self.host.tail()),
        }
    }

    fn line(&self, line: Line) -> &Proxy {
        match line {
            Line::Broker => &self.broker_line,
            Line::Database => &self.database_line,
        }
    }

    fn replace(&mut self, file: &str, bytes: &[u8], how: Replace) {
        match how {
            Replace::Rename => self.host.drop_by_rename(file, bytes),
            Replace::Overwrite => self.host.drop_by_overwrite(file, bytes),
        }
        self.tally.reloads += 1;
    }

    fn broken(&self, what: Repair) -> bool {
        self.repairs.iter().any(|(_, broken)| *broken == what)
    }

    fn later(&mut self, after: Duration, repair: Repair) {
        self.repairs.push((Instant::now() + after, repair));
    }

    fn repair_until(&mut self, time: Instant) {
        self.repairs.sort_by_key(|(due, _)| *due);
        while let Some((due, repair)) = self.repairs.first().copied().filter(|(due, _)| *due <= time) {
            if let Some(left) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(left);
            }
            match repair {
                Repair::Host => self.host.launch_again(),
                Repair::Broker => self.broker.start_again(),
                Repair::Database => self.database.start_again(),
                Repair::Line(line) => self.line(line).set(Fault::None),
            }
            self.repairs.remove(0);
        }
    }

    /// Whether the host's process runs: one that has ended and was not waited for is a zombie.
    fn lives(&self) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.host.pid())).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }
}

fn limit_file(limit: u32) -> String {
    format!("module = \"threshold.wasm\"\ntopics = [\"{FILTER}\"]\n[config]\nabove = {limit}.0\n")
}
