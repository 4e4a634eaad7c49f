//! (a) Decode and threshold in WebAssembly, by the same crates linked natively over the same columns.
//!
//! **In**, on our side: all that the engine does for a batch: ids translated, columns copied into the guest, the guest's work under its
//! deadline, columns copied out and checked, points handed from the decoder to the processor. On the native side: the SDK's calls
//! in the same order, on columns that are theirs already; what is copied for it is copied before the clock starts.
//! **Out**: names (declared in a first pass that does not count), routing, sources and sinks.
//!
//! CPU time of the one thread. Both sides decode every message of the workload, garbage included, and each pass has messages of its
//! own, since the threshold rule does not judge a reading that is older than the last. Points, rejects and alerts of the first pass
//! are compared with what the workload says must come of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rule_json_reading::Exported as JsonReading;
use rule_threshold::Exported as Threshold;
use tidegate_engine::{Engine, Instance};
use tidegate_model::{Books, Marks, Messages, TopicId};
use tidegate_rule::columns as guest;
use tidegate_rule::testing::{NativeDecoder, NativeProcessor};

use crate::clock;
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload::{self, Digest, Expected};

/// Messages of one pass.
const ROWS: usize = 20_000;
/// Passes of one repetition.
const PASSES: usize = 3;
const REPETITIONS: usize = 21;

/// Nanoseconds a row, at so many rows a batch.
pub fn measure(rows: usize, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let books = Arc::new(Books::new(100_000));
    let topics = (0..workload::TOPICS)
        .map(|number| books.intern_topic(&workload::topic(number), &workload::topic(number)))
        .collect::<Result<Vec<TopicId>, _>>()?;
    let input = Input { topics, rows, total: effort.amount(ROWS).max(rows) };
    let mut wasm = Wasm::new(&books)?;
    let mut native = Native::new()?;
    check(&mut wasm, &mut native, &books, &input)?;
    let (mut ours, mut theirs) = (1, 1);
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let mut cpu = Duration::ZERO;
        for _ in 0..PASSES {
            cpu += match side {
                Side::Ours => wasm.pass(&input.pass(&mut ours))?,
                Side::Baseline => native.pass(&input.pass(&mut theirs)),
            };
        }
        Ok(clock::nanos_each(cpu, input.total * PASSES))
    })
}

/// What both sides are given.
struct Input {
    topics: Vec<TopicId>,
    /// Of a batch.
    rows: usize,
    /// Of a pass.
    total: usize,
}

/// Batches, and the time at which they are decoded.
struct Pass {
    batches: Vec<Messages>,
    now_us: i64,
}

impl Input {
    /// The next pass, made before anybody's clock starts.
    fn pass(&self, number: &mut usize) -> Pass {
        let (first, after) = (*number * self.total, (*number + 1) * self.total);
        *number += 1;
        let now_us = workload::time_us(after);
        let mut payload = Vec::new();
        let batch = |start: usize| {
            let mut batch = Messages::default();
            for message in start..(start + self.rows).min(after) {
                payload.clear();
                workload::payload(message, &mut payload);
                batch.push(self.topics[workload::topic_of(message)], now_us, Marks::default(), &payload);
            }
            batch
        };
        Pass { batches: (first..after).step_by(self.rows).map(batch).collect(), now_us }
    }
}

fn columns_of(batch: &Messages) -> guest::Messages {
    guest::Messages {
        topic: batch.topic.iter().map(|topic| topic.0).collect(),
        received_us: batch.received_us.clone(),
        marks: batch.marks.clone(),
        payload_ends: batch.payload.ends.clone(),
        payload_bytes: batch.payload.bytes.clone(),
        properties: guest::Properties::default(),
    }
}

/// The rules as the host runs them.
struct Wasm {
    decoder: Instance,
    threshold: Instance,
    _engine: Engine,
}

impl Wasm {
    fn new(books: &Arc<Books>) -> Result<Self> {
        let engine = Engine::new()?;
        let instance = |setup: Setup| -> Result<Instance> {
            let module = rules::module(&engine, setup.module)?;
            Ok(rules::rule(&setup, &module)?.instantiate(books)?)
        };
        Ok(Self {
            decoder: instance(Setup::json_reading())?,
            threshold: instance(Setup::threshold())?,
            _engine: engine,
        })
    }

