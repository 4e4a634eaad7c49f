//! Host, broker, database, the lines between, and what happens to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_tests::{
    DEADLINE, Fault, Host, Kafka, Mosquitto, Postgres, Proxy, Setup, built_module, variant, wait_for,
};

use crate::alarm;
use crate::book::{Book, Counts};
use crate::feed::{Feed, GROUP};
use crate::plan::{Arming, Blow, Line, Plan, Replace};
use crate::stream::{FILTER, numbers_in};
use crate::tap::tap;

mod settle;

/// mosquitto writes its whole store to disk so often, and when it is told to. After every single change it would take but 200
/// messages a second.
const SAVE: &str = "autosave_interval 1";

/// How long a host that is armed is left to come to its site before something else may kill it.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often repairs and progress are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const KAFKA_TOPIC: &str = "telemetry";

const KAFKA_PARTITIONS: i32 = 8;

/// A member that was killed is forgotten soon, since its partitions are given to nobody before; but later than the 3 s for
/// which the mock cluster gathers the first members of a group.
const KAFKA_CLIENT: &str =
    "\n[sources.kafka.fleet.client]\n\"session.timeout.ms\" = 3500\n\"heartbeat.interval.ms\" = 300\n";

/// What has happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Ends of the host without order: `kill -9`, and its own at the sites below.
    pub kills: u64,
    /// By site.
    pub at_failpoints: BTreeMap<&'static str, u64>,
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
    feed: Feed,
    host: Host,
    /// Where the host that runs will end.
    armed: Option<Arming>,
    /// When it was started.
    started: Instant,
    broker_line: Proxy,
    database_line: Proxy,
    broker: Mosquitto,
    database: Postgres,
    _kafka: Kafka,
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
        let (broker, database) = (Mosquitto::start_with(SAVE)?, Postgres::start()?);
        let kafka = Kafka::start(KAFKA_TOPIC, KAFKA_PARTITIONS);
        let heard = book.clone();
        let broker_line = Proxy::tapped(broker.port(), move || tap(&heard));
        let database_line = Proxy::start(database.port());
        let decoder = built_module("json-reading");
        let version = ["3.1.1", "5"][usize::from(seed % 2 == 1)];
        let host = Setup::new()
            .toml(&format!(
                "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"{version}\"\ntopics = [\"{FILTER}\"]\n\n\
                 [sources.kafka.fleet]\nbrokers = \"{}\"\ngroup = \"{GROUP}\"\ntopics = [\"{KAFKA_TOPIC}\"]\n\
                 topic_from = \"key\"\n{KAFKA_CLIENT}\n\
                 [sinks.timescale.db]\nurl = \"{}\"\n",
                broker_line.port(),
                kafka.brokers(),
                database.url_by(database_line.port()),
            ))
            .bytes("json-reading", &decoder)
            .bytes("threshold", &built_module("threshold"))
            .rule("hot", &limit_file(50))
            .start();
        keep_session(&broker);
        let feed = Feed::start(&book, broker.port(), (&kafka.brokers(), KAFKA_TOPIC), rate);
        let (tally, armed, repairs) = (Tally::default(), None, Vec::new());
        Some(Self {
            tally,
            book,
            feed,
            host,
            armed,
            started: Instant::now(),
            broker_line,
            database_line,
            broker,
            database,
            _kafka: kafka,
            decoder,
            repairs,
            seed,
        })
    }

    /// Lets the load go on for a while; repairs what is due meanwhile.
    pub fn load_for(&mut self, time: Duration, plan: &mut Plan) {
        let start = Instant::now();
        loop {
            self.look();
            self.repair_until(Instant::now(), Some(plan));
            match time.checked_sub(start.elapsed()) {
                // The pace of the run, not a wait for anything.
                Some(left) => std::thread::sleep(left.min(LOOK_EVERY)),
                None => return,
            }
        }
    }

    /// Fails if a part of the run has; enters a host that has ended where it was armed.
    fn look(&mut self) {
        alarm::check();
        self.feed.check();
        if !self.broken(Repair::Host) && self.host.has_crashed() {
            self.crashed();
        }
    }

    fn crashed(&mut self) {
        let armed = self.armed.take().expect("only an armed host crashes");
        self.tally.kills += 1;
        *self.tally.at_failpoints.entry(armed.site).or_default() += 1;
        self.later(armed.down, Repair::Host);
    }

    /// Makes it happen; false for what is broken already, which is not broken once more.
    pub fn make(&mut self, blow: Blow) -> bool {
        self.look();
        match blow {
            Blow::KillHost { down } if !self.broken(Repair::Host) && !self.about_to_crash() => {
                self.host.kill();
                self.armed = None;
                self.tally.kills += 1;
                self.later(down, Repair::Host);
            }
            Blow::StopHost if !self.broken(Repair::Host) => {
                let status = self.host.stop();
                if status.code().is_none() && self.armed.is_some() {
                    // It came to its site on the way out.
                    self.crashed();
                    return true;
                }
                // 3 says that something was returned to the broker, which may be away.
                assert!(matches!(status.code(), Some(0 | 3)), "the host ended badly: {status}");
                self.armed = None;
                self.tally.stops += 1;
                self.later(Duration::ZERO, Repair::Host);
            }
            Blow::KillBroker { saves, down } if !self.broken(Repair::Broker) => {
                if let Some(before) = saves {
                    self.broker.save();
                    std::thread::sleep(before);
                }
                self.book.broker_goes();
                self.broker.kill();
                self.book.broker_gone(&numbers_in(&self.broker.on_disk()));
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
        let Counts { by_mqtt, settled, redelivered, by_kafka } = self.book.counts();
        let Tally { kills, at_failpoints, broker_kills, database_kills, .. } = &self.tally;
        let at_failpoints: u64 = at_failpoints.values().sum();
        let open = by_mqtt.saturating_sub(settled);
        format!(
            "{kills} kills, {at_failpoints} at failpoints (broker {broker_kills}, database {database_kills}); {by_mqtt} by MQTT, \
             {open} open, {redelivered} delivered again; {by_kafka} by Kafka"
        )
    }

    /// Everything works again, and nothing is armed.
    pub fn repair(&mut self) {
        self.look();
        if self.armed.take().is_some() {
            self.host.kill();
            self.tally.kills += 1;
            self.later(Duration::ZERO, Repair::Host);
        }
        let end = self.repairs.iter().map(|(due, _)| *due).max();
        self.repair_until(end.unwrap_or_else(Instant::now), None);
        self.host.wait_ready();
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

    fn about_to_crash(&self) -> bool {
        self.armed.is_some() && self.started.elapsed() < PATIENCE
    }

    fn broken(&self, what: Repair) -> bool {
        self.repairs.iter().any(|(_, broken)| *broken == what)
    }

    fn later(&mut self, after: Duration, repair: Repair) {
        self.repairs.push((Instant::now() + after, repair));
    }

    /// A plan arms the hosts that are started.
    fn repair_until(&mut self, time: Instant, mut plan: Option<&mut Plan>) {
        self.repairs.sort_by_key(|(due, _)| *due);
        while let Some((due, repair)) = self.repairs.first().copied().filter(|(due, _)| *due <= time) {
            if let Some(left) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(left);
            }
            match repair {
                Repair::Host => self.start_host(plan.as_deref_mut()),
                Repair::Broker => {
                    self.book.broker_comes();
                    self.broker.start_again();
                }
                Repair::Database => self.database.start_again(),
                Repair::Line(line) => self.line(line).set(Fault::None),
            }
            self.repairs.retain(|broken| *broken != (due, repair));
        }
    }

    /// Starts the host, armed as long as fewer than half of its kills were at sites.
    fn start_host(&mut self, plan: Option<&mut Plan>) {
        let at_failpoints: u64 = self.tally.at_failpoints.values().sum();
        self.armed = plan.filter(|_| 2 * at_failpoints <= self.tally.kills).map(Plan::arming);
        if let Some(armed) = &self.armed {
            self.host.arm(armed.site, armed.passes);
        }
        self.host.launch_again();
        self.started = Instant::now();
        self.repairs.retain(|(_, repair)| *repair != Repair::Host);
        if let Some(goad) = self.armed.as_ref().and_then(|armed| armed.goad) {
            self.make(goad);
        }
    }
}

/// Waits until the broker has the host's session on its disk. One that is killed before would afterwards take messages that
/// nobody has asked it for.
fn keep_session(broker: &Mosquitto) {
    broker.save();
    wait_for("the broker to keep the host's session", DEADLINE, || {
        let kept = broker.on_disk();
        let subscribed = kept.windows(FILTER.len()).any(|part| part == FILTER.as_bytes());
        if subscribed { Ok(()) } else { Err(format!("{} bytes without it", kept.len())) }
    });
}

fn limit_file(limit: u32) -> String {
    format!("module = \"threshold.wasm\"\ntopics = [\"{FILTER}\"]\n[config]\nabove = {limit}.0\n")
}
