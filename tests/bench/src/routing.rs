//! (b) Gather and scatter: what a lane spends on a rule that matches half of the rows, by a rule that matches all of them.
//!
//! **In**: the lane's own time on sixteen rules that give every value back as it came: looking up which rows a rule matches, gathering
//! them, putting the values back in their places. **Out**: the calls themselves (the engine counts their time, and it is taken off),
//! and what the lane does without any such rule (a third run has none, and is taken off too): decoding, account, delivery.
//!
//! Nanoseconds a row and a rule, over all rows of the flow, matched or not. It is the lane's own clock, wall time: to be read with its spread.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_engine::{Deploy, Engine, Module, Rule};
use tidegate_model::{Ack, Books, Inlet, Marks, ParcelLimits, SystemClock, TopicId};
use tidegate_pipeline::{Pipeline, PipelineSettings, SinkSetup};
use tidegate_sinks::Discard;
use tokio::runtime::Runtime;

use crate::cost;
use crate::measure::{Effort, Sample};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload;

/// Rules that are measured together.
const RULES: usize = 16;
/// Messages of one run.
const MESSAGES: usize = 200_000;
const REPETITIONS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the sixteen rules match.
#[derive(Clone, Copy)]
enum Match {
    Nothing,
    Half,
    All,
}

impl Match {
    /// Every topic of an even number is in hall 0.
    const fn filter(self) -> Option<&'static str> {
        match self {
            Match::Nothing => None,
            Match::Half => Some("dev/hall0/#"),
            Match::All => Some("dev/#"),
        }
    }
}

/// Nanoseconds a row and a rule, at so many rows a batch.
pub fn measure(rows: usize, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let empty = rules::module(&engine, "bench-empty")?;
    let decoder = rules::module(&engine, "json-reading")?;
    let messages = effort.amount(MESSAGES);
    let run = |matches| lane_nanos(rows, messages, matches, &decoder, &empty);
    let repetitions = effort.repetitions(REPETITIONS);
    let mut samples = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        // In turn, and around the run that is taken off both.
        let ((half, nothing, all), cost) = cost::of(|| {
            if repetition % 2 == 0 {
                return Ok((run(Match::Half)?, run(Match::Nothing)?, run(Match::All)?));
            }
            let (all, nothing) = (run(Match::All)?, run(Match::Nothing)?);
            Ok((run(Match::Half)?, nothing, all))
        })?;
        if repetition > 0 {
            let each = |nanos: f64| (nanos - nothing) / (messages * RULES) as f64;
            samples.push(Sample::new(each(half), Some(each(all)), Some(cost)));
        }
    }
    Ok(samples)
}

/// Nanoseconds that a lane spends on all messages, but for its calls into rules.
fn lane_nanos(
    rows: usize,
    messages: usize,
    matches: Match,
    decoder: &Arc<Module>,
    empty: &Arc<Module>,
) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let discard = Discard::new();
    let pipeline = Pipeline::start(
        PipelineSettings {
            lanes: 1,
            batch_rows: rows,
            parcel: ParcelLimits { rows, ..ParcelLimits::default() },
            books: Arc::new(Books::new(100_000)),
            clock: Arc::new(SystemClock),
            state: None,
        },
        vec![SinkSetup::new("discard", Box::new(discard))],
        Box::new(Discard::new()),
        runtime.handle(),
    )?;
    let mut installed = vec![rules::rule(&Setup::json_reading(), decoder)?];
    if let Some(filter) = matches.filter() {
        for number in 0..RULES {
            let setup = Setup {
                name: format!("empty-{number}"),
                module: "bench-empty",
                config: r#"{"gives":"values"}"#.to_owned(),
                filter: filter.to_owned(),
                order: 100 + number as i32,
            };
            installed.push(rules::rule(&setup, empty)?);
        }
    }
    let mut deploy = pipeline.deploy();
    for rule in &installed {
        deploy.install(rule)?;
    }
    let inlet = pipeline.inlet("bench");
    feed(&runtime, &inlet, rows, messages)?;
    let deadline = Instant::now() + PATIENCE;
    while inlet.ledger().totals().decoded < messages as u64 {
        ensure!(Instant::now() < deadline, "the lane did not come to an end: {:?}", inlet.ledger().totals());
        std::thread::sleep(Duration::from_millis(1));
    }
    runtime.block_on(pipeline.shutdown(PATIENCE));
    let lane: u64 = pipeline.status().lanes.iter().map(|lane| lane.busy_nanos).sum();
    let calls: u64 = installed.iter().map(|rule: &Arc<Rule>| rule.stats.nanos.load(Relaxed)).sum();
    Ok(lane.saturating_sub(calls) as f64)
}

/// Sends so many readings into the lane, a parcel for each batch.
fn feed(runtime: &Runtime, inlet: &Inlet, rows: usize, messages: usize) -> Result<()> {
    let routes = (0..workload::TOPICS)
        .map(|number| inlet.topic(&workload::topic(number), &workload::topic(number)))
        .collect::<Result<Vec<(TopicId, usize)>, _>>()?;
    let mut parcels = inlet.parcels(|_: Vec<()>| Ack::none());
    let mut payload = Vec::new();
    for message in (0..).filter(|&message| !workload::is_garbage(message)).take(messages) {
        payload.clear();
        workload::payload(message, &mut payload);
        let route = routes[workload::topic_of(message)];
        parcels.push(route, inlet.now_us(), Marks::default(), &payload, ());
        if parcels.len() == rows {
            runtime.block_on(parcels.send())?;
        }
    }
    Ok(runtime.block_on(parcels.send())?)
}
