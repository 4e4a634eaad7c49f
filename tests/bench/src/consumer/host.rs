//! The host, in this process: its MQTT source, lanes, the two rules, and sinks that check what they discard. Put together as
//! `host/src/wiring.rs` does, without the HTTP interface and the watch on the rules' directory.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tidegate_config::SqliteSink;
use tidegate_engine::{Deploy, Engine};
use tidegate_model::{Books, Limits, ParcelLimits, Sink, SystemClock};
use tidegate_pipeline::{Drained, Pipeline, PipelineSettings, SinkSetup};
use tidegate_sinks::{DeadLetters, Sqlite};
use tidegate_sources::MqttSource;
use tokio::runtime::Runtime;

use super::checked::{CheckedDiscard, CountedDeadLetters, Tally};
use super::{Consumer, PATIENCE, settings};
use crate::mqtt::wire::{Qos, Version};
use crate::rules::{self, Setup};
use crate::workload::Expected;

const SHUTDOWN: Duration = Duration::from_secs(10);
/// The file of the points in the host's directory.
const STORE: &str = "store.db";
/// What a configuration has when nothing is said.
const BATCH_ROWS: usize = 10_000;

/// The same, of the dead letters.
pub const KEPT: tidegate_config::DeadLetters =
    tidegate_config::DeadLetters { max_bytes: 1 << 30, max_age: Duration::from_secs(30 * 86_400) };

/// How the host is set up.
#[derive(Clone, Copy, Debug)]
pub struct HostSetup {
    pub version: Version,
    pub qos: Qos,
    /// The most messages of a batch, if not as many as a configuration has when nothing is said.
    pub batch_rows: Option<usize>,
    pub dead_letters: Letters,
}

/// Where the dead letters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// They are counted and discarded.
    Discarded,
    /// Into SQLite, synced, as the host keeps them.
    Kept,
    /// The same, and the points into a database beside the discard.
    KeptWithPoints,
}

/// A host that runs.
pub struct Host {
    setup: HostSetup,
    expected: Arc<Expected>,
    tally: Arc<Tally>,
    all_come: Receiver<Instant>,
    pipeline: Pipeline,
    runtime: Runtime,
    _engine: Engine,
    data: TempDir,
}

impl Host {
    /// Starts everything but the source, with the two rules of the workload.
    pub fn start(setup: HostSetup, expected: &Arc<Expected>) -> Result<Self> {
        Self::with_rules(setup, expected, &[Setup::json_reading(), Setup::threshold()])
    }

    /// The same with these rules.
    pub fn with_rules(setup: HostSetup, expected: &Arc<Expected>, rules: &[Setup]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let data = tempfile::tempdir()?;
        let books = Arc::new(Books::new(100_000));
        let clock = Arc::new(SystemClock);
        let (told, all_come) = sync_channel(1);
        let tally = Arc::new(Tally::new(expected, told));
        let kept: Option<Box<dyn Sink>> = match setup.dead_letters {
            Letters::Discarded => None,
            Letters::Kept | Letters::KeptWithPoints => {
                Some(Box::new(DeadLetters::new(data.path(), KEPT, clock.clone())))
            }
        };
        let mut parcel = ParcelLimits::default();
        if let Some(rows) = setup.batch_rows {
            parcel.rows = rows;
        }
        let mut sinks = vec![SinkSetup::new("discard", Box::new(CheckedDiscard::new(tally.clone(), books.clone())))];
        if setup.dead_letters == Letters::KeptWithPoints {
            let store = Sqlite::new(SqliteSink { path: data.path().join(STORE) }, books.clone());
            sinks.push(SinkSetup::new("store", Box::new(store)));
        }
        let pipeline = Pipeline::start(
            PipelineSettings {
                lanes: std::thread::available_parallelism().map_or(1, NonZero::get),
                batch_rows: setup.batch_rows.unwrap_or(BATCH_ROWS),
                parcel,
                books,
                clock,
                state: None,
            },
            sinks,
            Box::new(CountedDeadLetters::new(tally.clone(), kept)),
            runtime.handle(),
        )?;
        let engine = Engine::new()?;
        let mut deploy = pipeline.deploy();
        for rule in rules {
            deploy.install(&rules::rule(rule, &rules::module(&engine, rule.module)?)?)?;
        }
        Ok(Self { setup, expected: expected.clone(), tally, all_come, pipeline, runtime, _engine: engine, data })
    }
}

impl Host {
    /// Drains it and compares what came with what had to. Gives how many deadly rows passed a quarantined rule by, which are points and not
    /// dead letters.
    pub fn end(&self) -> Result<u64> {
        let drained = self.runtime.block_on(self.pipeline.shutdown(SHUTDOWN));
        if drained != Drained::Completely {
            bail!("the host did not drain within {SHUTDOWN:?}");
        }
        let bypassed = self.tally.check(&self.expected)?;
        let status = self.pipeline.status();
        for source in &status.sources {
            let messages = source.messages;
            // Of a point that a rule fails on, the message has been decoded: the points' account has it.
            let refused = status.points.dead_lettered;
            let whole = messages.decoded == self.expected.points + bypassed + refused
                && messages.dead_lettered + bypassed + refused == self.expected.garbage
                && messages.in_flight == 0
                && messages.received == self.expected.messages as u64;
            ensure!(whole, "the ledger does not balance: {messages:?}, and {:?} was due", self.expected);
        }
        Ok(bypassed)
    }

    /// The database of the points, where they are stored.
    pub fn store(&self) -> PathBuf {
        self.data().join(STORE)
    }

    /// Where it keeps what it writes.
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}

impl Consumer for Host {
    fn connect(&mut self, port: u16) -> Result<()> {
        let settings = settings(port, self.setup.version, self.setup.qos)?;
        let _inside = self.runtime.enter();
        self.pipeline.add_source("bench", Box::new(MqttSource::new(settings)), Limits::default());
        Ok(())
    }

    fn subscribed(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.pipeline.status().sources.iter().all(|source| source.up) {
            ensure!(Instant::now() < deadline, "the host did not connect: {:?}", self.pipeline.status().sources);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn finished(&mut self) -> Result<Instant> {
        self.all_come
            .recv_timeout(PATIENCE)
            .with_context(|| format!("the host did not come to an end; it stands at {:?}", self.pipeline.status()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.end().map(drop)
    }
}
