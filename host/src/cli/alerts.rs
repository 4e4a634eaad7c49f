//! `tidegate alerts`: what stands, on running hosts.

use std::process::ExitCode;

use serde_json::Value;
use tidegate_sinks::Rfc3339;

use crate::cli::api::{Column, Nodes, Table, field};

/// Show the alerts that stand on running hosts, the oldest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let since = |v: &Value| v["since_us"].as_i64().map_or_else(|| "-".to_owned(), |us| Rfc3339(us).to_string());
    let columns = vec![
        Column("SINCE", since),
        Column("SEVERITY", |v| field(v, "/severity")),
        Column("RULE", |v| field(v, "/rule")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("KEY", |v| field(v, "/key")),
        Column("MESSAGE", |v| field(v, "/message")),
    ];
    args.nodes.ask(&Table::new("", columns, "no alert stands"), |client| client.get("alerts"))
}
