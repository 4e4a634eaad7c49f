//! What Tidegate costs, against the least that it could cost.
//!
//! Builds nothing: `make bench` builds the rules and this program, and runs it. It prints a table, a line a bench, and writes
//! `target/bench/results.json`. `ONLY=host-path` runs the benches whose names contain that, and writes only those. Each bench is a file that
//! says what is in its figure and what is out: [`wasm`], [`crossing`], [`routing`], [`host_path`], [`broker`], [`postgres`]. How repetitions
//! become a figure, and when a target holds, is in [`measure`].
//!
//! A figure is only given for right results: what came out is compared with what had to, and a difference fails the bench.
//! A missed target does not: it is in the table. The program fails when a bench could not be measured.

mod broker;
mod clock;
mod consumer;
mod crossing;
mod host_path;
mod measure;
mod mqtt;
mod postgres;
mod report;
mod routing;
mod rules;
mod servers;
mod wasm;
mod workload;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::broker::Figure;
use crate::consumer::host::{HostSetup, Letters};
use crate::measure::{Better, Effort, Sample};
use crate::mqtt::wire::{Qos, Version};
use crate::mqtt::{feeder, publisher};
use crate::report::{Outcome, Progress};

/// Measures Tidegate and writes target/bench/results.json.
#[derive(Parser)]
#[command(name = "tidegate-bench")]
struct Arguments {
    /// Run only the benches whose names contain this.
    #[arg(long, env = "ONLY", default_value = "", hide_default_value = true)]
    only: String,
    /// How many repetitions, instead of each bench's own number.
    #[arg(long)]
    repetitions: Option<usize>,
    /// Little of everything, to see that the benches work: figures are not to be quoted, and go to target/bench/quick.json.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program is when a bench starts it again.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Feed(feeder::Feed),
    #[command(hide = true)]
    Publish(publisher::Publish),
}

/// One figure.
struct Bench {
    name: String,
    unit: &'static str,
    better: Better,
    measure: Box<Measure>,
}

type Measure = dyn Fn(Effort, &Progress) -> Result<Vec<Sample>>;

impl Bench {
    fn new(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        measure: impl Fn(Effort, &Progress) -> Result<Vec<Sample>> + 'static,
    ) -> Self {
        Self { name: name.into(), unit, better, measure: Box::new(measure) }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Feed(feed)) => feeder::run(feed),
        Some(Part::Publish(publish)) => publisher::run(publish),
        None => run(&arguments),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let effort = Effort { repetitions: arguments.repetitions, quick: arguments.quick };
    let all = benches();
    let targets = report::targets(all.iter().map(|bench| bench.name.as_str()))?;
    let names: Vec<String> = all.iter().map(|bench| bench.name.clone()).collect();
    let chosen: Vec<Bench> = all.into_iter().filter(|bench| bench.name.contains(&arguments.only)).collect();
    ensure!(!chosen.is_empty(), "no bench has {:?} in its name; there are {}", arguments.only, names.join(", "));
    let file = if effort.quick { "target/bench/quick.json" } else { "target/bench/results.json" };
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    report::print_header();
    for (index, bench) in chosen.iter().enumerate() {
        let progress = Progress::new(&bench.name, index, chosen.len());
        let measured = (bench.measure)(effort, &progress);
        drop(progress);
        match measured {
            Ok(samples) => {
                let target = targets.get(&bench.name).copied();
                let outcome = Outcome::new(&bench.name, bench.unit, bench.better, target, samples);
                report::print_row(&outcome);
                outcomes.push(outcome);
            }
            Err(error) => {
                println!("{:<38} not measured: {error:#}", bench.name);
                failures.push(bench.name.as_str());
            }
        }
    }
    report::write(&rules::root()?.join(file), &outcomes)?;
    report::print_footer(file, &outcomes);
    if failures.is_empty() { Ok(()) } else { bail!("not measured: {}", failures.join(", ")) }
}

/// All of them, in the order they run.
fn benches() -> Vec<Bench> {
    let mut all = Vec::new();
    for rows in [1, 10, 100, 1_000] {
        all.push(Bench::new(format!("wasm/{}", of(rows)), "ns/row", Better::Lower, move |effort, progress| {
            wasm::measure(rows, effort, progress)
        }));
    }
    all.push(Bench::new("crossing/fixed", "ns/call", Better::Lower, |effort, progress| {
        crossing::per_call(0, effort, progress)
    }));
    for rows in [1, 10, 100, 1_000] {
        all.push(Bench::new(format!("crossing/{}", of(rows)), "ns/row", Better::Lower, move |effort, progress| {
            crossing::per_row(rows, effort, progress)
        }));
    }
    for rows in [10, 100, 1_000] {
        let name = format!("routing/half-match-{}", of(rows));
        all.push(Bench::new(name, "ns/row·rule", Better::Lower, move |effort, progress| {
            routing::measure(rows, effort, progress)
        }));
    }
    all.extend(host_paths());
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let setup = HostSetup { version: Version::V3, qos, batch_rows: None, dead_letters: Letters::Discarded };
        let name = format!("mosquitto/qos-{}", qos.level());
        let cpu_name = format!("{name}-cpu");
        all.push(Bench::new(name, "msgs/s", Better::Higher, move |effort, progress| {
            broker::measure(setup, Figure::Rate, effort, progress)
        }));
        all.push(Bench::new(cpu_name, "ns CPU/msg", Better::Lower, move |effort, progress| {
            broker::measure(setup, Figure::Cpu, effort, progress)
        }));
    }
    all.push(Bench::new("postgres/binary-copy", "points/s", Better::Higher, postgres::measure));
    all
}

fn host_paths() -> Vec<Bench> {
    let bench = |name: String, setup: HostSetup| {
        Bench::new(name, "ns CPU/msg", Better::Lower, move |effort, progress| {
            host_path::measure(setup, effort, progress)
        })
    };
    let mut all = Vec::new();
    for version in [Version::V3, Version::V5] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let setup = HostSetup { version, qos, batch_rows: None, dead_letters: Letters::Discarded };
            all.push(bench(format!("host-path/mqtt-{}-qos-{}", version.as_str(), qos.level()), setup));
        }
    }
    let normal =
        HostSetup { version: Version::V3, qos: Qos::AtLeastOnce, batch_rows: None, dead_letters: Letters::Discarded };
    for rows in [1, 10, 100] {
        let setup = HostSetup { batch_rows: Some(rows), ..normal };
        all.push(bench(format!("host-path/mqtt-3.1.1-qos-1-{}", of(rows)), setup));
    }
    let setup = HostSetup { dead_letters: Letters::Kept, ..normal };
    all.push(bench("host-path/mqtt-3.1.1-qos-1-sqlite".to_owned(), setup));
    all
}

fn of(rows: usize) -> String {
    if rows == 1 { "1-row".to_owned() } else { format!("{rows}-rows") }
}
