//! `tidegate trace`: one message through every rule of running hosts, and what came of it at each.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cli::api::{Nodes, Request, Table, field, visible};

/// Show what each rule of a running host makes of one message: a given one, or the next that passes.
///
/// It runs beside the host's own work, on fresh instances without state: nothing is stored or published.
///
/// Examples:
///   tidegate trace --topic dev/a/temp --payload '{"v": 95.5}'
///   tidegate trace --next --topic 'dev/+/temp' --within 30
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Its topic; with `--next`, a filter.
    #[arg(long, value_name = "TOPIC", required_unless_present = "next")]
    topic: Option<String>,
    /// Its payload.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["payload_file", "next"])]
    payload: Option<String>,
    /// The file that has its payload.
    #[arg(long, value_name = "FILE", conflicts_with = "next")]
    payload_file: Option<PathBuf>,
    /// The next message that passes.
    #[arg(long)]
    next: bool,
    /// How many seconds the next message is waited for.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=45))]
    within: u32,
}

/// Exit code 1: a host refused, could not be reached, or no message passed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let body = if args.next {
        json!({ "topic": args.topic, "within_s": args.within })
    } else {
        let bytes = match (&args.payload, &args.payload_file) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(file)) => {
                std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?
            }
            (None, None) => Vec::new(),
        };
        json!({ "topic": args.topic, "payload_base64": STANDARD.encode(bytes) })
    };
    let (body, path) = (body.to_string(), if args.next { "trace/next" } else { "trace" });
    args.nodes.ask(&Table::told(told), |client| {
        let body = Some(("application/json", body.as_bytes()));
        client.send(&Request { method: "POST", path: path.to_owned(), body, if_match: None })
    })
}

/// A trace for people.
fn told(trace: &Value) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = tell(trace, &mut text);
    text
}

fn tell(trace: &Value, to: &mut String) -> std::fmt::Result {
    let message = &trace["message"];
    let payload = message["payload"].as_str().or(message["payload_base64"].as_str()).unwrap_or_default();
    writeln!(to, "{}  {}", visible(&field(message, "/topic")), visible(payload))?;
    for step in items(trace, "steps") {
        let (did, us) = (&step["did"], step["did"]["nanos"].as_u64().unwrap_or(0) / 1_000);
        let (rule, kind) = (field(step, "/rule"), field(step, "/kind"));
        writeln!(to, "{rule} ({kind}): {} in, {} out, {us} µs", field(step, "/rows_in"), field(step, "/rows_out"))?;
        items(did, "points").try_for_each(|point| writeln!(to, "  point  {}", visible(&point_line(point))))?;
        for alert in items(did, "alerts") {
            let words = ["/transition", "/severity", "/topic", "/message"].map(|at| field(alert, at)).join(" ");
            writeln!(to, "  alert  {}", visible(&words))?;
        }
        for command in items(did, "commands") {
            let permitted = if command["permitted"] == true { "" } else { " (not permitted)" };
            writeln!(to, "  command  {}{permitted}", visible(&field(command, "/topic")))?;
        }
        for reject in items(did, "rejected") {
            writeln!(to, "  rejected  row {}: {}", field(reject, "/row"), visible(&field(reject, "/reason")))?;
        }
        if let Some(fault) = did["fault"].as_str() {
            writeln!(to, "  fault  {}", visible(fault))?;
        }
    }
    let reason = trace["reason"].as_str().map_or_else(String::new, |reason| format!(": {}", visible(reason)));
    writeln!(to, "{}{reason}; {} points to the sinks", field(trace, "/ended"), field(trace, "/points_out"))
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn point_line(point: &Value) -> String {
    let value = if point["value"].is_null() { field(point, "/text") } else { field(point, "/value") };
    let unit = point["unit"].as_str().map_or_else(String::new, |unit| format!(" {unit}"));
    format!("{} {value}{unit} quality {}", field(point, "/topic"), field(point, "/quality"))
}
