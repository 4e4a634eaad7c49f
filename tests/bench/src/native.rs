//! What a rule costs a row in WebAssembly, by the same crate linked natively over the same columns: nothing at all, a threshold, a moving
//! average with state by series.
//!
//! **In**, on our side: all that the engine does for a batch of points: ids translated, four columns copied into the guest, the guest's
//! work under its deadline, what it gives copied out and checked. On the native side: the SDK's call, on columns that are its own
//! already. **Out**: making the columns, names, the lane's routing (see `routing` and `chain`).
//!
//! CPU time of the one thread, 1,000 rows a batch, each of another series. A pass has times of its own, later than those before, as the threshold
//! rule does not judge a reading that is older than the last. What is judged is the pairs' difference: how much more a row costs.
//! In the first pass the values and alerts of both are compared.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use rule_bench_empty::Exported as Empty;
use rule_bench_ewma::Exported as Ewma;
use rule_threshold::Exported as Threshold;
use tidegate_engine::{Engine, Instance, Passage};
use tidegate_model::{Books, Description, PartitionId, Points, SeriesId};
use tidegate_rule::Rule;
use tidegate_rule::columns as guest;
use tidegate_rule::testing::NativeProcessor;

use crate::clock;
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload;

/// Rows of a batch, and series.
const ROWS: usize = 1_000;
/// Batches of one repetition: few enough to lie in the cache, as they do when a lane has just decoded them.
const BATCHES: usize = 20;
/// How often a repetition goes through as many new ones.
const ROUNDS: usize = 25;
const REPETITIONS: usize = 21;

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Empty,
    Threshold,
    Ewma,
}

impl Which {
    pub const ALL: [Which; 3] = [Which::Empty, Which::Threshold, Which::Ewma];

    pub const fn name(self) -> &'static str {
        match self {
            Which::Empty => "empty",
            Which::Threshold => "threshold",
            Which::Ewma => "ewma",
        }
    }

    fn setup(self) -> Setup {
        match self {
            Which::Empty => {
                let config = r#"{"gives":"nothing"}"#.to_owned();
                Setup { name: "empty".into(), module: "bench-empty", config, filter: "#".into(), order: 0 }
            }
            Which::Threshold => Setup::threshold(),
            Which::Ewma => Setup::ewma(),
        }
    }
}

/// Nanoseconds a row.
pub fn measure(which: Which, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    match which {
        Which::Empty => compare::<Empty>(which, effort, progress),
        Which::Threshold => compare::<Threshold>(which, effort, progress),
        Which::Ewma => compare::<Ewma>(which, effort, progress),
    }
}

fn compare<R: Rule>(which: Which, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let books = Arc::new(Books::new(ROWS));
    let series = (0..ROWS)
        .map(|number| {
            books.intern_series(&workload::topic(number), PartitionId(number as u32), Description::default())
        })
        .collect::<Result<Vec<SeriesId>, _>>()?;
    let setup = which.setup();
    let mut wasm = rules::rule(&setup, &rules::module(&engine, setup.module)?)?.instantiate(&books)?;
    let mut native = NativeProcessor::<R>::configured(&setup.config)
        .map_err(|why| anyhow!("a rule refused its configuration natively: {why}"))?;
    native.declare_series((0..ROWS).map(declared).collect());
    check(&mut wasm, &mut native, &series)?;
    let rounds = effort.amount(ROUNDS).max(1);
    let (mut ours, mut theirs) = (1, 1);
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let mut cpu = std::time::Duration::ZERO;
        for _ in 0..rounds {
            match side {
                Side::Ours => {
                    let batches = next(&mut ours, |number| points(number, &series));
                    let began = clock::thread_cpu();
                    for batch in &batches {
                        wasm.process(now_us(ours), batch)?;
                    }
                    cpu += clock::thread_cpu() - began;
                }
                Side::Baseline => {
                    let batches = next(&mut theirs, |number| columns(&points(number, &series)));
                    let began = clock::thread_cpu();
                    for batch in batches {
                        native.process(now_us(theirs), batch);
                    }
                    cpu += clock::thread_cpu() - began;
                }
            }
        }
        Ok(clock::nanos_each(cpu, rounds * BATCHES * ROWS))
    })
}

/// The next batches, made before anybody's clock starts.
fn next<B>(number: &mut usize, batch: impl Fn(usize) -> B) -> Vec<B> {
    let first = *number;
    *number += BATCHES;
    (first..*number).map(batch).collect()
}

/// Every series once.
fn points(number: usize, series: &[SeriesId]) -> Points {
    let mut points = Points::default();
    for (row, &series) in series.iter().enumerate() {
        let message = number * ROWS + row;
        points.push(series, workload::time_us(message), workload::value(message), 192);
    }
    points
}

fn columns(points: &Points) -> guest::Points {
    guest::Points {
        series: points.series.iter().map(|series| series.0).collect(),
        time_us: points.time_us.clone(),
        value: points.value.clone(),
        quality: points.quality.clone(),
        texts: guest::Texts::default(),
    }
}

/// Later than every reading of the batches before this one.
fn now_us(number: usize) -> i64 {
    workload::time_us(number * ROWS)
}

fn declared(number: usize) -> guest::Series {
    let id = number as u32;
    guest::Series { id, topic: workload::topic(number), unit: None, labels: Vec::new(), partition: id }
}

/// Two batches through both: the same values and as many alerts.
fn check<R: Rule>(wasm: &mut Instance, native: &mut NativeProcessor<R>, series: &[SeriesId]) -> Result<()> {
    let mut alerts = 0;
    for number in 0..2 {
        let batch = points(number, series);
        let ours = wasm.process(now_us(number + 1), &batch)?;
        let theirs = native.process(now_us(number + 1), columns(&batch));
        let same = match (&ours.passage, &theirs.passage) {
            (Passage::Unchanged, guest::Passage::Unchanged) => true,
            (Passage::Values(ours), guest::Passage::Values(theirs)) => ours == theirs,
            _ => false,
        };
        ensure!(same, "in WebAssembly {:?} came of a batch, natively {:?}", ours.passage, theirs.passage);
        ensure!(ours.alerts.len() == theirs.alerts.series.len(), "other alerts came in WebAssembly than natively");
        alerts += ours.alerts.len();
    }
    let raised = wasm.rule().name.as_ref() != "threshold" || alerts > 0;
    ensure!(raised, "no reading was above the limit that the threshold rule watches");
    Ok(())
}