    fn pass(&mut self, pass: &Pass) -> Result<Duration> {
        let began = clock::thread_cpu();
        for batch in &pass.batches {
            let decoded = self.decoder.decode(pass.now_us, batch)?;
            if !decoded.points.is_empty() {
                self.threshold.process(pass.now_us, &decoded.points)?;
            }
        }
        Ok(clock::thread_cpu() - began)
    }
}

/// The same crates, linked.
struct Native {
    decoder: NativeDecoder<JsonReading>,
    threshold: NativeProcessor<Threshold>,
}

impl Native {
    fn new() -> Result<Self> {
        let refused = |why: String| anyhow!("a rule refused its configuration natively: {why}");
        let mut decoder = NativeDecoder::configured("{}").map_err(refused)?;
        let topics = (0..workload::TOPICS).map(|number| guest::Topic {
            id: number as u32,
            name: workload::topic(number),
            partition: number as u32,
        });
        decoder.declare_topics(topics.collect());
        Ok(Self { decoder, threshold: NativeProcessor::configured(&rules::threshold_config()).map_err(refused)? })
    }

    fn pass(&mut self, pass: &Pass) -> Duration {
        let columns: Vec<guest::Messages> = pass.batches.iter().map(columns_of).collect();
        let began = clock::thread_cpu();
        for batch in columns {
            let decoded = self.decoder.decode(pass.now_us, batch);
            let points = decoded.made.points;
            if !points.is_empty() {
                self.threshold.process(pass.now_us, points);
            }
        }
        clock::thread_cpu() - began
    }

    /// Makes the series that the decoder has met since `known` known to the processor.
    fn declare(&mut self, known: &mut u32) {
        let mut new = Vec::new();
        while let Some(series) = self.decoder.host.series(*known) {
            new.push(series.clone());
            *known += 1;
        }
        if !new.is_empty() {
            self.threshold.declare_series(new);
        }
    }
}

/// One pass of both, looked at row by row.
fn check(wasm: &mut Wasm, native: &mut Native, books: &Books, input: &Input) -> Result<()> {
    let Pass { batches, now_us } = input.pass(&mut 0);
    let (mut ours, mut theirs) = (Expected::default(), Expected::default());
    let (mut our_digest, mut their_digest) = (Digest::default(), Digest::default());
    let mut known = 0;
    for batch in &batches {
        let decoded = wasm.decoder.decode(now_us, batch)?;
        let points = &decoded.points;
        for ((series, time_us), value) in points.series.iter().zip(&points.time_us).zip(&points.value) {
            our_digest.add(workload::topic_mark(books.series_topic(*series)), *time_us, *value);
        }
        ours.messages += batch.len();
        ours.points += points.len() as u64;
        ours.garbage += decoded.rejects.row.len() as u64;
        ours.alerts += wasm.threshold.process(now_us, points)?.alerts.len() as u64;

        let decoded = native.decoder.decode(now_us, columns_of(batch));
        native.declare(&mut known);
        let points = decoded.made.points;
        for ((series, time_us), value) in points.series.iter().zip(&points.time_us).zip(&points.value) {
            let series =
                native.decoder.host.series(*series).context("a series the native decoder never asked for")?;
            their_digest.add(workload::topic_mark(&series.topic), *time_us, *value);
        }
        theirs.messages += batch.len();
        theirs.points += points.len() as u64;
        theirs.garbage += decoded.rejects.row.len() as u64;
        theirs.alerts += native.threshold.process(now_us, points).alerts.series.len() as u64;
    }
    (ours.digest, theirs.digest) = (our_digest.sum(), their_digest.sum());
    let expected = workload::expected(input.total);
    ensure!(ours == expected, "in WebAssembly {ours:?} came of the messages, and {expected:?} should");
    ensure!(theirs == expected, "natively {theirs:?} came of the messages, and {expected:?} should");
    Ok(())
}
