//! How long a lane stands still when a rule with the state of 100,000 series is changed for its next generation.
//!
//! **In**: one lane with a decoder and a moving average, and 2,000 messages a second through them. The next generation is another configuration of the
//! same module, or (`-v2`) another version of it, whose state is its own form of the old one's. **Out**: compiling.
//!
//! - The pause: how long the lane takes no batch for a swap, by its own account (`changing_nanos`); and how much of that it worked
//!   (`changing_cpu_nanos`): for the rest it had no processor.
//! - The delay: the longest that a message is on its way, from being sent to the sink, from the beginning of the swap to shortly after its
//!   end. The baseline is the same of stretches of the same length in which nothing is swapped. The new instance is made and given its state on a
//!   thread of its own that gives way, as the host has one: with few cores that alone delays messages, and so does all else that the machine does.
//!
//! Milliseconds of a repetition's swaps: the 99th percentile, or the median.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tidegate_engine::{Deploy, Engine};
use tidegate_pipeline::LaneTotals;

use crate::cost::{self, Cost};
use crate::line::{Line, Load, Route};
use crate::measure::{Effort, Sample, quantile_of};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::timed::{self, Arrivals};
use crate::workload;

const SERIES: usize = 100_000;
/// Swaps of one repetition, and as many stretches without: so many that the 99th percentile is not simply the longest.
const SWAPS: usize = 100;
const REPETITIONS: usize = 5;
const EVERY: Duration = Duration::from_micros(500);
/// Between two swaps, and after each: messages that it held up have arrived by then.
const AFTERWARDS: Duration = Duration::from_millis(20);

/// What the rule is changed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Configuration,
    Version,
}

/// What of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// How long the lane takes no batch: 99th percentile.
    Pause,
    /// The same, the median.
    PauseMedian,
    /// How much CPU time the lane takes for it.
    PauseCpu,
    /// How long a message is on its way meanwhile.
    Delay,
}

impl Next {
    pub const ALL: [Self; 2] = [Next::Configuration, Next::Version];

    pub const fn suffix(self) -> &'static str {
        match self {
            Next::Configuration => "",
            Next::Version => "-v2",
        }
    }
}

impl Figure {
    pub const ALL: [Self; 4] = [Figure::Pause, Figure::PauseMedian, Figure::PauseCpu, Figure::Delay];

    pub const fn name(self) -> &'static str {
        match self {
            Figure::Pause => "pause-p99",
            Figure::PauseMedian => "pause-median",
            Figure::PauseCpu => "pause-cpu-p99",
            Figure::Delay => "delay-p99",
        }
    }

    fn sample(self, repetition: &Repetition) -> Sample {
        let Repetition { swapped, still, cost } = repetition;
        let of = |times: &[f64], share| quantile_of(times.iter().copied(), share);
        let (value, baseline) = match self {
            Figure::Pause => (of(&swapped.pauses, 0.99), None),
            Figure::PauseMedian => (of(&swapped.pauses, 0.5), None),
            Figure::PauseCpu => (of(&swapped.worked, 0.99), None),
            Figure::Delay => (of(&swapped.delays, 0.99), Some(of(&still.delays, 0.99))),
        };
        Sample::new(value, baseline, Some(*cost))
    }
}

/// Swaps, and stretches of the same length without.
struct Repetition {
    swapped: Stretches,
    still: Stretches,
    /// Of the swaps.
    cost: Cost,
}

/// Measured once, by whoever asks first.
pub struct Swaps {
    next: Next,
    seen: RefCell<Option<Rc<[Repetition]>>>,
}

impl Swaps {
    pub fn of(next: Next) -> Self {
        Self { next, seen: RefCell::default() }
    }

    /// Milliseconds.
    pub fn figure(&self, figure: Figure, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
        if self.seen.borrow().is_none() {
            *self.seen.borrow_mut() = Some(measure(self.next, effort, progress)?.into());
        }
        let seen = self.seen.borrow();
        Ok(seen.iter().flat_map(|seen| seen.iter()).map(|repetition| figure.sample(repetition)).collect())
    }
}

