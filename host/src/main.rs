//! Tidegate: telemetry in from MQTT and Kafka, through WebAssembly rules, out to a database and as alerts.
//!
//! This file tells the whole story; `wiring.rs` puts the parts together. `ARCHITECTURE.md` beside this folder is the map.

mod cli;
mod demo;
mod simulator;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use tidegate_telemetry::LogFormat;

/// WebAssembly rules for telemetry at the edge.
///
/// MQTT and Kafka in; rules dropped into a directory decode, transform and watch; points go to SQLite or TimescaleDB, alerts
/// back to MQTT. No message is lost silently, and a bad rule hurts nobody.
///
/// First time here: tidegate demo
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true)]
struct Tidegate {
    #[command(subcommand)]
    command: Command,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(cli::run::Args),
    Check(cli::check::Args),
    Demo(cli::demo::Args),
    Load(cli::load::Args),
    DeadLetters(cli::dead_letters::Args),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Log {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn main() -> ExitCode {
    let arguments = Tidegate::parse();
    let format = match arguments.log {
        Log::Text => LogFormat::Text,
        Log::Json => LogFormat::Json,
    };
    let filter = match arguments.command {
        Command::Run(_) => "info",
        // The demo shows what happens itself; and its broker takes every client that hangs up for an error.
        _ => "warn,rumqttd=off",
    };
    let done = tidegate_telemetry::init(format, filter).map_err(Into::into).and_then(|()| execute(arguments.command));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    // The one TLS implementation of this process; a second call would be a bug of ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Run(arguments) => cli::run::run(&arguments, &runtime),
        Command::Check(arguments) => runtime.block_on(cli::check::run(arguments, &wiring::inspect)),
        Command::Demo(arguments) => cli::demo::run(&arguments, &runtime),
        Command::DeadLetters(arguments) => cli::dead_letters::run(&arguments),
        Command::Load(arguments) => runtime.block_on(cli::load::run(arguments)),
    }
}
