//! The durable queue in front of a sink.
//!
//! Of a line that decodes and discards, messages a second, by the same line without a spool:
//! - `spool/standing-by`: the sink works, the spool has nothing to do.
//! - `spool/append`: the sink is down, all goes to the spool: until the last message is on disk and acknowledged.
//! - `spool/drain`: from the first write that such a sink takes again to the last row gone from the spool.
//!
//! So a sink that is always down but for being asked costs `append` and `drain` one after the other. **In**: lanes, decoder, the spool's file, synced
//! before each acknowledgement. **Out**: the sink's own work, which is none.
//!
//! And of a whole outage (`spool/database-down-…`): a real PostgreSQL is killed under a rated load of 20,000 points a second, is away for 60 s (`--full`: 10 minutes),
//! and is started again, while the load goes on at its pace:
//! - `drain`: points a second into the database from the moment it takes them again until nothing stands in the spool, by the load's own rate.
//! - `memory`: the most resident memory of this process while it was away and drained, less that before: MiB.
//!
//! Afterwards every point must be in the table with its value: what is there twice is allowed (at least once), what is not there fails the
//! bench, and so does a load that was held back.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tempfile::TempDir;
use tidegate_config::{SpoolSettings, WhenFull};
use tidegate_engine::{Engine, Rule};
use tidegate_model::{Books, Delivery, Sink, SinkError, Spool, SpoolOrder, SystemClock, Wants, Written};
use tidegate_pipeline::{SinkSetup, SinkTotals};
use tidegate_sinks::{Discard, Timescale};
use tidegate_spool::SpoolQueue;

use crate::cost::{self, Cost};
use crate::line::{Line, LineSetup, Load, Route};
use crate::measure::{Effort, Sample, Side, in_turn, seconds_since};
use crate::report::Progress;
use crate::resident::{self, Pages};
use crate::rules::{self, Setup};
use crate::servers::postgres::Postgres;
use crate::timed::paced;
use crate::workload;

/// Messages of one repetition.
const MESSAGES: usize = 500_000;
const REPETITIONS: usize = 7;
const SETTINGS: SpoolSettings =
    SpoolSettings { max_bytes: 8 << 30, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
const PATIENCE: Duration = Duration::from_secs(600);

/// Points a second of the outage's load, and how many are sent at a time.
const RATE: usize = 20_000;
const AT_A_TIME: usize = 100;
/// How long the load goes on before the database goes away.
const BEFORE: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(60);
const AWAY_IN_FULL: Duration = Duration::from_secs(600);
const AWAY_QUICKLY: Duration = Duration::from_secs(5);
/// How much of the load's own time it may take longer than it should.
const HELD_BACK: f64 = 1.02;

/// What the spool is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    StandingBy,
    Append,
    Drain,
}

impl Phase {
    pub const ALL: [Phase; 3] = [Phase::StandingBy, Phase::Append, Phase::Drain];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::StandingBy => "standing-by",
            Phase::Append => "append",
            Phase::Drain => "drain",
        }
    }
}

/// Messages a second.
pub fn measure(phase: Phase, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let mut load = Load::default();
    for message in 0..effort.amount(MESSAGES) {
        load.push(workload::topic_of(message), |to| workload::reading(message, to));
    }
    let engine = Engine::new()?;
    let decoder = rules::rule(&Setup::json_reading(), &rules::module(&engine, "json-reading")?)?;
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let messages = load.len() as f64;
        let switch = Arc::new(Switch::default());
        let sink = Switched { switch: switch.clone() };
        let spooled = match side {
            Side::Ours => Some(Spooled::new(&sink)?),
            Side::Baseline => None,
        };
        // Down only where the spool is to take it.
        switch.works.store(phase == Phase::StandingBy || side == Side::Baseline, Ordering::Release);
        let (line, routes) = line(Box::new(sink), spooled.as_ref(), &decoder)?;
        let began = Instant::now();
        line.send(&load, &routes)?;
        line.decoded(load.len())?;
        let seconds = seconds_since(began);
        let seconds = match (phase, side) {
            (Phase::Drain, Side::Ours) => {
                switch.works.store(true, Ordering::Release);
                let ended = empty(&line)?;
                let began = switch.began().context("nothing was drained")?;
                let drained = totals(&line)?.spool.map_or(0, |spool| spool.drained);
                ensure!(drained == load.len() as u64, "{drained} of {messages} rows came out of the spool");
                (ended - began).as_secs_f64()
            }
            _ => seconds,
        };
        line.close()?;
        Ok(messages / seconds)
    })
}

