//! `tidegate replay`: a part of a Kafka topic once more, through the rules into a sink.

mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use tidegate_config::{Config, KafkaSource, Name, ProcessEnv, SourceSettings};
use tidegate_sources::{Bound, KafkaRange, sole_topic};
use tokio::runtime::Runtime;

use crate::cli::replay::report::{End, Report, progress_line, warning_of_deleted};
use crate::cli::shutdown_signal::ShutdownSignal;
use crate::wiring::backfill::{Alerts, Backfill, Target};

/// How often progress is told.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Read a part of a Kafka topic once more, through the rules into a sink.
///
/// The range is read beside a host that may be running: without a consumer group, so that no offset
/// moves. Records are understood as the source says (`topic_from`, `time_from`, `client`), and go through the rules
/// that are in the rules directory now, which begin without any state. Points go to the sink; commands
/// are never sent, and alerts only with --alerts. What no rule can use goes to the dead letters of `data_dir`.
/// A reading without a time of its own is of the time of its record: the timestamp, or what `time_from` names.
///
/// A point that the sink has already is there twice afterwards, unless the sink knows it again (a TimescaleDB
/// sink with dedupe = true). So a sink with exactly_once is refused: it would break its promise. When a replay is
/// stopped before its end, it says how to go on.
///
/// What of the range the brokers have deleted is told before it begins, and in the account (`deleted`; null where a
/// range by time begins with the oldest record, and nobody knows).
///
/// Exit code 0: all of the range that is there is stored. 3: stopped before its end. 1: it could not be read or written.
///
/// Examples:
///   tidegate replay --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z --sink db
///   tidegate replay --source fleet --topic raw --from offset:120000 --sink db --json
///   tidegate replay --from earliest --dry-run          what the rules would make of all there is
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "tidegate.toml")]
    config: PathBuf,
    /// The Kafka source whose cluster and settings are used; not needed where there is one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The Kafka topic; not needed where the source has one.
    #[arg(long)]
    topic: Option<String>,
    /// The first that is read: earliest, latest, offset:<number>, or a time in UTC (by the records' timestamps).
    #[arg(long, value_name = "PLACE")]
    from: Bound,
    /// The first that is not read any more; what is produced after the start never is.
    #[arg(long, value_name = "PLACE", default_value = "latest")]
    to: Bound,
    /// The sink to write to, which may not be one with exactly_once; not needed with --dry-run.
    #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
    sink: Option<String>,
    /// Write alerts, too: rules raise them as if all this happened now.
    #[arg(long)]
    alerts: bool,
    /// Read and run the rules, but store nothing.
    #[arg(long, conflicts_with_all = ["sink", "alerts"])]
    dry_run: bool,
    /// Go on where an earlier replay was stopped: <partition>:<offset>,… as it said then.
    #[arg(long, value_name = "OFFSETS", value_parser = offsets)]
    resume: Option<BTreeMap<i32, i64>>,
    /// The account at the end as a JSON object.
    #[arg(long)]
    json: bool,
}

/// Exit codes as in the help.
pub fn run(args: &Args, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, &ProcessEnv)?;
    let (name, settings) = source(&config, args.source.as_deref())?;
    let topic = topic(name, settings, args.topic.as_deref())?;
    let target = match &args.sink {
        None => Target::Nowhere,
        Some(wanted) => {
            let found = config.sinks.iter().find(|(name, _)| name.as_str() == wanted);
            let (name, sink) =
                found.with_context(|| format!("there is no sink {wanted}; {}", known(&config.sinks)))?;
            Target::sink(name, sink, if args.alerts { Alerts::Written } else { Alerts::LeftOut })?
        }
    };
    let nothing = BTreeMap::new();
    let resume = args.resume.as_ref().unwrap_or(&nothing);
    let range = KafkaRange::find(settings.clone(), topic, (args.from, args.to), resume)?;
    let progress = range.progress();
    eprintln!("{topic}: {} records or fewer in {} partitions", progress.total(), progress.stretches().len());
    progress.stretches().iter().filter_map(warning_of_deleted).for_each(|warning| eprintln!("{warning}"));
    let mut signal = runtime.block_on(async { ShutdownSignal::listen() })?;
    let backfill = Backfill::start(&config, runtime.handle(), name, range, &target)?;
    let began = Instant::now();
    runtime.block_on(async {
        let mut tell = tokio::time::interval_at(tokio::time::Instant::now() + TELL_EVERY, TELL_EVERY);
        let mut settled = 0;
        let end = loop {
            tokio::select! {
                ended = progress.ended() => break ended.map_or_else(End::Failed, |()| End::Complete),
                () = signal.told() => break End::Stopped,
                _ = tell.tick() => {
                    let now = progress.settled();
                    let rate = (now - settled) as f64 / TELL_EVERY.as_secs_f64();
                    settled = now;
                    eprintln!("{}", progress_line(&progress, &backfill.status(), rate));
                }
            }
        };
        let (_, status) = backfill.end().await;
        let report = Report::new(topic, &progress, &status, began.elapsed(), end);
        report.print(args.json)?;
        Ok(report.exit_code())
    })
}

fn source<'a>(config: &'a Config, wanted: Option<&str>) -> anyhow::Result<(&'a Name, &'a KafkaSource)> {
    let all = config.sources.iter().filter_map(|(name, source)| match source {
        SourceSettings::Kafka(settings) => Some((name, settings)),
        SourceSettings::Mqtt(_) => None,
    });
    let all: Vec<_> = all.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str())).collect();
    match (&all[..], wanted) {
        ([one], _) => Ok(*one),
        ([], Some(wanted)) => bail!("there is no [sources.kafka.{wanted}]"),
        ([], None) => bail!("there is no [sources.kafka.…] that says which cluster to read"),
        _ => bail!("there are several Kafka sources: choose one with --source"),
    }
}

fn topic<'a>(name: &Name, settings: &'a KafkaSource, wanted: Option<&'a str>) -> anyhow::Result<&'a str> {
    let sole = || sole_topic(settings).map_err(|why| anyhow!("the source {name}: {why} with --topic"));
    wanted.map_or_else(sole, Ok)
}

fn known<T>(sinks: &BTreeMap<Name, T>) -> String {
    let names: Vec<&str> = sinks.keys().map(Name::as_str).collect();
    format!("known here: {}", names.join(", "))
}

fn offsets(text: &str) -> Result<BTreeMap<i32, i64>, String> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok().filter(|offset| *offset >= 0)?))
    };
    text.split(',')
        .map(|part| pair(part).ok_or_else(|| format!("`{part}` is no <partition>:<offset>, as in 0:1234")))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: what a stopped replay says is understood, and nothing else.
    #[test]
    fn offsets_to_go_on_with() {
        assert_eq!(offsets("0:12,3:0"), Ok(BTreeMap::from([(0, 12), (3, 0)])));
        for wrong in ["", "0", "0:-1", "0:1,", "a:1"] {
            assert!(offsets(wrong).is_err(), "{wrong}");
        }
    }
}
