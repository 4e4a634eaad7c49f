//! Rules that will not end, or take all they can get: how soon they are stopped, and what a neighbour feels of it.
//!
//! - `stop/…`: CPU milliseconds from the call to its end, of a decoder that loops without end under a limit of 50 ms, and of one that takes memory
//!   until there is no more (16 MiB). The thread's own clock, so that what others do on the machine is not in it.
//! - `neighbour/…`: the 99th percentile of the time from sending a reading to its arrival at the sink, beside a hostile rule that is given a message of its kind every
//!   second, by the same without such messages. 2,000 readings a second for 4 s, on as many lanes as there are cores; the hostile rule stands on both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_engine::{Engine, FaultKind};
use tidegate_model::{Books, Marks, Messages};

use crate::clock;
use crate::line::Load;
use crate::measure::{Effort, Sample, Side, alone, in_turn, quantile_of};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::timed;
use crate::workload;

const REPETITIONS: usize = 9;
const NEIGHBOUR_REPETITIONS: usize = 3;
const EVERY: Duration = Duration::from_micros(500);
/// Readings of one repetition, and after how many comes something hostile.
const READINGS: usize = 8_000;
const HOSTILE_EVERY: usize = 2_000;

/// What the rule is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Loop,
    Grow,
    Trap,
}

impl Order {
    /// For names.
    pub const fn name(self) -> &'static str {
        match self {
            Order::Loop => "endless-loop",
            Order::Grow => "memory",
            Order::Trap => "trap",
        }
    }

    const fn payload(self) -> &'static [u8] {
        match self {
            Order::Loop => b"loop",
            Order::Grow => b"grow",
            Order::Trap => b"trap",
        }
    }

    const fn fault(self) -> FaultKind {
        match self {
            Order::Loop => FaultKind::Timeout,
            Order::Grow => FaultKind::Memory,
            Order::Trap => FaultKind::Trap,
        }
    }
}

fn setup() -> Setup {
    Setup { name: "hostile".into(), module: "hostile", config: "{}".into(), filter: "hostile/#".into(), order: 0 }
}

/// Milliseconds of the thread's CPU time until it is stopped.
pub fn stop(order: Order, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let books = Arc::new(Books::new(10));
    let rule = rules::rule(&setup(), &rules::module(&engine, "hostile")?)?;
    let mut batch = Messages::default();
    batch.push(
        books.intern_topic("hostile/a", "hostile/a")?,
        workload::time_us(0),
        Marks::default(),
        order.payload(),
    );
    alone(effort.repetitions(REPETITIONS), progress, || {
        // After a fault an instance is spent.
        let mut instance = rule.instantiate(&books)?;
        let began = clock::thread_cpu();
        let outcome = instance.decode(workload::time_us(0), &batch);
        let took = clock::thread_cpu() - began;
        let fault = outcome.err().map(|fault| fault.kind);
        ensure!(fault == Some(order.fault()), "a rule told to {order:?} ended with {fault:?}");
        Ok(took.as_secs_f64() * 1_000.0)
    })
}

/// Milliseconds.
pub fn neighbour(order: Order, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let (decoder, hostile) = (rules::module(&engine, "json-reading")?, rules::module(&engine, "hostile")?);
    let readings = effort.amount(READINGS).max(HOSTILE_EVERY + 1);
    in_turn(effort.repetitions(NEIGHBOUR_REPETITIONS), progress, |side| {
        let lanes = std::thread::available_parallelism().map_or(1, Into::into);
        let (line, arrivals) = timed::line(lanes, 10_000)?;
        line.install(&rules::rule(&Setup::json_reading(), &decoder)?)?;
        line.install(&rules::rule(&setup(), &hostile)?)?;
        let routes = line.routes((0..workload::TOPICS).map(workload::topic).chain(["hostile/a".to_owned()]))?;
        let mut sent = 0;
        timed::paced(EVERY, |number| {
            let mut load = Load::default();
            if side == Side::Ours && number % HOSTILE_EVERY == HOSTILE_EVERY / 2 {
                load.push(workload::TOPICS, |to| to.extend_from_slice(order.payload()));
            }
            load.push(workload::topic_of(number), |to| workload::reading(number, to));
            sent += load.len();
            line.send(&load, &routes)?;
            Ok(number + 1 < readings)
        })?;
        line.settled(sent)?;
        line.close()?;
        let arrived = arrivals.take();
        ensure!(arrived.len() == readings, "{} of {readings} readings came to the sink", arrived.len());
        Ok(quantile_of(arrived.into_iter().map(|(_, ms)| ms), 0.99))
    })
}