/// Whether a sink works, and since when it did.
#[derive(Default)]
struct Switch {
    works: AtomicBool,
    first: Mutex<Option<Instant>>,
}

impl Switch {
    fn began(&self) -> Option<Instant> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Discards, while its switch is on.
struct Switched {
    switch: Arc<Switch>,
}

#[async_trait]
impl Sink for Switched {
    fn wants(&self) -> Wants {
        Wants { points: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        if !self.switch.works.load(Ordering::Acquire) {
            return Err(SinkError::Retry("it is switched off".to_owned()));
        }
        self.switch.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        let points = deliveries.iter().map(|delivery| delivery.points.len() as u64).sum();
        Ok(Written { points, ..Written::default() })
    }
}

/// A spool in a directory of its own.
struct Spooled {
    spool: Arc<dyn Spool>,
    books: Arc<Books>,
    _directory: TempDir,
}

impl Spooled {
    fn new(sink: &dyn Sink) -> Result<Self> {
        Self::with(Arc::new(Books::new(100_000)), sink)
    }

    fn with(books: Arc<Books>, sink: &dyn Sink) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let clock = Arc::new(SystemClock);
        let spool = SpoolQueue::new(directory.path(), "bench", SETTINGS, sink.wants(), books.clone(), clock)?;
        Ok(Self { spool: Arc::new(spool), books, _directory: directory })
    }
}

/// A line of one lane into the sink, through the spool if there is one.
fn line(sink: Box<dyn Sink>, spooled: Option<&Spooled>, decoder: &Arc<Rule>) -> Result<(Line, Vec<Route>)> {
    let mut setup = SinkSetup::new("bench", sink);
    setup.spool = spooled.map(|spooled| spooled.spool.clone());
    let line = Line::start(LineSetup {
        lanes: 1,
        batch_rows: None,
        books: spooled.map_or_else(|| Arc::new(Books::new(100_000)), |spooled| spooled.books.clone()),
        sinks: vec![setup],
        letters: Box::new(Discard::new()),
    })?;
    line.install(decoder)?;
    let routes = line.routes((0..workload::TOPICS).map(workload::topic))?;
    Ok((line, routes))
}

fn totals(line: &Line) -> Result<SinkTotals> {
    let sinks = line.pipeline().status().sinks;
    sinks.into_iter().find(|sink| sink.name == "bench").context("the sink is not there")
}

/// Waits until nothing stands in the spool; gives when that was.
fn empty(line: &Line) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let totals = totals(line)?;
        if totals.spool.as_ref().is_some_and(|spool| spool.records == 0) {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < deadline, "the spool was not drained: {totals:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A database that goes away and comes back: seen once, by whoever asks first.
#[derive(Default)]
pub struct Outage(RefCell<Option<(Seen, Cost)>>);

/// What was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Points a second.
    drained: f64,
    live: f64,
    /// MiB.
    before: f64,
    most: f64,
}

impl Outage {
    /// Points a second out of the spool, by those that come.
    pub fn drain(&self, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
        let (seen, cost) = self.seen(effort, progress)?;
        Ok(vec![Sample::new(seen.drained, Some(seen.live), Some(cost))])
    }

    /// MiB at the most, and before.
    pub fn memory(&self, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
        let (seen, cost) = self.seen(effort, progress)?;
        Ok(vec![Sample::new(seen.most, Some(seen.before), Some(cost))])
    }

