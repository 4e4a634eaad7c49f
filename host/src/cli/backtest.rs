//! `tidegate backtest`: what a rule, or a candidate, would have done with what was.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tidegate_config::{Name, RuleFile};
use tidegate_model::TopicFilter;
use tidegate_sinks::Rfc3339;

use crate::cli::api::{Client, Column, Nodes, Refusal, Request, Table, Telling, field, follow, in_commands};
use crate::cli::jobs::Jobs;
use crate::cli::modules::{give_to_try, manifest};
use crate::cli::shutdown_signal::INTERRUPTED;
use crate::cli::time::{shown, time_us};

/// The largest file: as much as a host takes.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The most alerts shown to people; `--json` has more.
const MAX_ALERTS: usize = 20;

/// Run a rule, or a candidate for one, over what was: nothing is done, all it would have done is counted.
///
/// The rows come from the host's database, from what a Kafka source reads, or from a file: points for a processor, messages for a decoder. What a
/// database has are the points that came out of all rules, in the order they were stored (SQLite) or measured (TimescaleDB).
///
/// Ctrl-C ends it at the host as well, and shows what it has found so far; the exit code is 130 then. With --show it goes on.
///
/// Examples:
///   tidegate backtest overheat --from 7d
///   tidegate backtest overheat --from 2026-11-01 --to 2026-11-08 --topic "dev/line1/#" --config stricter.toml
///   tidegate backtest overheat --module new-threshold.wasm --file points.ndjson --json
///   tidegate backtest overheat --kafka fleet --from 2h
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// The rule, as it is; or a name for what --definition says.
    #[arg(value_parser = name)]
    rule: Option<Name>,
    /// NDJSON with points {"topic", "time_us", "value"} or messages {"topic", "payload", "received_us"}, instead of the database.
    #[arg(long, value_name = "FILE", conflicts_with = "sink")]
    file: Option<PathBuf>,
    /// Read what this Kafka source reads instead: its messages, decoded by the rules that serve now where the rule is no decoder.
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["file", "sink"])]
    kafka: Option<String>,
    /// Of the topics of that source, which one; not needed where it has one.
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    kafka_topic: Option<String>,
    /// From then on: an age as in 90s, 2h or 7d, or a time as in 2026-11-01 or 2026-11-01T12:00:00Z (UTC). With --kafka also earliest, latest or
    /// offset:<number>.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before then, written as for --from.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only topics that match this MQTT topic filter.
    #[arg(long, value_name = "FILTER")]
    topic: Option<TopicFilter>,
    /// The sink whose database is read, if several have one.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// A candidate: the same rule with another module, a file, which the host writes nowhere, or the sha256 of one that is there.
    #[arg(long, value_name = "WASM|SHA256")]
    module: Option<String>,
    /// A candidate: the same rule with the configuration in this file, JSON or TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A candidate: what a rule's file would say.
    #[arg(long, value_name = "FILE")]
    definition: Option<PathBuf>,
    /// List the backtests of the last hour instead.
    #[arg(long, conflicts_with_all = ["rule", "cancel", "show"])]
    list: bool,
    /// Wait for the end of this backtest, and show what it has found.
    #[arg(long, value_name = "ID", conflicts_with_all = ["rule", "cancel"])]
    show: Option<u64>,
    /// End this backtest instead.
    #[arg(long, value_name = "ID", conflicts_with = "rule")]
    cancel: Option<u64>,
}

fn name(text: &str) -> Result<Name, tidegate_config::NameError> {
    text.parse()
}

/// What is asked of each host, read from files once.
struct Asked {
    rule: Option<Name>,
    body: Map<String, Value>,
    rows: Option<Vec<u8>>,
    module: Option<Module>,
    config: Option<Value>,
    definition: Option<Value>,
}

enum Module {
    /// Uploaded first, with what vouches for it.
    Bytes(Vec<u8>, Option<Vec<u8>>),
    /// There already.
    Sha256(String),
}

/// Exit code 1: a host refused or could not be reached, or the backtest failed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return args.nodes.ask(&summary(), |client| client.get("backtests"));
    }
    if let Some(id) = args.cancel {
        return args.nodes.ask(&Table::nothing_but("ended"), |client| {
            client.send(&Request { method: "DELETE", path: format!("backtests/{id}"), body: None, if_match: None })
        });
    }
    let asked = if args.show.is_none() { Some((Asked::of(args)?, Jobs::listen()?)) } else { None };
    let failed = AtomicBool::new(false);
    let telling = args.nodes.telling();
    let code = args.nodes.ask_for(&[summary(), bad_lines(), faults(), alerts()], |client| {
        let found = match (&asked, args.show) {
            (Some((asked, jobs)), _) => asked.follow(client, telling, jobs)?,
            (None, id) => watch(client, &format!("backtests/{}", id.unwrap_or_default()), telling)?,
        };
        if found["state"] != "done" {
            failed.store(true, Relaxed);
        }
        Ok(found)
    })?;
    if asked.is_some_and(|(_, jobs)| jobs.is_interrupted()) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(if failed.load(Relaxed) { ExitCode::FAILURE } else { code })
}

