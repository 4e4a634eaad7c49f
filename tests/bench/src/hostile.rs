//! Rules that will not end, lie, or take all they can get: how soon they are stopped, and what a neighbour feels of it.
//!
//! What they do is the suite's own list (`tests/src/sins.rs`), and each is told to do it by a reading of 666.
//!
//! - `stop/…`: milliseconds of the thread's CPU time until the call has come to its end: from its deadline on, where a batch's is what ends it (`endless-loop`, `fills`: 50 ms
//!   after the call began), else from the call on. `endless-save` has the time that all the state would take which its memory of 64 MiB can hold: its target is that. `fills` is the hardest: the time is not looked at while 62 MB are filled. `log-flood` is a call
//!   that is not stopped: 10,000 lines, of which a few are taken. The thread's own clock, so that what others do on the machine is not in it.
//! - `neighbour/…`: the 99th percentile of the time from sending a reading to its arrival at the sink, beside a hostile rule that is given a reading of 666 every
//!   second, by the same without such readings. 2,000 readings a second for 4 s, on as many lanes as there are cores; the hostile rule stands on all, and its
//!   readings, which are all of one topic, come to one. What it does when its state is asked for it does each second until it is called no more.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidegate_engine::{Cells, Engine, Instance, Module, Rule};
use tidegate_model::{Books, Description, PartitionId, Points};

use crate::clock;
use crate::line::Load;
use crate::measure::{Effort, Sample, Side, alone, in_turn, quantile_of};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::sins::{SINS, Sin, When};
use crate::timed;
use crate::workload;

/// The sins that are measured: one of each kind.
pub const MEASURED: [&str; 11] = [
    "endless-loop",
    "recursion",
    "memory",
    "fills",
    "giant-return",
    "mismatched-columns",
    "trap",
    "log-flood",
    "lying-realloc",
    "endless-save",
    "state-without-end",
];

const REPETITIONS: usize = 9;
const NEIGHBOUR_REPETITIONS: usize = 3;
const EVERY: Duration = Duration::from_micros(500);
/// Readings of one repetition, and after how many comes something hostile.
const READINGS: usize = 8_000;
const HOSTILE_EVERY: usize = 2_000;
/// What tells the rule to do it.
const THE_NUMBER: f64 = 666.0;

/// The sin of that name, and a module that does it.
fn sin_of(name: &str, engine: &Engine) -> Result<(&'static Sin, Arc<Module>)> {
    let sin = SINS.iter().find(|sin| sin.name == name).with_context(|| format!("there is no sin {name}"))?;
    Ok((sin, Arc::new(Module::load(engine, &sin.module())?)))
}

/// A rule of it, of which nothing is known yet.
fn rule_of(module: &Arc<Module>) -> Result<Arc<Rule>> {
    let (config, filter) = ("{}".into(), "hostile/#".into());
    rules::roomy(&Setup { name: "hostile".into(), module: "hostile", config, filter, order: 0 }, module)
}

/// Milliseconds of the thread's CPU time until it is stopped.
pub fn stop(name: &str, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let (sin, module) = sin_of(name, &engine)?;
    let rule = rule_of(&module)?;
    let books = Arc::new(Books::new(10));
    let batch = |topic: &str, value: f64| -> Result<Points> {
        let mut points = Points::default();
        points.push(
            books.intern_series(topic, PartitionId(0), Description::default())?,
            workload::time_us(0),
            value,
            192,
        );
        Ok(points)
    };
    let (sound, bad, new) = (batch("hostile/a", 1.0)?, batch("hostile/a", THE_NUMBER)?, batch("hostile/b", 1.0)?);
    let process = |instance: &mut Instance, batch: &Points| instance.process(workload::time_us(0), batch).map(drop);
    // Until then it may go on, whatever it does.
    let deadline = match (sin.fault, sin.when) {
        (Some("timeout"), When::AtOnce) => rule.limits.batch_cpu,
        _ => Duration::ZERO,
    };
    alone(effort.repetitions(REPETITIONS), progress, || {
        // After a fault an instance is spent.
        let mut instance = rule.instantiate(&books)?;
        process(&mut instance, &sound)?;
        if !sin.is_at_once() {
            process(&mut instance, &bad)?;
        }
        let began = clock::thread_cpu();
        let outcome = match sin.when {
            When::AtOnce | When::OnReturn => process(&mut instance, &bad),
            When::NextBatch => process(&mut instance, &sound),
            When::NextSeries => process(&mut instance, &new),
            When::NextTopic | When::NextRevival => bail!("{name} is not about one instance that processes"),
            When::NextTick => instance.tick(workload::time_us(0)).map(drop),
            When::NextSave => instance.save(Cells::Changed).map(drop),
        };
        let took = clock::thread_cpu() - began;
        let fault = outcome.err().map(|fault| fault.kind.as_str());
        ensure!(fault == sin.fault, "a rule that does {name} ended with {fault:?}, and {:?} is due", sin.fault);
        ensure!(took >= deadline, "it was stopped after {took:?}, and had {deadline:?}");
        Ok((took - deadline).as_secs_f64() * 1_000.0)
    })
}

/// Milliseconds.
pub fn neighbour(name: &str, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let (_, hostile) = sin_of(name, &engine)?;
    let decoder = rules::module(&engine, "json-reading")?;
    let readings = effort.amount(READINGS).max(HOSTILE_EVERY + 1);
    in_turn(effort.repetitions(NEIGHBOUR_REPETITIONS), progress, |side| {
        let lanes = std::thread::available_parallelism().map_or(1, Into::into);
        let (line, arrivals) = timed::line(lanes, 10_000)?;
        for filter in ["dev/#", "hostile/#"] {
            let setup = Setup { name: format!("read {filter}"), filter: filter.into(), ..Setup::json_reading() };
            line.install(&rules::rule(&setup, &decoder)?)?;
        }
        line.install(&rule_of(&hostile)?)?;
        let routes = line.routes((0..workload::TOPICS).map(workload::topic).chain(["hostile/a".to_owned()]))?;
        let (mut sent, mut bad) = (0, 0);
        timed::paced(EVERY, |number| {
            let mut load = Load::default();
            if side == Side::Ours && number % HOSTILE_EVERY == HOSTILE_EVERY / 2 {
                load.push(workload::TOPICS, |to| to.extend_from_slice(format!(r#"{{"v":{THE_NUMBER}}}"#).as_bytes()));
                bad += 1;
            }
            load.push(workload::topic_of(number), |to| workload::reading(number, to));
            sent += load.len();
            line.send(&load, &routes)?;
            Ok(number + 1 < readings)
        })?;
        line.settled(sent)?;
        line.close()?;
        let arrived = arrivals.take();
        // Of those that do it later, the readings themselves come through: a few among thousands.
        let due = readings..=readings + bad;
        ensure!(due.contains(&arrived.len()), "{} readings came to the sink, and {due:?} are due", arrived.len());
        Ok(quantile_of(arrived.into_iter().map(|(_, ms)| ms), 0.99))
    })
}
