//! `tidegate demo`: everything at once on one machine: broker, plant, rules, database.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use tidegate_admin::Status;
use tidegate_config::{Config, ProcessEnv};
use tidegate_pipeline::Drained;
use tokio::runtime::Runtime;

use crate::cli::shutdown_signal::ShutdownSignal;
use crate::demo::broker::EmbeddedBroker;
use crate::demo::house::House;
use crate::demo::plant::{AlertWatch, Plant};
use crate::demo::screen::{Picture, Screen};
use crate::demo::summary::Summary;
use crate::wiring::Host;

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// How long the broker may take to hand over what the plant has sent, at the end.
const LAST_MESSAGES: Duration = Duration::from_secs(5);

/// See it work: an embedded broker, a simulated plant with planted faults, the rule library, a SQLite database.
///
/// Nothing has to be set up, nothing leaves this machine. Ctrl-C drains and prints a summary.
///
/// Examples:
///   tidegate demo
///   tidegate demo --dir ./demo            keep the database, the rules and the configuration
///   tidegate demo --for 20s --json        end by itself, one JSON object on the last line
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// End by itself after this long, as in 20s or 5m.
    #[arg(long = "for", value_parser = crate::cli::time::length, value_name = "TIME")]
    time: Option<Duration>,
    /// Print the summary as one JSON object on the last line of standard output.
    #[arg(long)]
    json: bool,
    /// Where to keep everything; a temporary directory, gone at the end, if not given.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Messages the plant sends a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// The port of the embedded broker (MQTT 3.1.1; MQTT 5 on the next one). A free one if not given.
    #[arg(long)]
    port: Option<u16>,
    /// The port of the HTTP interface. A free one if not given.
    #[arg(long)]
    http: Option<u16>,
    /// A line a second in place of the live view.
    #[arg(long)]
    plain: bool,
}

/// Exit code 0 if all that was received was settled.
pub fn run(args: &Args, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let temporary;
    let directory: &Path = match &args.dir {
        Some(directory) => {
            std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
            directory
        }
        None => {
            temporary = tempfile::tempdir().context("there is no place for temporary files; give one by --dir")?;
            temporary.path()
        }
    };
    let mut signal = runtime.block_on(async { ShutdownSignal::listen() })?;
    let broker = EmbeddedBroker::start(args.port)?;
    let house = House::furnish(directory, &broker, args.http.unwrap_or(0))?;
    let config = Config::load(&house.config, &ProcessEnv)?;
    let mut host = Host::start(&config, runtime.handle())?;
    runtime.block_on(host.started_or(signal.told()))?;
    let watch = AlertWatch::start(broker.v4, runtime.handle());
    let plant = Plant::start(broker.v4, args.rate, runtime.handle());
    let began = Instant::now();
    let places = [
        format!(
            "broker    mqtt://{} (MQTT 5: {})   try: mosquitto_sub -p {} -t 'alerts/#'",
            broker.v4,
            broker.v5,
            broker.v4.port()
        ),
        format!("API       http://{}/api/v1/status   /health   /metrics", host.address()),
        format!("rules     {}   drop a .wasm or .toml in", directory.join("rules.d").display()),
        format!("database  {}", house.database.display()),
    ];
    watch_it(args, &signal, &host, &watch, &places, began)?;

    plant.stop();
    eprintln!("draining …");
    let until = Instant::now() + LAST_MESSAGES;
    let arrived = |status: &Status| status.messages.received >= plant.sent() && status.messages.in_flight == 0;
    while !arrived(&host.status()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let seconds = began.elapsed().as_secs_f64();
    let (drained, status) = runtime.block_on(host.shutdown());
    // What the sink has published reaches this subscriber a moment later.
    let published = status.pipeline.sinks.iter().find(|sink| sink.name == "alerts").map_or(0, |sink| sink.alerts);
    let until = Instant::now() + Duration::from_secs(2);
    while watch.seen() < published && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (raised, cleared) = watch.counts();
    let summary = Summary::new(&status, raised, cleared, seconds);
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}");
        if args.dir.is_some() {
            println!("kept in        {}", directory.display());
        }
    }
    Ok(if drained == Drained::Completely { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Shows what happens until it is time to end.
fn watch_it(
    args: &Args,
    signal: &ShutdownSignal,
    host: &Host,
    watch: &AlertWatch,
    places: &[String],
    began: Instant,
) -> anyhow::Result<()> {
    let live = !args.plain && !args.json && std::io::stdout().is_terminal();
    let mut screen =
        if live { Some(Screen::open().context("the terminal cannot be used; try --plain")?) } else { None };
    let mut rates = Rates::new(&host.status());
    if !live {
        places.iter().for_each(|place| eprintln!("{place}"));
    }
    let mut say_at = Instant::now() + Duration::from_secs(1);
    while !signal.is_told() && args.time.is_none_or(|time| began.elapsed() < time) {
        let status = host.status();
        let (msgs_per_s, points_per_s) = rates.update(&status);
        let (alerts, counts) = (watch.latest(), watch.counts());
        if let Some(screen) = &mut screen {
            let picture = Picture { status: &status, msgs_per_s, points_per_s, alerts: &alerts, counts, places };
            if screen.show(&picture, FRAME)? {
                break;
            }
            continue;
        }
        if Instant::now() >= say_at {
            say_at += Duration::from_secs(1);
            let m = &status.messages;
            eprintln!(
                "{:>4.0} s  {msgs_per_s:>7.0} msgs/s  {:>9} received  {:>9} stored  {:>6} dead letters  {:>4} in flight  alerts {} raised, {} cleared",
                began.elapsed().as_secs_f64(),
                m.received,
                status.pipeline.points.stored,
                m.dead_lettered,
                m.in_flight,
                counts.0,
                counts.1,
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Rates of the last second or so.
struct Rates {
    samples: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Rates {
    fn new(status: &Status) -> Self {
        let mut rates = Self { samples: std::collections::VecDeque::new() };
        rates.update(status);
        rates
    }

    /// Messages and points a second, over the last two seconds.
    fn update(&mut self, status: &Status) -> (f64, f64) {
        let now = (Instant::now(), status.messages.received, status.pipeline.points.stored);
        self.samples.push_back(now);
        while self.samples.len() > 2 && self.samples[0].0.elapsed() > Duration::from_secs(2) {
            self.samples.pop_front();
        }
        let first = self.samples[0];
        let seconds = (now.0 - first.0).as_secs_f64().max(0.001);
        ((now.1 - first.1.min(now.1)) as f64 / seconds, (now.2 - first.2.min(now.2)) as f64 / seconds)
    }
}