fn measure(next: Next, effort: Effort, progress: &Progress) -> Result<Vec<Repetition>> {
    let engine = Engine::new()?;
    let series = effort.amount(SERIES);
    let (line, arrivals) = timed::line(1, 2 * SERIES)?;
    let decoder = rules::roomy(&Setup::json_reading(), &rules::module(&engine, "json-reading")?)?;
    line.install(&decoder)?;
    let module = |name| rules::module(&engine, name);
    let (ewma, other) = match next {
        Next::Configuration => (module("bench-ewma")?, None),
        Next::Version => (module("bench-ewma")?, Some(module("bench-ewma-next")?)),
    };
    let first = rules::rule(&Setup::ewma(), &ewma)?;
    line.install(&first)?;
    let routes = line.routes((0..series).map(workload::topic))?;
    let mut load = Load::default();
    (0..series).for_each(|message| load.push(message, |to| workload::reading(message, to)));
    line.send(&load, &routes)?;
    line.decoded(series)?;

    let mut generation = 1;
    let mut swap = |deploy: &mut dyn Deploy| -> Result<()> {
        generation += 1;
        let module = other.as_ref().filter(|_| generation % 2 == 0).unwrap_or(&ewma);
        let next = rules::generation(&Setup::ewma(), module, generation)?;
        deploy.install(&next)?;
        rules::sound(&[next])
    };
    let repetitions = effort.repetitions(REPETITIONS);
    let swaps = effort.amount(SWAPS).max(4);
    let mut seen = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        let (swapped, cost) = cost::of(|| stretches(&line, &routes, &arrivals, swaps, &mut swap))?;
        let still = stretches(&line, &routes, &arrivals, swaps, &mut |_| {
            std::thread::sleep(swapped.took);
            Ok(())
        })?;
        if repetition > 0 {
            seen.push(Repetition { swapped, still, cost });
        }
    }
    line.close()?;
    rules::sound(&[decoder, first])?;
    Ok(seen)
}

/// So many stretches of time.
struct Stretches {
    /// Milliseconds in which the lane took no batch, for each.
    pauses: Vec<f64>,
    /// What of that it worked.
    worked: Vec<f64>,
    /// The longest way of a message in each: milliseconds.
    delays: Vec<f64>,
    /// How long one took.
    took: Duration,
}

/// One of [`Stretches`], as it goes.
struct Stretch {
    began: Instant,
    ended: Instant,
    pause: Duration,
    worked: Duration,
}

fn stretches(
    line: &Line,
    routes: &[Route],
    arrivals: &Arrivals,
    number: usize,
    within: &mut (impl FnMut(&mut dyn Deploy) -> Result<()> + Send),
) -> Result<Stretches> {
    arrivals.take();
    let over = Arc::new(AtomicBool::new(false));
    let mut deploy = line.deploy();
    let changing = || {
        let lanes = line.pipeline().status().lanes;
        let of = |what: fn(&LaneTotals) -> u64| Duration::from_nanos(lanes.iter().map(what).sum());
        (of(|lane| lane.changing_nanos), of(|lane| lane.changing_cpu_nanos))
    };
    let all = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            tidegate_telemetry::give_way();
            let mut all = Vec::with_capacity(number);
            let mut outcome = Ok(());
            for _ in 0..number {
                std::thread::sleep(AFTERWARDS);
                let (paused, worked) = changing();
                let began = Instant::now();
                outcome = within(&mut deploy);
                if outcome.is_err() {
                    break;
                }
                let ended = Instant::now();
                std::thread::sleep(AFTERWARDS);
                let (paused_then, worked_then) = changing();
                all.push(Stretch { began, ended, pause: paused_then - paused, worked: worked_then - worked });
            }
            over.store(true, Ordering::Release);
            outcome.map(|()| all)
        });
        timed::paced(EVERY, |number| {
            let mut load = Load::default();
            load.push(number % routes.len(), |to| workload::reading(number, to));
            line.send(&load, routes)?;
            Ok(!over.load(Ordering::Acquire))
        })?;
        swapping.join().map_err(|_| anyhow!("the swapping thread ended by a bug of the bench"))?
    })?;
    // What was held up has arrived then.
    line.settled(0)?;
    let arrived = arrivals.take();
    let longest = all.iter().map(|stretch| {
        let on_its_way = |at: Instant, ms: f64| {
            at >= stretch.began && at <= stretch.ended + AFTERWARDS + Duration::from_secs_f64(ms / 1_000.0)
        };
        let during = arrived.iter().filter(|&&(at, ms)| on_its_way(at, ms));
        during.map(|(_, ms)| *ms).fold(f64::NAN, f64::max)
    });
    let delays: Vec<f64> = longest.collect();
    ensure!(delays.iter().all(|ms| ms.is_finite()), "no message came during a swap");
    let took = all.iter().map(|stretch| stretch.ended - stretch.began).sum::<Duration>() / number as u32;
    let ms = |of: fn(&Stretch) -> Duration| all.iter().map(|it| of(it).as_secs_f64() * 1_000.0).collect();
    let (pauses, worked) = (ms(|it| it.pause), ms(|it| it.worked));
    Ok(Stretches { pauses, worked, delays, took })
}
