//! The host, in this process: its MQTT source, lanes, the two rules, and sinks that check what they discard. Put together as
//! `host/src/wiring.rs` does, without the HTTP interface and the watch on the rules' directory.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tidegate_engine::{Deploy, Engine};
use tidegate_model::{Books, ParcelLimits, Sink, SystemClock};
use tidegate_pipeline::{Drained, Pipeline, PipelineSettings, SinkLimits};
use tidegate_sinks::DeadLetters;
use tidegate_sources::MqttSource;
use tokio::runtime::Runtime;

use super::checked::{CheckedDiscard, CountedDeadLetters, Tally};
use super::{Consumer, PATIENCE, settings};
use crate::mqtt::wire::{Qos, Version};
use crate::rules::{self, Setup};
use crate::workload::Expected;

const SHUTDOWN: Duration = Duration::from_secs(10);
/// What a configuration has when nothing is said.
const BATCH_ROWS: usize = 10_000;

/// The same.
const KEPT: tidegate_config::DeadLetters =
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
    _data: TempDir,
}

impl Host {
    /// Starts everything but the source.
    pub fn start(setup: HostSetup, expected: &Arc<Expected>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let data = tempfile::tempdir()?;
        let books = Arc::new(Books::new(100_000));
        let clock = Arc::new(SystemClock);
        let (told, all_come) = sync_channel(1);
        let tally = Arc::new(Tally::new(expected, told));
        let kept: Option<Box<dyn Sink>> = match setup.dead_letters {
            Letters::Discarded => None,
            Letters::Kept => Some(Box::new(DeadLetters::new(data.path(), KEPT, clock.clone()))),
        };
        let mut parcel = ParcelLimits::default();
        if let Some(rows) = setup.batch_rows {
            parcel.rows = rows;
        }
        let pipeline = Pipeline::start(
            PipelineSettings {
                lanes: std::thread::available_parallelism().map_or(1, NonZero::get),
                batch_rows: setup.batch_rows.unwrap_or(BATCH_ROWS),
                parcel,
                books: books.clone(),
                clock,
            },
            vec![("discard".to_owned(), Box::new(CheckedDiscard::new(tally.clone(), books)), SinkLimits::default())],
            Box::new(CountedDeadLetters::new(tally.clone(), kept)),
            runtime.handle(),
        )?;
        let engine = Engine::new()?;
        let mut deploy = pipeline.deploy();
        for setup in [Setup::json_reading(), Setup::threshold()] {
            deploy.install(&rules::rule(&setup, &rules::module(&engine, setup.module)?)?)?;
        }
        Ok(Self {
            setup,
            expected: expected.clone(),
            tally,
            all_come,
            pipeline,
            runtime,
            _engine: engine,
            _data: data,
        })
    }
}

impl Consumer for Host {
    fn connect(&mut self, port: u16) -> Result<()> {
        let settings = settings(port, self.setup.version, self.setup.qos)?;
        let _inside = self.runtime.enter();
        self.pipeline.add_source("bench", Box::new(MqttSource::new(settings)));
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
        let drained = self.runtime.block_on(self.pipeline.shutdown(SHUTDOWN));
        if drained != Drained::Completely {
            bail!("the host did not drain within {SHUTDOWN:?}");
        }
        self.tally.check(&self.expected)?;
        let status = self.pipeline.status();
        for source in &status.sources {
            let messages = source.messages;
            let whole = messages.decoded == self.expected.points
                && messages.dead_lettered == self.expected.garbage
                && messages.in_flight == 0
                && messages.received == self.expected.messages as u64;
            ensure!(whole, "the ledger does not balance: {messages:?}, and {:?} was due", self.expected);
        }
        Ok(())
    }
}
