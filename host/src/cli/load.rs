//! `tidegate load`: a simulated plant and fleet against a real broker, at a rate that does not wait for it.

mod connection;
mod pace;
mod report;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rumqttc::QoS;
use tokio::time::Instant;

use crate::cli::load::connection::{Broker, Connections, Traffic};
use crate::cli::load::pace::{Pace, run_at};
use crate::cli::load::report::{Progress, Report};
use crate::cli::load::values::{PlantSize, plant_size, qos, rate, share};
use crate::simulator::{Faults, Plan, Simulator};

/// More would not fit into memory of a small machine.
const MOST_DEVICES: u64 = 5_000_000;
/// How long what is on the way may take at the end.
const LAST_ACKS: Duration = Duration::from_secs(10);

/// Send simulated telemetry to an MQTT broker, to see what it and Tidegate behind it can take.
///
/// The rate is open-loop: messages are due by the clock, whether or not the broker has acknowledged
/// the ones before. When it cannot take them that fast, the load falls behind its schedule and says
/// so. Without --users and --plant it is a fleet of 30 users with 3 devices each.
///
/// Exit code 0: the broker has all that was sent. 1: it has not, or there is none.
///
/// Examples:
///   tidegate load                                      90 devices, 200 messages a second
///   tidegate load --plant 4x10x25 --rate 5000 --for 1m       1,000 tags, 5 readings a second
///   tidegate load --rate 50000 --connections 4 --qos 0 --for 30s --json         for scripts
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The broker: mqtt://host:1883, or mqtts://host:8883 for TLS.
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    url: String,
    /// Users of a fleet: JSON objects on users/u<n>/devices/d<n>/telemetry.
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// Devices of each user.
    #[arg(long, value_name = "N", default_value_t = 3)]
    devices_per_user: u32,
    /// Lines, PLCs of each and tags of each, as in 2x4x10: readings on dev/line<n>/plc<n>/<tag>.
    #[arg(long, value_name = "LINES×PLCS×TAGS", value_parser = plant_size)]
    plant: Option<PlantSize>,
    /// Messages a second, over all devices and connections.
    #[arg(long, value_name = "MSGS", default_value = "200", value_parser = rate)]
    rate: f64,
    /// End after this long, as in 30s or 5m; else with Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = crate::cli::time::length)]
    time: Option<Duration>,
    /// Quality of service: 0 (at most once) or 1 (at least once).
    #[arg(long, default_value = "1", value_parser = qos)]
    qos: QoS,
    /// Connections to the broker. A topic always takes the same one, so that its order is kept.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// The share of messages that are garbage, as in 1% or 0.01.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    garbage: f64,
    /// Only sound devices: no overheating, silence, stuck sensors, bad quality or flat batteries.
    #[arg(long)]
    no_faults: bool,
    /// The same seed sends the same values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// User name for the broker.
    #[arg(long)]
    username: Option<String>,
    /// The environment variable that holds the password for the broker.
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
    /// PEM file of the certificates to trust, for mqtts://.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    ca_file: PathBuf,
    /// Print the result as one JSON object on the last line of standard output.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn plan(&self) -> anyhow::Result<Plan> {
        let users = self.users.unwrap_or(if self.plant.is_some() { 0 } else { 30 });
        let PlantSize(lines, plcs, tags) = self.plant.unwrap_or(PlantSize(0, 0, 0));
        let plant = [lines, plcs, tags].into_iter().map(u64::from).fold(1, u64::saturating_mul);
        let devices = plant.saturating_add(u64::from(users) * u64::from(self.devices_per_user));
        ensure!(devices > 0, "there is nothing to simulate; give --users and --devices-per-user, or --plant");
        ensure!(devices <= MOST_DEVICES, "{devices} devices are too many to simulate; choose up to {MOST_DEVICES}");
        Ok(Plan {
            users,
            devices_per_user: self.devices_per_user,
            plant: (lines, plcs, tags),
            garbage_share: self.garbage,
            faults: if self.no_faults { Faults::None } else { Faults::Planted },
            seed: self.seed,
        })
    }

    fn broker(&self) -> anyhow::Result<Broker> {
        let password = match &self.password_env {
            None => None,
            Some(variable) => Some(
                std::env::var(variable).with_context(|| format!("the environment variable {variable} is not set"))?,
            ),
        };
        Broker::new(&self.url, self.username.clone(), password, &self.ca_file)
    }
}

/// Exit code 0: all that was sent has arrived at the broker. 1: some has not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let simulator = Simulator::new(args.plan()?);
    let devices = simulator.devices();
    let traffic = Arc::new(Traffic::default());
    let connections = Connections::open(&args.broker()?, args.connections, args.qos, &traffic).await?;
    eprintln!(
        "{devices} devices to {}: {} messages a second, by {} connection(s)",
        connections.place(),
        args.rate,
        args.connections
    );

    let began = Instant::now();
    let end = args
        .time
        .map(|time| began.checked_add(time).context("--for is longer than a clock can count"))
        .transpose()?;
    let pace = Pace { began, rate: args.rate, end };
    let progress = Progress::new(pace, args.qos, traffic.clone());
    let mut pacer =
        tidegate_telemetry::spawn("load", run_at(pace, simulator, connections.senders(), traffic.clone()));
    tokio::select! {
        ended = &mut pacer => ended.context("the load ended by a mistake of its own")?,
        () = progress.print_each_second() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    pacer.abort();
    let ending = progress.ending();
    connections.close(LAST_ACKS).await;

    let report = Report::new(&progress, &ending, devices);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
