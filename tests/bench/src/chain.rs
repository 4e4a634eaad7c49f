//! Many rules: in a chain that every row goes through, and a thousand of which a row meets one.
//!
//! **In**: CPU time of all threads of this process but the one that feeds: the lane with everything it does, calls, routing, ticks and saves
//! included, and the sink's task, which discards. **Out**: the feeding; the first pass over all series, in which the lane works out
//! which rules each of them meets.
//!
//! - `chain/…`: nanoseconds a row and a rule, of as many threshold rules; what the lane takes without any is taken off.
//! - `routing/1000-rules-one-matches`: nanoseconds a row with a thousand threshold rules of which one matches, by those with that one rule
//!   alone: over 100,000 series. Both lines stand all the time, idle while the other is measured.

use std::sync::Arc;

use anyhow::Result;
use tidegate_engine::{Engine, Module, Rule};
use tidegate_model::Books;
use tidegate_pipeline::SinkSetup;
use tidegate_sinks::Discard;

use crate::clock;
use crate::line::{Line, LineSetup, Load, Route};
use crate::measure::{Effort, Sample, Side, alone, in_turn};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload;

/// Messages of one repetition of a chain.
const MESSAGES: usize = 200_000;
const REPETITIONS: usize = 11;
/// Rules of which one matches.
const RULES: usize = 1_000;
const SERIES: usize = 100_000;
/// What is more than any of these needs: names of topics.
const NAMES: usize = 200_000;

/// Nanoseconds a row and a rule, of so many in a chain.
pub fn chain(rules: usize, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let modules = Modules::new()?;
    let messages = effort.amount(MESSAGES);
    let mut rows = Rows::new(messages, workload::TOPICS);
    let without = One::start(&modules, &[], workload::TOPICS)?;
    let chain = (0..rules).map(|number| watching(number, "dev/#")).collect::<Vec<_>>();
    let with = One::start(&modules, &chain, workload::TOPICS)?;
    let samples = alone(effort.repetitions(REPETITIONS), progress, || {
        let load = rows.next();
        let (with, without) = (with.nanos(&load)?, without.nanos(&load)?);
        Ok((with - without) / rules as f64)
    })?;
    without.line.close()?;
    with.line.close()?;
    Ok(samples)
}

/// Nanoseconds a row.
pub fn one_of_many(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let modules = Modules::new()?;
    let series = effort.amount(SERIES);
    let mut rows = Rows::new(effort.amount(MESSAGES).max(series), series);
    let matching = watching(0, "dev/#");
    let others = (1..RULES).map(|number| watching(number, &format!("plant{number}/+/temperature")));
    let many = One::start(&modules, &std::iter::once(matching.clone()).chain(others).collect::<Vec<_>>(), series)?;
    let one = One::start(&modules, &[matching], series)?;
    // Each series at least once, so that every way is known.
    let load = rows.every_series();
    many.nanos(&load)?;
    one.nanos(&load)?;
    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let load = rows.next();
        match side {
            Side::Ours => many.nanos(&load),
            Side::Baseline => one.nanos(&load),
        }
    })?;
    many.line.close()?;
    one.line.close()?;
    Ok(samples)
}

/// A threshold rule.
fn watching(number: usize, filter: &str) -> Setup {
    Setup {
        name: format!("threshold-{number}"),
        filter: filter.to_owned(),
        order: 100 + number as i32,
        ..Setup::threshold()
    }
}

struct Modules {
    decoder: Arc<Module>,
    threshold: Arc<Module>,
}

impl Modules {
    fn new() -> Result<Self> {
        let engine = Engine::new()?;
        let (decoder, threshold) = (rules::module(&engine, "json-reading")?, rules::module(&engine, "threshold")?);
        Ok(Self { decoder, threshold })
    }
}

/// Messages whose times grow from load to load.
struct Rows {
    series: usize,
    each: usize,
    next: usize,
}

impl Rows {
    fn new(each: usize, series: usize) -> Self {
        Self { series, each, next: 0 }
    }

    /// The next, over all series in no order.
    fn next(&mut self) -> Load {
        let series = self.series;
        // Of as many topics as there are series, in steps that are prime to their number.
        self.make(self.each, |message| message.wrapping_mul(7_919) % series)
    }

    fn every_series(&mut self) -> Load {
        let series = self.series;
        self.make(series, |message| message % series)
    }

    fn make(&mut self, messages: usize, topic_of: impl Fn(usize) -> usize) -> Load {
        let mut load = Load::default();
        for message in self.next..self.next + messages {
            load.push(topic_of(message), |to| workload::reading(message, to));
        }
        self.next += messages;
        load
    }
}

/// A line of one lane, which counts what it spends.
struct One {
    line: Line,
    routes: Vec<Route>,
    settled: std::cell::Cell<usize>,
    rules: Vec<Arc<Rule>>,
}

impl One {
    fn start(modules: &Modules, processors: &[Setup], series: usize) -> Result<Self> {
        let line = Line::start(LineSetup {
            lanes: 1,
            batch_rows: Some(1_000),
            books: Arc::new(Books::new(NAMES)),
            sinks: vec![SinkSetup::new("discard", Box::new(Discard::new()))],
            letters: Box::new(Discard::new()),
        })?;
        let mut installed = vec![rules::roomy(&Setup::json_reading(), &modules.decoder)?];
        for setup in processors {
            installed.push(rules::rule(setup, &modules.threshold)?);
        }
        for rule in &installed {
            line.install(rule)?;
        }
        let routes = line.routes((0..series).map(workload::topic))?;
        Ok(Self { line, routes, settled: std::cell::Cell::new(0), rules: installed })
    }

    /// Nanoseconds a row.
    fn nanos(&self, load: &Load) -> Result<f64> {
        let began = clock::other_threads_cpu();
        self.line.send(load, &self.routes)?;
        self.settled.set(self.settled.get() + load.len());
        self.line.decoded(self.settled.get())?;
        let spent = clock::other_threads_cpu() - began;
        rules::sound(&self.rules)?;
        Ok(clock::nanos_each(spent, load.len()))
    }
}
