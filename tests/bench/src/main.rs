//! What Tidegate costs, against the least that it could cost.
//!
//! Builds nothing: `make bench` builds the rules and this program, and runs it. It prints a table, a line a bench, and writes
//! `target/bench/results.json`. `ONLY=host-path` runs the benches whose names contain that, and writes only those. All are in [`list`], and each is a file that
//! says what is in its figure and what is out: [`wasm`], [`native`], [`crossing`], [`routing`], [`chain`], [`loading`], [`swap`], [`hostile`],
//! [`poison`], [`host_path`], [`broker`], [`kafka`], [`bridge`], [`postgres`], [`whole_line`], [`spool`],
//! [`api`]. How repetitions become a figure, and when a target holds, is in [`measure`].
//!
//! A figure is only given for right results: what came out is compared with what had to, and a difference fails the bench.
//! A missed target does not: it is in the table. The program fails when a bench could not be measured.

mod api;
mod bridge;
mod broker;
mod chain;
mod clock;
mod consumer;
mod cost;
mod crossing;
mod host_path;
mod hostile;
mod kafka;
mod line;
mod list;
mod loading;
mod measure;
mod mqtt;
mod native;
mod poison;
mod postgres;
mod report;
mod resident;
mod routing;
mod rules;
mod servers;
#[path = "../../src/sins.rs"]
mod sins;
mod spool;
mod swap;
mod timed;
mod wasm;
#[allow(clippy::unwrap_used, clippy::panic, reason = "the suite's own, of words that are ours")]
#[path = "../../src/wat_guest.rs"]
mod wat_guest;
mod whole_line;
mod workload;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::api::{driver, parrot};
use crate::list::Bench;
use crate::measure::Effort;
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
    /// Also what takes a quarter of an hour: the database is down for ten minutes, not for one.
    #[arg(long)]
    full: bool,
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
    #[command(hide = true)]
    Kafka(kafka::Cluster),
    #[command(hide = true)]
    Weigh(loading::Weigh),
    #[command(hide = true)]
    Ask(driver::Ask),
    #[command(hide = true)]
    Parrot(parrot::Parrot),
    #[command(hide = true)]
    Compile(loading::Bounds),
    #[command(hide = true)]
    Validate(loading::Bounds),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Feed(feed)) => feeder::run(feed)?,
        Some(Part::Publish(publish)) => publisher::run(publish)?,
        Some(Part::Kafka(cluster)) => kafka::run(cluster)?,
        Some(Part::Weigh(what)) => loading::weigh(what)?,
        Some(Part::Ask(ask)) => driver::run(ask)?,
        Some(Part::Parrot(parrot)) => parrot::run(parrot)?,
        Some(Part::Compile(bounds)) => return Ok(loading::compile(bounds)),
        Some(Part::Validate(bounds)) => return Ok(loading::validate(bounds)),
        None => run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Arguments) -> Result<()> {
    let effort = Effort { repetitions: arguments.repetitions, quick: arguments.quick, full: arguments.full };
    let all = list::all();
    let targets = report::targets(all.iter().map(|bench| bench.name.as_str()))?;
    let names: Vec<String> = all.iter().map(|bench| bench.name.clone()).collect();
    let chosen: Vec<Bench> = all.into_iter().filter(|bench| bench.name.contains(&arguments.only)).collect();
    ensure!(!chosen.is_empty(), "no bench has {:?} in its name; there are {}", arguments.only, names.join(", "));
    let file = if effort.quick { "target/bench/quick.json" } else { "target/bench/results.json" };
    let path = rules::root()?.join(file);
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    report::print_header();
    for (index, bench) in chosen.iter().enumerate() {
        let progress = Progress::new(&bench.name, index, chosen.len());
        let measured = (bench.measure)(effort, &progress);
        drop(progress);
        match measured {
            Ok(samples) => {
                let target = targets.get(&bench.name).copied();
                let outcome = Outcome::new(&bench.name, bench.unit, (bench.better, bench.compared), target, samples);
                report::print_row(&outcome);
                outcomes.push(outcome);
                // After each: what was measured is not lost when a later one is interrupted.
                report::write(&path, &outcomes)?;
            }
            Err(error) => {
                println!("{:<38} not measured: {error:#}", bench.name);
                failures.push(bench.name.as_str());
            }
        }
    }
    report::print_footer(file, &outcomes);
    if failures.is_empty() { Ok(()) } else { bail!("not measured: {}", failures.join(", ")) }
}
