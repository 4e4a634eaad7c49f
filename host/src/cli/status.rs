//! `tidegate status`: how running hosts are, a line each, or one part of them in full.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::api::{Column, Nodes, Table, field};
use crate::cli::print::{Reader, print};

/// Show how running hosts are, a line each, and what is not as it should be; or one part of them, as `tidegate status sinks`. `--json` shows all they say.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// This part of them, in full.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Show it again and again until it is ended: every 2 seconds, or as often as is said.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = every)]
    watch: Option<Duration>,
}

/// Hosts are asked no more often.
const LEAST_EVERY: Duration = Duration::from_millis(200);
/// Clears a terminal, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

fn every(text: &str) -> Result<Duration, String> {
    let every = crate::cli::time::length(text)?;
    if every < LEAST_EVERY { Err(format!("hosts are asked every {LEAST_EVERY:?} at most")) } else { Ok(every) }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    /// Where messages come from.
    Sources,
    /// Where points and alerts go.
    Sinks,
    /// What waits on disk for sinks.
    Spools,
    /// The threads that run rules.
    Lanes,
    /// How the messages of each source ended.
    Ledger,
}

/// Exit code 1: a host refused, or could not be reached. While it is watched that is shown, and hosts are asked again.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(every) = args.watch else { return show(args).map(|(code, _)| code) };
    let clears = std::io::stdout().is_terminal() && !args.nodes.json();
    loop {
        if clears {
            print(CLEAR)?;
        }
        if let (_, Reader::Gone) = show(args)? {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(every);
    }
}

fn show(args: &Args) -> anyhow::Result<(ExitCode, Reader)> {
    let (nodes, json) = (&args.nodes, args.nodes.json());
    let one = |table: Table, path: &str| nodes.look(&[table], |client| client.get(path));
    match args.part {
        None => nodes.look(&[hosts(), problems()], |client| client.get("status")),
        Some(Part::Sources) => one(sources(), "sources"),
        Some(Part::Sinks) => one(sinks(), "sinks"),
        Some(Part::Spools) => one(spools(), "spools"),
        Some(Part::Lanes) => one(lanes(), "lanes"),
        Some(Part::Ledger) => nodes.look(&[ledger()], |client| {
            let ledger = client.get("ledger")?;
            Ok(if json { ledger } else { by_source(&ledger) })
        }),
    }
}

fn hosts() -> Table {
    let columns = vec![
        Column("HEALTH", |v| field(v, "/health/status")),
        Column("VERSION", |v| field(v, "/version")),
        Column("UP", |v| format!("{}s", v["uptime_s"].as_f64().unwrap_or(0.0) as u64)),
        Column("RECEIVED", |v| field(v, "/messages/received")),
        Column("STORED", |v| field(v, "/points/stored")),
        Column("DEAD LETTERS", |v| field(v, "/dead_letters/kept")),
        Column("IN FLIGHT", |v| field(v, "/messages/in_flight")),
        Column("SOURCES", |v| of(v, "sources", |source| source["up"] == true)),
        Column("SINKS", |v| of(v, "sinks", |sink| sink["down"].is_null())),
        Column("RULES", |v| of(v, "rules", |rule| rule["state"] == "serving")),
        Column("ALERTS", |v| field(v, "/alerts_standing")),
    ];
    Table::new("", columns, "nothing")
}

/// What is not as it should be, a line each.
fn problems() -> Table {
    Table::new("/health/reasons", vec![Column("PROBLEM", |v| field(v, ""))], "")
}

fn sources() -> Table {
    let columns = vec![
        Column("SOURCE", |v| field(v, "/name")),
        Column("UP", |v| if v["up"] == true { "yes" } else { "no" }.to_owned()),
        Column("RECEIVED", |v| field(v, "/messages/received")),
        Column("IN FLIGHT", |v| field(v, "/messages/in_flight")),
        Column("BEHIND", behind),
        Column("UNREAD", unread),
        Column("FAILURES", |v| field(v, "/failures")),
        Column("WHY DOWN", |v| field(v, "/down")),
    ];
    Table::new("", columns, "no sources")
}

