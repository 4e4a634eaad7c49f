//! (b) What it costs to cross into a rule and back: a call of a rule that does nothing.
//!
//! **In**: all that the engine does for a batch of points: ids translated, four columns copied into the guest, the guest's own
//! allocations, the deadline, the outcome checked. **Out**: the lane's routing (see `routing`), names.
//!
//! CPU time of the one thread. The figure at 1,000 rows includes the fixed cost of the call, which is measured by itself with a
//! batch of no rows.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tidegate_engine::{Engine, Instance, Passage};
use tidegate_model::{Books, Description, PartitionId, Points};

use crate::clock;
use crate::measure::{Effort, Sample, alone};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload;

/// Rows, or calls where they have few rows, of one repetition.
const ROWS: usize = 4_000_000;
const MAX_CALLS: usize = 100_000;
const REPETITIONS: usize = 21;
/// Any time: the empty rule does not look at it.
const NOW_US: i64 = 1_700_000_000_000_000;

/// Nanoseconds a row, at so many rows a batch.
pub fn per_row(rows: usize, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let mut samples = per_call(rows, effort, progress)?;
    for sample in &mut samples {
        sample.value /= rows as f64;
    }
    Ok(samples)
}

/// Nanoseconds a call, with a batch of so many rows.
pub fn per_call(rows: usize, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let books = Arc::new(Books::new(workload::TOPICS));
    let points = points(rows, &books)?;
    let mut rule = empty(&engine, &books)?;
    let outcome = rule.process(NOW_US, &points)?;
    ensure!(outcome.passage == Passage::Unchanged, "the empty rule did something: {outcome:?}");
    let calls = effort.amount(ROWS / rows.max(1)).clamp(1, MAX_CALLS);
    alone(effort.repetitions(REPETITIONS), progress, || {
        let began = clock::thread_cpu();
        for _ in 0..calls {
            rule.process(NOW_US, &points)?;
        }
        Ok(clock::nanos_each(clock::thread_cpu() - began, calls))
    })
}

fn empty(engine: &Engine, books: &Arc<Books>) -> Result<Instance> {
    let setup = Setup {
        name: "empty".into(),
        module: "bench-empty",
        config: r#"{"gives":"nothing"}"#.into(),
        filter: "#".into(),
        order: 0,
    };
    Ok(rules::rule(&setup, &rules::module(engine, setup.module)?)?.instantiate(books)?)
}

/// One point of each of so many series.
fn points(rows: usize, books: &Books) -> Result<Points> {
    let mut points = Points::default();
    for row in 0..rows {
        let topic = workload::topic(row);
        let series = books.intern_series(&topic, PartitionId(row as u32), Description::default())?;
        points.push(series, workload::time_us(row), workload::value(row), 192);
    }
    Ok(points)
}
