//! What the data plane has of its host's API being used, and how soon a rule that is changed by it serves.
//!
//! - `api/rate-under-load`: points a second that the sink has confirmed, of as many messages as the lanes take, through decoder and threshold, on a lane a
//!   CPU, while 1,000 connections ask the API 500 times a second in all.
//! - `api/p99-under-load`: milliseconds from a message's receipt to the sink, the 99th percentile of 20,000 a second, in the same case.
//! - `api/rule-change`: milliseconds from a PUT that changes a rule's configuration to its answer, which comes when the rule serves: the
//!   definition read, held against the module's schema in a child, tried on a scratch instance, written to `rules.d`, taken over by all lanes. **Out**:
//!   messages.
//!
//! **In**: the API's thread, and all that the questions cost it. **Out**, being the same on both sides: who asks ([`driver`]), and the sockets. In the baseline
//! the same process asks as often over as many connections, and another one gives the answers that the API gave once ([`parrot`]), so what is compared is what
//! the API does for an answer. All of it shares the machine's cores. The CPU seconds beside a figure are those of the host.

pub mod driver;
mod house;
pub mod parrot;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::driver::Asking;
use self::house::House;
use self::parrot::Parroting;
use crate::line::Load;
use crate::measure::{Effort, Sample, Side, alone, in_slots, in_turn, quantile_of, seconds_since};
use crate::report::Progress;
use crate::timed;
use crate::workload::{self, LIMIT, TOPICS};

const REPETITIONS: usize = 11;
/// Messages that are sent again and again while the rate is measured.
const MESSAGES: usize = 200_000;
/// How long one side of a repetition lasts.
const SECONDS: f64 = 3.0;
/// How long messages flow before their way is timed.
const SETTLING: f64 = 0.25;
/// Of how many slots each side of a repetition is made, where the messages' way is timed, and how long one lasts.
const SLOTS: usize = 6;
const SLOT_SECONDS: f64 = 0.5;
/// Between two parcels, where the messages' way is timed.
const EVERY: Duration = Duration::from_micros(500);
/// Messages of a parcel then.
const PARCEL: usize = 10;
/// Changes of a rule in one repetition.
const CHANGES: usize = 20;

/// Points a second.
pub fn rate(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let parrot = Parroting::start(house.port())?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut load = Load::default();
    (0..effort.amount(MESSAGES)).for_each(|n| load.push(workload::topic_of(n), |to| workload::reading(n, to)));
    let mut sent = 0;
    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let asking = asking(side, &house, &parrot)?;
        let (began, before) = (Instant::now(), house.stored());
        while seconds_since(began) < seconds(effort) {
            house.line.send(&load, &routes)?;
            sent += load.len();
            // They are not looked at here, and would grow without end.
            house.arrivals.take();
        }
        let (stored, seconds) = (house.stored() - before, seconds_since(began));
        asking.end(seconds)?;
        house.line.decoded(sent)?;
        ensure!(house.stored() == sent as u64, "of {sent} messages {} are stored", house.stored());
        Ok(stored as f64 / seconds)
    })?;
    house.close()?;
    Ok(samples)
}

/// Milliseconds.
pub fn tail(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let parrot = Parroting::start(house.port())?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut sent = 0;
    let measure = |side| {
        let asking = asking(side, &house, &parrot)?;
        let asked = Instant::now();
        let mut feed = |seconds: f64| {
            let began = Instant::now();
            timed::paced(EVERY, |_| {
                let mut parcel = Load::default();
                for message in sent..sent + PARCEL {
                    parcel.push(workload::topic_of(message), |to| workload::reading(message, to));
                }
                house.line.send(&parcel, &routes)?;
                sent += PARCEL;
                Ok(seconds_since(began) < seconds)
            })?;
            Ok::<_, anyhow::Error>(sent)
        };
        // What the side before has left to be closed is closed meanwhile, and both sides have their caches warm.
        let first = feed(SETTLING)?;
        house.line.decoded(first)?;
        house.arrivals.take();
        let sent = feed(SLOT_SECONDS)?;
        asking.end(seconds_since(asked))?;
        house.line.decoded(sent)?;
        let arrived = house.arrivals.take();
        ensure!(arrived.len() == sent - first, "{} of {} messages arrived", arrived.len(), sent - first);
        Ok(arrived.into_iter().map(|(_, ms)| ms).collect())
    };
    let slots = if effort.quick { 2 } else { SLOTS };
    let samples = in_slots(effort.repetitions(REPETITIONS), slots, progress, measure, |all: Vec<f64>| {
        quantile_of(all.into_iter(), 0.99)
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

fn asking(side: Side, house: &House, parrot: &Parroting) -> Result<Asking> {
    Asking::begin(match side {
        Side::Ours => house.port(),
        Side::Baseline => parrot.port(),
    })
}

fn seconds(effort: Effort) -> f64 {
    if effort.quick { SECONDS / 3.0 } else { SECONDS }
}