/// The partitions that it has and does not read; why is in `--json`.
fn unread(source: &Value) -> String {
    let held = source["unread"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |held: &Value| format!("{}/{}", field(held, "/topic"), field(held, "/partition"));
    let first: Vec<String> = held.iter().take(3).map(named).collect();
    match held.len() {
        0 => "-".to_owned(),
        all if all > first.len() => format!("{} and {} more", first.join(" "), all - first.len()),
        _ => first.join(" "),
    }
}

/// By how many messages in all; `-` where nobody can tell.
fn behind(source: &Value) -> String {
    let lags = source["lag"].as_array().map(Vec::as_slice).unwrap_or_default();
    let known: Vec<u64> = lags.iter().filter_map(|lag| lag["messages"].as_u64()).collect();
    if known.is_empty() { "-".to_owned() } else { known.iter().sum::<u64>().to_string() }
}

fn sinks() -> Table {
    let columns = vec![
        Column("SINK", |v| field(v, "/name")),
        Column("POINTS", |v| field(v, "/points")),
        Column("ALERTS", |v| field(v, "/alerts")),
        Column("MESSAGES", |v| field(v, "/messages")),
        Column("REJECTED", |v| field(v, "/rejected")),
        Column("RETRIES", |v| field(v, "/retries")),
        Column("IN FLIGHT", |v| field(v, "/in_flight")),
        Column("IN SPOOL", |v| field(v, "/spool/rows")),
        Column("WHY DOWN", |v| field(v, "/down")),
    ];
    Table::new("", columns, "no sinks")
}

/// How the spools are, as hosts say.
pub fn spools() -> Table {
    let columns = vec![
        Column("SINK", |v| field(v, "/sink")),
        Column("ROWS", |v| field(v, "/rows")),
        Column("BYTES", |v| field(v, "/bytes")),
        Column("MAX BYTES", |v| field(v, "/max_bytes")),
        Column("DRAINED", |v| field(v, "/drained")),
        Column("DROPPED", |v| field(v, "/dropped")),
        Column("DAMAGED", |v| field(v, "/damaged_records")),
        Column("UNUSABLE", |v| field(v, "/unusable")),
    ];
    Table::new("", columns, "no sink has a spool")
}

fn lanes() -> Table {
    let columns = vec![
        Column("KIND", |v| field(v, "/kind")),
        Column("RULES", |v| field(v, "/rules")),
        Column("BATCHES", |v| field(v, "/batches")),
        Column("ROWS", |v| field(v, "/rows")),
        Column("BUSY", |v| format!("{:.1}s", v["busy_nanos"].as_f64().unwrap_or(0.0) / 1e9)),
        Column("WAITING", |v| field(v, "/waiting")),
        Column("MEMORY", |v| field(v, "/memory_bytes")),
    ];
    Table::new("", columns, "no lanes")
}

fn ledger() -> Table {
    let columns = vec![
        Column("SOURCE", |v| field(v, "/source")),
        Column("RECEIVED", |v| field(v, "/received")),
        Column("DECODED", |v| field(v, "/decoded")),
        Column("STORED", |v| field(v, "/stored")),
        Column("FILTERED", |v| field(v, "/filtered")),
        Column("DEAD LETTERED", |v| field(v, "/dead_lettered")),
        Column("DROPPED", |v| field(v, "/dropped")),
        Column("IN FLIGHT", |v| field(v, "/in_flight")),
        Column("RETURNED", |v| field(v, "/returned")),
        Column("WRONG", |v| field(v, "/wrong")),
    ];
    Table::new("", columns, "no source has an account")
}

/// An account a row, each with what was found wrong with it.
fn by_source(ledger: &Value) -> Value {
    let wrong: Vec<&str> = ledger["wrong"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let row = |(source, account): (&String, &Value)| {
        let mut row = account.clone();
        row["source"] = source.as_str().into();
        let said = format!("source {source}:");
        row["wrong"] = wrong.iter().find(|finding| finding.starts_with(&said)).copied().into();
        row
    };
    ledger["by_source"].as_object().into_iter().flatten().map(row).collect()
}

/// How many of a list are as they should be: `2/3`.
fn of(status: &Value, list: &str, well: impl Fn(&Value) -> bool) -> String {
    let all = status[list].as_array().map(Vec::as_slice).unwrap_or_default();
    format!("{}/{}", all.iter().filter(|one| well(one)).count(), all.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: an account is a row under its source's name, and what is wrong with one stands beside that one alone.
    #[test]
    fn accounts() {
        let ledger = json!({
            "by_source": { "a": { "received": 2 }, "ab": { "received": 3 } },
            "wrong": ["source ab: its ledger does not balance"],
        });
        let rows = by_source(&ledger);
        assert_eq!(rows[0], json!({ "source": "a", "received": 2, "wrong": null }));
        assert_eq!(rows[1]["wrong"], ledger["wrong"][0]);
    }
}