impl Asked {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let time = |text: &Option<String>| text.as_deref().map(|text| time_us(text, now_us)).transpose();
        if args.rule.is_none() && args.definition.is_none() {
            bail!("say which rule, or give one with --definition");
        }
        let mut body = Map::new();
        let mut set = |key: &str, value: Option<Value>| body.extend(value.map(|value| (key.to_owned(), value)));
        set("rule", args.rule.as_ref().map(|rule| rule.as_str().into()));
        set("topic", args.topic.as_ref().map(|topic| topic.as_str().into()));
        match &args.kafka {
            None => {
                set("from_us", time(&args.from)?.map(Value::from));
                set("until_us", time(&args.to)?.map(Value::from));
            }
            Some(source) => {
                let place = |text: &Option<String>| text.as_deref().map(|text| place(text, now_us)).transpose();
                let (from, to) = (place(&args.from)?, place(&args.to)?);
                let part = [("topic", args.kafka_topic.clone()), ("from", from), ("to", to)];
                let part = part.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
                let part: Map<String, Value> = part.chain([("source".to_owned(), source.as_str().into())]).collect();
                set("kafka", Some(part.into()));
            }
        }
        set("sink", args.sink.as_deref().map(Value::from));
        set("read", args.file.as_ref().map(|_| "upload".into()));
        Ok(Self {
            rule: args.rule.clone(),
            body,
            rows: args.file.as_deref().map(rows).transpose()?,
            module: args.module.as_deref().map(module).transpose()?,
            config: args.config.as_deref().map(config).transpose()?,
            definition: args.definition.as_deref().map(definition).transpose()?,
        })
    }

    /// Has one host do it, and waits for the end.
    fn follow(&self, client: &Client, telling: Telling, jobs: &Jobs) -> Result<Value, Refusal> {
        let mut body = self.body.clone();
        body.extend(self.candidate(client)?.map(|definition| ("definition".to_owned(), definition)));
        let body = Value::Object(body).to_string().into_bytes();
        let post = Request {
            method: "POST",
            path: "backtests".to_owned(),
            body: Some(("application/json", &body)),
            if_match: None,
        };
        if jobs.is_interrupted() {
            return Err(Refusal::new("interrupted", "it was not asked"));
        }
        let job = client.send(&post)?;
        let path = format!("backtests/{}", field(&job, "/id"));
        let _under_way = jobs.begun(client, &path);
        std::thread::scope(|scope| {
            let upload = self.rows.as_ref().map(|rows| scope.spawn(|| send_rows(client, &path, rows)));
            let found = watch(client, &path, telling)?;
            let sent = upload.map_or(Some(Ok(())), |upload| upload.join().ok());
            match sent {
                Some(Err(refusal)) if found["state"] == "cancelled" && !jobs.is_interrupted() => Err(refusal),
                _ => Ok(found),
            }
        })
    }

    /// The definition to be tried, where it is not the rule as it is.
    fn candidate(&self, client: &Client) -> Result<Option<Value>, Refusal> {
        if self.module.is_none() && self.config.is_none() {
            return Ok(self.definition.clone());
        }
        let mut definition = match (&self.definition, &self.rule) {
            (Some(definition), _) => definition.clone(),
            (None, Some(rule)) => client.get(&format!("rules/{rule}"))?["file"].take(),
            (None, None) => Value::Null,
        };
        let module = match &self.module {
            None => None,
            Some(Module::Sha256(sha256)) => Some(client.get(&format!("modules/{sha256}"))?["file"].take()),
            Some(Module::Bytes(bytes, voucher)) => {
                Some(give_to_try(client, bytes, voucher.as_deref(), definition["wasi"] == true)?["file"].take())
            }
        };
        if let Value::Object(fields) = &mut definition {
            fields.extend(module.map(|module| ("module".to_owned(), module)));
            fields.extend(self.config.clone().map(|config| ("config".to_owned(), config)));
        }
        Ok(Some(definition))
    }
}

