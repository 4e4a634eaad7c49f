//! `tidegate alerts`: what stands on running hosts, and what was published last.

use std::process::ExitCode;

use url::form_urlencoded;

use crate::cli::api::{Column, Nodes, Table, field};
use crate::cli::time::shown;

/// Show the alerts that stand on running hosts, the oldest first; or with --history those that were published last, the newest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Those that were published last, raised, cleared or events, instead of those that stand.
    #[arg(long)]
    history: bool,
    /// Only of this rule.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only of series that match this MQTT topic filter.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// How many at most, of each host.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    for (name, value) in [("rule", &args.rule), ("topic", &args.topic)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let severity = Column("SEVERITY", |v| field(v, "/severity"));
    let rest = [
        Column("RULE", |v| field(v, "/rule")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("KEY", |v| field(v, "/key")),
        Column("MESSAGE", |v| field(v, "/message")),
    ];
    if args.history {
        let time = Column("TIME", |v| shown(v, "/time_us"));
        let columns = [time, Column("TRANSITION", |v| field(v, "/transition")), severity].into_iter().chain(rest);
        let table = Table::new("/alerts", columns.collect(), "no alert was published since the start");
        return args.nodes.ask(&table, |client| client.get(&format!("alerts/history?{query}")));
    }
    let columns = [Column("SINCE", |v| shown(v, "/since_us")), severity].into_iter().chain(rest);
    args.nodes
        .ask(&Table::new("", columns.collect(), "no alert stands"), |client| client.get(&format!("alerts?{query}")))
}
