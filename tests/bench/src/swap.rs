//! How long a lane stands still when a rule with the state of 100,000 series is changed for its next generation.
//!
//! **In**: one lane with a decoder and a moving average, and 2,000 messages a second through them. **Out**: compiling.
//!
//! - The pause: how long the lane takes no batch for it, by its own account (`changing_nanos`).
//! - The delay: the longest that a message is on its way, from being sent to the sink, from the beginning of the swap to shortly after its
//!   end. The baseline is the same of stretches of the same length in which nothing is swapped. The new instance is made and given its state on a
//!   thread of its own: with few cores that alone delays messages, and so does all else that the machine does.
//!
//! Milliseconds, the 99th percentile of a repetition's swaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tidegate_engine::{Deploy, Engine};

use crate::cost;
use crate::line::{Line, Load, Route};
use crate::measure::{Effort, Sample, quantile_of};
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::timed::{self, Arrivals};
use crate::workload;

const SERIES: usize = 100_000;
/// Swaps of one repetition, and as many stretches without.
const SWAPS: usize = 40;
const REPETITIONS: usize = 5;
const EVERY: Duration = Duration::from_micros(500);
/// Between two swaps, and after each: messages that it held up have arrived by then.
const AFTERWARDS: Duration = Duration::from_millis(20);

/// What of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// How long the lane takes no batch.
    Pause,
    /// How long a message is on its way meanwhile.
    Delay,
}

/// Milliseconds.
pub fn measure(figure: Figure, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let engine = Engine::new()?;
    let series = effort.amount(SERIES);
    let (line, arrivals) = timed::line(1, 2 * SERIES)?;
    let decoder = rules::roomy(&Setup::json_reading(), &rules::module(&engine, "json-reading")?)?;
    line.install(&decoder)?;
    let ewma = rules::module(&engine, "bench-ewma")?;
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
        let next = rules::generation(&Setup::ewma(), &ewma, generation)?;
        deploy.install(&next)?;
        rules::sound(&[next])
    };
    let repetitions = effort.repetitions(REPETITIONS);
    let swaps = effort.amount(SWAPS).max(4);
    let mut samples = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        let (swapped, cost) = cost::of(|| stretches(&line, &routes, &arrivals, swaps, &mut swap))?;
        let p99 = |times: Vec<f64>| quantile_of(times.into_iter(), 0.99);
        let (value, baseline) = match figure {
            Figure::Pause => (p99(swapped.pauses), None),
            Figure::Delay => {
                let still = stretches(&line, &routes, &arrivals, swaps, &mut |_| {
                    std::thread::sleep(swapped.took);
                    Ok(())
                })?;
                (p99(swapped.delays), Some(p99(still.delays)))
            }
        };
        if repetition > 0 {
            samples.push(Sample { value, baseline, cost: Some(cost) });
        }
    }
    line.close()?;
    rules::sound(&[decoder, first])?;
    Ok(samples)
}

/// So many stretches of time.
struct Stretches {
    /// Milliseconds in which the lane took no batch, for each.
    pauses: Vec<f64>,
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
    let changing = || line.pipeline().status().lanes.iter().map(|lane| lane.changing_nanos).sum::<u64>();
    let all = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut all = Vec::with_capacity(number);
            let mut outcome = Ok(());
            for _ in 0..number {
                std::thread::sleep(AFTERWARDS);
                let before = changing();
                let began = Instant::now();
                outcome = within(&mut deploy);
                if outcome.is_err() {
                    break;
                }
                let ended = Instant::now();
                std::thread::sleep(AFTERWARDS);
                all.push(Stretch { began, ended, pause: Duration::from_nanos(changing() - before) });
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
    let pauses = all.iter().map(|stretch| stretch.pause.as_secs_f64() * 1_000.0).collect();
    Ok(Stretches { pauses, delays, took })
}
