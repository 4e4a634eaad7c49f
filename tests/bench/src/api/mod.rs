//! What the data plane has of its host's API being used, and how soon a rule that is changed by it serves.
//!
//! - `api/rate-under-load`: messages a second through decoder and threshold, on a lane a CPU, while 1,000 connections ask the API 500 times a second in
//!   all; by the same with the API there and nobody asking.
//! - `api/p99-under-load`: milliseconds that a message is on its way, the 99th percentile of 2,000 a second, in the same two cases.
//! - `api/rule-change`: milliseconds from a PUT that changes a rule's configuration to its answer, which comes when the rule serves: the
//!   definition read, held against the module's schema in a child, tried on a scratch instance, written to `rules.d`, taken over by all lanes. **Out**:
//!   messages.
//!
//! **In**: the API's thread, and all that the questions cost it. Who asks is a process of its own ([`driver`]), plain HTTP over connections that are kept: it has
//! its share of the machine's cores in ours and none in the baseline, so with few cores the figures say more than the API itself costs. The CPU seconds
//! beside a figure are those of the host.

pub mod driver;
mod house;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::driver::Asking;
use self::house::House;
use crate::line::Load;
use crate::measure::{Effort, Sample, Side, alone, in_turn, quantile_of, seconds_since};
use crate::report::Progress;
use crate::timed;
use crate::workload::{self, LIMIT, TOPICS};

const REPETITIONS: usize = 11;
/// Messages that are sent again and again while the rate is measured.
const MESSAGES: usize = 200_000;
/// How long one side of a repetition lasts.
const SECONDS: f64 = 3.0;
/// Between two messages, where their way is timed.
const EVERY: Duration = Duration::from_micros(500);
/// Changes of a rule in one repetition.
const CHANGES: usize = 20;

/// Messages a second.
pub fn rate(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut load = Load::default();
    (0..effort.amount(MESSAGES)).for_each(|n| load.push(workload::topic_of(n), |to| workload::reading(n, to)));
    let mut sent = 0;
    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let asking = asking(side, &house)?;
        let (began, before) = (Instant::now(), sent);
        while seconds_since(began) < seconds(effort) {
            house.line.send(&load, &routes)?;
            sent += load.len();
            // They are not looked at here, and would grow without end.
            house.arrivals.take();
        }
        house.line.decoded(sent)?;
        let seconds = seconds_since(began);
        asking.map_or(Ok(()), |asking| asking.end(seconds))?;
        Ok((sent - before) as f64 / seconds)
    })?;
    house.close()?;
    Ok(samples)
}

/// Milliseconds.
pub fn tail(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut sent = 0;
    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let asking = asking(side, &house)?;
        house.arrivals.take();
        let (began, first) = (Instant::now(), sent);
        timed::paced(EVERY, |number| {
            let (message, mut one) = (first + number, Load::default());
            one.push(workload::topic_of(message), |to| workload::reading(message, to));
            house.line.send(&one, &routes)?;
            sent += 1;
            Ok(seconds_since(began) < seconds(effort))
        })?;
        house.line.decoded(sent)?;
        let arrived = house.arrivals.take();
        asking.map_or(Ok(()), |asking| asking.end(seconds_since(began)))?;
        ensure!(arrived.len() == sent - first, "{} of {} messages arrived", arrived.len(), sent - first);
        Ok(quantile_of(arrived.into_iter().map(|(_, ms)| ms), 0.99))
    })?;
    house.close()?;
    Ok(samples)
}

/// Milliseconds.
pub fn rule_change(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let mut changes = 0;
    let samples = alone(effort.repetitions(REPETITIONS), progress, || {
        let mut took = Vec::with_capacity(CHANGES);
        for _ in 0..effort.amount(CHANGES).max(3) {
            changes += 1;
            let began = Instant::now();
            house.change_threshold(LIMIT + f64::from(changes))?;
            took.push(seconds_since(began) * 1_000.0);
        }
        Ok(quantile_of(took.into_iter(), 0.5))
    })?;
    house.close()?;
    Ok(samples)
}

fn asking(side: Side, house: &House) -> Result<Option<Asking>> {
    match side {
        Side::Ours => Asking::begin(house.port()).map(Some),
        Side::Baseline => Ok(None),
    }
}

fn seconds(effort: Effort) -> f64 {
    if effort.quick { SECONDS / 3.0 } else { SECONDS }
}
