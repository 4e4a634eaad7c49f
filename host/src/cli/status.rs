//! `tidegate status`: how running hosts are, a line each.

use std::process::ExitCode;

use serde_json::Value;

use crate::cli::api::{Column, Nodes, Table, field};

/// Show how running hosts are, a line each; `--json` shows all they say.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let columns = vec![
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
    args.nodes.ask(&Table::new("", columns, "nothing"), |client| client.get("status"))
}

/// How many of a list are as they should be: `2/3`.
fn of(status: &Value, list: &str, well: impl Fn(&Value) -> bool) -> String {
    let all = status[list].as_array().map(Vec::as_slice).unwrap_or_default();
    format!("{}/{}", all.iter().filter(|one| well(one)).count(), all.len())
}
