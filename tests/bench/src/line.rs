//! A pipeline that is fed from memory: lanes, rules and sinks as the host has them, without a client and its socket. For what a bench
//! wants to know of the lanes alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tidegate_config::TimescaleSink;
use tidegate_engine::{Deploy, Rule};
use tidegate_model::{Ack, Books, Inlet, Marks, MessageTotals, ParcelLimits, Sink, SystemClock, TopicId};
use tidegate_pipeline::{Drained, LaneDeploy, Pipeline, PipelineSettings, SinkLimits, SinkSetup};
use tidegate_sinks::{Discard, Timescale};
use tokio::runtime::Runtime;

/// What a configuration has when nothing is said.
const BATCH_ROWS: usize = 10_000;
/// How long anything may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const SHUTDOWN: Duration = Duration::from_secs(10);

/// How a line is set up.
pub struct LineSetup {
    pub lanes: usize,
    /// The most messages of a batch and of a parcel, if not as many as a configuration has when nothing is said.
    pub batch_rows: Option<usize>,
    pub books: Arc<Books>,
    pub sinks: Vec<SinkSetup>,
    pub letters: Box<dyn Sink>,
}

/// A pipeline that runs.
pub struct Line {
    pipeline: Arc<Pipeline>,
    books: Arc<Books>,
    inlet: Inlet,
    runtime: Runtime,
}

/// Messages, encoded beforehand.
#[derive(Default)]
pub struct Load {
    /// By message: which of the topics.
    topics: Vec<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Load {
    /// Adds the message that `payload` writes.
    pub fn push(&mut self, topic: usize, payload: impl FnOnce(&mut Vec<u8>)) {
        self.topics.push(topic as u32);
        payload(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    fn messages(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let payloads = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]);
        self.topics.iter().map(|&topic| topic as usize).zip(payloads)
    }
}

/// Where the messages of a topic go.
pub type Route = (TopicId, usize);

impl Line {
    /// Starts it, without rules.
    pub fn start(setup: LineSetup) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut parcel = ParcelLimits::default();
        if let Some(rows) = setup.batch_rows {
            parcel.rows = rows;
        }
        let settings = PipelineSettings {
            lanes: setup.lanes,
            batch_rows: setup.batch_rows.unwrap_or(BATCH_ROWS),
            parcel,
            books: setup.books.clone(),
            clock: Arc::new(SystemClock),
            state: None,
        };
        let pipeline = Arc::new(Pipeline::start(settings, setup.sinks, setup.letters, runtime.handle())?);
        let inlet = pipeline.inlet("bench");
        Ok(Self { pipeline, books: setup.books, inlet, runtime })
    }

    /// Starts one with as many lanes as a configuration has when nothing is said, that writes its points to a database, by the host's limits; dead letters are
    /// discarded.
    pub fn to_database(settings: TimescaleSink) -> Result<Self> {
        let books = Arc::new(Books::new(100_000));
        let limits = SinkLimits { rows: Timescale::rows_at_once(&settings), ..SinkLimits::default() };
        let sink = Box::new(Timescale::new(settings, books.clone()));
        Self::start(LineSetup {
            lanes: std::thread::available_parallelism().map_or(1, Into::into),
            batch_rows: None,
            books,
            sinks: vec![SinkSetup { limits, ..SinkSetup::new("db", sink) }],
            letters: Box::new(Discard::new()),
        })
    }

    /// Lets a rule serve, or its next generation.
    pub fn install(&self, rule: &Arc<Rule>) -> Result<()> {
        Ok(self.deploy().install(rule)?)
    }

    /// What installs rules, for another thread.
    pub fn deploy(&self) -> LaneDeploy {
        self.pipeline.deploy()
    }

    /// The pipeline itself.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The names it knows.
    pub fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// The way of each topic.
    pub fn routes(&self, topics: impl IntoIterator<Item = String>) -> Result<Vec<Route>> {
        topics.into_iter().map(|topic| Ok(self.inlet.topic(&topic, &topic)?)).collect()
    }

    /// Sends all of `load`, in parcels as large as they may be; waits where the lanes do not keep up.
    pub fn send(&self, load: &Load, routes: &[Route]) -> Result<()> {
        let mut parcels = self.inlet.parcels(|_: Vec<()>| Ack::none());
        for (topic, payload) in load.messages() {
            parcels.push(routes[topic], self.inlet.now_us(), Marks::default(), payload, ());
            if parcels.is_full() {
                self.runtime.block_on(parcels.send())?;
            }
        }
        Ok(self.runtime.block_on(parcels.send())?)
    }

    /// The account.
    pub fn totals(&self) -> MessageTotals {
        self.inlet.ledger().totals()
    }

    /// Waits until so many messages have come and all are settled: points and dead letters durable.
    pub fn settled(&self, messages: usize) -> Result<MessageTotals> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let totals = self.totals();
            if totals.received >= messages as u64 && totals.in_flight == 0 {
                return Ok(totals);
            }
            ensure!(Instant::now() < deadline, "the lanes did not come to an end: {totals:?}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The same, and all of them must have become points.
    pub fn decoded(&self, messages: usize) -> Result<()> {
        let totals = self.settled(messages)?;
        ensure!(totals.decoded == messages as u64, "of {messages} messages not all became points: {totals:?}");
        Ok(())
    }

    /// Ends it; an error if something was left.
    pub fn close(self) -> Result<()> {
        match self.runtime.block_on(self.pipeline.shutdown(SHUTDOWN)) {
            Drained::Completely => Ok(()),
            Drained::InPart => bail!("the pipeline did not drain within {SHUTDOWN:?}"),
        }
    }
}
