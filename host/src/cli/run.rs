//! `tidegate run`: the host, until it is told to end.

use std::path::PathBuf;
use std::process::ExitCode;

use tidegate_config::{Config, ProcessEnv};
use tidegate_pipeline::Drained;
use tokio::runtime::Runtime;

use crate::cli::shutdown_signal::ShutdownSignal;
use crate::wiring::Host;

/// Run the host with a configuration file.
///
/// It goes on until SIGTERM or Ctrl-C, then drains: sources take no more, what was taken is stored, acknowledged, and
/// only then connections close. A second Ctrl-C ends it where it stands; what was not acknowledged comes again.
///
/// Example: tidegate run --config tidegate.toml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; `tidegate check --print-example` shows one.
    #[arg(long, default_value = "tidegate.toml")]
    config: PathBuf,
}

/// Exit code 0: drained completely. 3: the shutdown's time was over first; what was left is with its brokers.
pub fn run(args: &Args, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, &ProcessEnv)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut signal = runtime.block_on(async { ShutdownSignal::listen() })?;
    let mut host = Host::start(&config, runtime.handle())?;
    runtime.block_on(async {
        host.started_or(signal.told()).await?;
        signal.told().await;
        let (drained, status) = host.shutdown().await;
        let m = status.messages;
        tracing::info!(
            received = m.received,
            decoded = m.decoded,
            messages_stored = m.stored,
            filtered = m.filtered,
            dead_lettered = m.dead_lettered,
            dropped = m.dropped,
            in_flight = m.in_flight,
            returned = m.returned,
            repeated = m.repeated,
            stored = status.pipeline.points.stored,
            "ended"
        );
        Ok(match drained {
            Drained::Completely => ExitCode::SUCCESS,
            Drained::InPart => ExitCode::from(3),
        })
    })
}
