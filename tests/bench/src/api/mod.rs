//! What the data plane has of its host's API being used, and how soon a rule that is changed by it serves.
//!
//! - `api/rate-under-load`: points a second that the sink has confirmed, of as many messages as the lanes take, through decoder and threshold, on a lane a
//!   CPU, while 1,000 connections ask the API 500 times a second in all, each with a token.
//! - `api/p99-under-load`: milliseconds from a message's receipt to the sink, of 20,000 a second, in the same case: the 99th percentile of each slot of half a
//!   second, and of those the median of a repetition's. That leaves out what makes fewer than half of all slots slow: one burst of the machine's would else
//!   decide a repetition. `api/p99-under-load-pooled` has it in: the 99th percentile of all that came in a repetition. A slot in which who asks could not ask
//!   98 % of what was due is no load, and is measured again with the other side's beside it; how often is told below the figure.
//! - `api/rate-alone`, `api/p99-alone`, `api/p99-alone-pooled`: the same by a host that nobody asks.
//! - `api/rule-change`: milliseconds from a PUT that changes a rule's configuration to its answer, which comes when the rule serves: the
//!   definition read, held against the module's schema in a child, tried on a scratch instance, written to `rules.d`, taken over by all lanes. **Out**:
//!   messages.
//!
//! **In**: the API's thread, and all that the questions cost it. **Out**, being the same on both sides: who asks ([`driver`]), and the sockets. In the baseline
//! the same process asks as often over as many connections, and another one gives the answers that the API gave once ([`parrot`]), so what is compared is what
//! the API does for an answer. All of it shares the machine's cores. The CPU seconds beside a figure are those of the host.
//!
//! Where the baseline is a host that nobody asks (`-alone`), who asks is in the figure, with its CPU time and its half of each socket. Who asks a host is elsewhere
//! as a rule; here, on few cores that the lanes have use for all of, it takes from them what the API did not. So those figures say how much it is at the worst, and have
//! no target.

pub mod driver;
mod house;
pub mod parrot;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use self::driver::Asking;
use self::house::House;
use self::parrot::Parroting;
use crate::line::Load;
use crate::measure::{
    Effort, Sample, Side, Slot, Slots, alone, in_slots, in_turn, median, quantile_of, seconds_since,
};
use crate::report::Progress;
use crate::timed;
use crate::workload::{self, LIMIT, TOPICS};

const REPETITIONS: usize = 11;
/// The same of what has no target.
const REPETITIONS_ALONE: usize = 5;
/// Messages that are sent again and again while the rate is measured.
const MESSAGES: usize = 200_000;
/// How long one side of a repetition lasts.
const SECONDS: f64 = 3.0;
/// How long messages flow before their way is timed.
const SETTLING: f64 = 0.25;
/// Of how many slots each side of a repetition is made, where the messages' way is timed: of 16 of them the ratios of repetitions had a spread of 7 %, where
/// 10 % are to be judged.
const SLOTS: usize = 40;
/// The same of what has no target.
const SLOTS_ALONE: usize = 10;
/// Repetitions of so many slots.
const REPETITIONS_OF_SLOTS: usize = 9;
const SLOT_SECONDS: f64 = 0.5;
/// Between two parcels, where the messages' way is timed.
const EVERY: Duration = Duration::from_micros(500);
/// Messages of a parcel then.
const PARCEL: usize = 10;
/// Changes of a rule in one repetition.
const CHANGES: usize = 20;

/// What a host whose API is asked is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// One beside which somebody else is asked as much.
    Parrot,
    /// One that nobody asks anything.
    Nobody,
}

/// Whom the callers of a case ask.
struct Asked {
    host: u16,
    parrot: Option<Parroting>,
}

impl Beside {
    fn repetitions(self) -> usize {
        match self {
            Beside::Parrot => REPETITIONS,
            Beside::Nobody => REPETITIONS_ALONE,
        }
    }

    /// Repetitions where the messages' way is timed, and the slots of one.
    fn slots(self, effort: Effort) -> (usize, usize) {
        let (repetitions, slots) = match self {
            Beside::Parrot => (REPETITIONS_OF_SLOTS, SLOTS),
            Beside::Nobody => (REPETITIONS_ALONE, SLOTS_ALONE),
        };
        (effort.repetitions(repetitions), if effort.quick { 2 } else { slots })
    }
}