    fn seen(&self, effort: Effort, progress: &Progress) -> Result<(Seen, Cost)> {
        if let Some(seen) = *self.0.borrow() {
            return Ok(seen);
        }
        let seen = cost::of(|| outage(effort, progress))?;
        *self.0.borrow_mut() = Some(seen);
        Ok(seen)
    }
}

/// Where the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Away,
    Back,
}

fn outage(effort: Effort, progress: &Progress) -> Result<Seen> {
    let away = match (effort.quick, effort.full) {
        (true, _) => AWAY_QUICKLY,
        (false, true) => AWAY_IN_FULL,
        (false, false) => AWAY,
    };
    progress.at(0, 1);
    let engine = Engine::new()?;
    let decoder = rules::rule(&Setup::json_reading(), &rules::module(&engine, "json-reading")?)?;
    let mut server = Postgres::start()?;
    let books = Arc::new(Books::new(100_000));
    let sink = Timescale::new(server.settings(), books.clone());
    let spooled = Spooled::with(books, &sink)?;
    let (line, routes) = line(Box::new(sink), Some(&spooled), &decoder)?;

    let began = Instant::now();
    let (mut stage, mut sent, mut sum) = (Stage::Before, 0, 0_u64);
    let (mut before, mut most) = (0, 0);
    let mut back: Option<(Instant, u64)> = None;
    let mut drained = None;
    paced(Duration::from_secs(1) * AT_A_TIME as u32 / RATE as u32, |number| {
        let mut load = Load::default();
        for message in number * AT_A_TIME..(number + 1) * AT_A_TIME {
            sum += (workload::value(message) * 100_000.0).round() as u64;
            load.push(workload::topic_of(message), |to| workload::reading(message, to));
        }
        line.send(&load, &routes)?;
        sent += load.len();
        match stage {
            Stage::Before if began.elapsed() >= BEFORE => {
                before = resident::kib(Pages::All)?;
                server.crash();
                progress.at(1, 1);
                stage = Stage::Away;
            }
            Stage::Away if began.elapsed() >= BEFORE + away => {
                server.resume()?;
                stage = Stage::Back;
            }
            Stage::Back if number % 10 == 0 => {
                let totals = totals(&line)?;
                let spool = totals.spool.context("a sink without its spool")?;
                let now = (Instant::now(), spool.drained);
                match back {
                    // The first that came out of the spool tells that the database is there.
                    None if spool.drained > 0 => back = Some(now),
                    Some((since, already)) if spool.records == 0 => {
                        drained = Some((spool.drained - already) as f64 / since.elapsed().as_secs_f64());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if stage != Stage::Before && number % 100 == 0 {
            most = most.max(resident::kib(Pages::All)?);
        }
        ensure!(began.elapsed() < BEFORE + away + PATIENCE, "the spool was never empty again: {:?}", totals(&line)?);
        Ok(drained.is_none())
    })?;
    let took = seconds_since(began);
    ensure!(
        took <= sent as f64 / RATE as f64 * HELD_BACK,
        "{sent} points took {took:.1} s: the load was held back, so the figures are not of {RATE} a second"
    );
    line.decoded(sent)?;
    line.close()?;
    stored(&server, sent, sum)?;
    let mib = |kib: u64| kib as f64 / 1_024.0;
    let drained = drained.context("the spool was never empty again")?;
    Ok(Seen { drained, live: sent as f64 / took, before: mib(before), most: mib(most) })
}

/// Every point is in the table, once at least, with its value. The sum is in hundred-thousandths, in which values are whole.
fn stored(server: &Postgres, sent: usize, sum: u64) -> Result<()> {
    let each = "select distinct topic, time, value from metrics";
    let found =
        server.psql(&[&format!("select count(*), sum(round(value * 100000)::bigint) from ({each}) each_once")])?;
    let due = format!("{sent}|{sum}");
    ensure!(found.trim() == due, "{due} is what was sent (points, sum of values), and {} is stored", found.trim());
    Ok(())
}