/// Waits for the end of a backtest; gives what it has found.
fn watch(client: &Client, path: &str, telling: Telling) -> Result<Value, Refusal> {
    let over = follow(client, &format!("{path}/events"), |name, job| {
        telling.tell(client.node(), &how_far(&job));
        if name == "over" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    telling.end();
    over?;
    client.get(path)
}

/// Uploads the rows of a backtest. One whose rows are refused would wait for others, so it is taken back; one that has ended by itself says
/// why better than the upload can.
fn send_rows(client: &Client, path: &str, rows: &[u8]) -> Result<(), Refusal> {
    let body = Some(("application/x-ndjson", rows));
    let put = Request { method: "PUT", path: format!("{path}/rows"), body, if_match: None };
    // How far it is, the backtest says.
    let refusal = match client.send_untold(&put) {
        Ok(_) => return Ok(()),
        Err(refusal) => refusal,
    };
    if client.get(path)?["state"] == "waiting" {
        client.send(&Request { method: "DELETE", path: path.to_owned(), body: None, if_match: None })?;
    }
    Err(refusal)
}

fn how_far(job: &Value) -> String {
    let done = job["done"].as_f64().map_or_else(String::new, |done| format!("{:3.0} %  ", done * 100.0));
    let (rows, raised) = (field(job, "/rows/read"), field(job, "/alerts/raised"));
    format!("{}: {done}{rows} rows read, {raised} alerts raised", field(job, "/state"))
}

/// A place in a Kafka topic, as a host understands it.
fn place(text: &str, now_us: i64) -> anyhow::Result<String> {
    if matches!(text, "earliest" | "latest") || text.starts_with("offset:") {
        return Ok(text.to_owned());
    }
    Ok(Rfc3339(time_us(text, now_us)?).to_string())
}

fn rows(file: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", file.display());
    let mut rows = Vec::new();
    File::open(file).and_then(|it| it.take(MAX_FILE_BYTES + 1).read_to_end(&mut rows)).with_context(unreadable)?;
    if rows.len() as u64 > MAX_FILE_BYTES {
        bail!("{} has more than 1 GiB, which is the most: split it", file.display());
    }
    Ok(rows)
}

fn module(given: &str) -> anyhow::Result<Module> {
    let is_digest = given.len() == 64 && given.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_digest && !Path::new(given).exists() {
        return Ok(Module::Sha256(given.to_owned()));
    }
    let bytes = std::fs::read(given).with_context(|| format!("{given} cannot be read, and is no sha256"))?;
    Ok(Module::Bytes(bytes, manifest(Path::new(given))?))
}

/// JSON, or else TOML: every rule's configuration can be written in both.
fn config(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    if let Ok(config) = serde_json::from_str(&text) {
        return Ok(config);
    }
    toml::from_str(&text).with_context(|| format!("{} is neither JSON nor TOML", file.display()))
}

fn definition(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(serde_json::to_value(RuleFile::parse(&text, &file.display().to_string())?)?)
}

fn summary() -> Table {
    let columns = vec![
        Column("ID", |v| field(v, "/id")),
        Column("RULE", |v| field(v, "/rule")),
        Column("STATE", |v| field(v, "/state")),
        Column("READ", |v| field(v, "/rows/read")),
        Column("NOT READ", |v| field(v, "/rows/bad_lines")),
        Column("GIVEN", |v| field(v, "/rows/given")),
        Column("CHANGED", |v| field(v, "/rows/changed")),
        Column("FILTERED", |v| field(v, "/rows/filtered")),
        Column("REJECTED", |v| field(v, "/rows/rejected")),
        Column("RAISED", |v| field(v, "/alerts/raised")),
        Column("CLEARED", |v| field(v, "/alerts/cleared")),
        Column("EVENTS", |v| field(v, "/alerts/events")),
        Column("FAULTS", |v| field(v, "/faults")),
        Column("NS/ROW", |v| v["ns_per_row"].as_f64().map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}"))),
        Column("PROBLEM", |v| in_commands(&field(v, "/problem"))),
    ];
    Table::new("", columns, "no backtests")
}

fn alerts() -> Table {
    let columns = vec![
        Column("TIME", |v| shown(v, "/time_us")),
        Column("ALERT", |v| field(v, "/transition")),
        Column("SEVERITY", |v| field(v, "/severity")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("MESSAGE", |v| field(v, "/message")),
    ];
    Table::new("/alert_list", columns, "").first(MAX_ALERTS)
}

fn bad_lines() -> Table {
    Table::new("/bad_lines", vec![Column("NOT READ", |v| field(v, ""))], "").first(MAX_ALERTS)
}

fn faults() -> Table {
    let columns = vec![
        Column("FAULT AT", |v| shown(v, "/time_us")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("FAULT", |v| field(v, "/fault")),
    ];
    Table::new("/fault_list", columns, "").first(MAX_ALERTS)
}