impl Asked {
    fn of(house: &House, beside: Beside) -> Result<Self> {
        let parrot = match beside {
            Beside::Parrot => Some(Parroting::start(house.port())?),
            Beside::Nobody => None,
        };
        Ok(Self { host: house.port(), parrot })
    }

    /// Callers, if there are any on that side.
    fn begin(&self, side: Side) -> Result<Option<Asking>> {
        let port = match side {
            Side::Ours => Some(self.host),
            Side::Baseline => self.parrot.as_ref().map(Parroting::port),
        };
        port.map(Asking::begin).transpose()
    }
}

/// Points a second.
pub fn rate(beside: Beside, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let house = House::start(TOPICS)?;
    let asked = Asked::of(&house, beside)?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut load = Load::default();
    (0..effort.amount(MESSAGES)).for_each(|n| load.push(workload::topic_of(n), |to| workload::reading(n, to)));
    let mut sent = 0;
    let samples = in_turn(effort.repetitions(beside.repetitions()), progress, |side| {
        let asking = asked.begin(side)?;
        let (began, before) = (Instant::now(), house.stored());
        while seconds_since(began) < seconds(effort) {
            house.line.send(&load, &routes)?;
            sent += load.len();
            // They are not looked at here, and would grow without end.
            house.arrivals.take();
        }
        let (stored, seconds) = (house.stored() - before, seconds_since(began));
        if let Slot::Disturbed(why) = ended(asking)? {
            bail!("{why}");
        }
        house.line.decoded(sent)?;
        ensure!(house.stored() == sent as u64, "of {sent} messages {} are stored", house.stored());
        Ok(stored as f64 / seconds)
    })?;
    house.close()?;
    Ok(samples)
}

/// Of each repetition, how many milliseconds the messages of each slot were on their way.
type Seen = Rc<[Slots<Vec<f64>>]>;

/// How long messages were on their way: measured once, by whoever asks first.
pub struct Delays {
    beside: Beside,
    seen: RefCell<Option<Seen>>,
}

impl Delays {
    pub fn new(beside: Beside) -> Self {
        Self { beside, seen: RefCell::default() }
    }

    /// Milliseconds: the median of the slots' 99th percentiles.
    pub fn of_slots(&self, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
        let p99 = |slot: &Vec<f64>| quantile_of(slot.iter().copied(), 0.99);
        let all = self.seen(effort, progress)?;
        Ok(all.iter().map(|slots| slots.sample(|side| median(side.iter().map(p99)))).collect())
    }

    /// Milliseconds: the 99th percentile of all slots together.
    pub fn pooled(&self, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
        let all = self.seen(effort, progress)?;
        let pooled = |side: &[Vec<f64>]| quantile_of(side.iter().flatten().copied(), 0.99);
        Ok(all.iter().map(|slots| slots.sample(pooled)).collect())
    }

    fn seen(&self, effort: Effort, progress: &Progress) -> Result<Seen> {
        if let Some(seen) = &*self.seen.borrow() {
            return Ok(seen.clone());
        }
        let seen: Seen = delays(self.beside, effort, progress)?.into();
        *self.seen.borrow_mut() = Some(seen.clone());
        Ok(seen)
    }
}

fn delays(beside: Beside, effort: Effort, progress: &Progress) -> Result<Vec<Slots<Vec<f64>>>> {
    let house = House::start(TOPICS)?;
    let asked = Asked::of(&house, beside)?;
    let routes = house.line.routes((0..TOPICS).map(workload::topic))?;
    let mut sent = 0;
    let measure = |side| {
        let asking = asked.begin(side)?;
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
        let asked = ended(asking)?;
        house.line.decoded(sent)?;
        let arrived = house.arrivals.take();
        ensure!(arrived.len() == sent - first, "{} of {} messages arrived", arrived.len(), sent - first);
        Ok(match asked {
            Slot::Seen(()) => Slot::Seen(arrived.into_iter().map(|(_, ms)| ms).collect()),
            Slot::Disturbed(why) => Slot::Disturbed(why),
        })
    };
    let (repetitions, slots) = beside.slots(effort);
    let seen = in_slots(repetitions, slots, progress, measure)?;
    house.close()?;
    Ok(seen)
}

/// Whether all was asked that was to be, where somebody asks.
fn ended(asking: Option<Asking>) -> Result<Slot<()>> {
    asking.map_or(Ok(Slot::Seen(())), Asking::end)
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

fn seconds(effort: Effort) -> f64 {
    if effort.quick { SECONDS / 3.0 } else { SECONDS }
}
