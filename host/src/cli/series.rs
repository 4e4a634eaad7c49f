//! `tidegate series`: the series that running hosts know.

use std::process::ExitCode;

use url::form_urlencoded;

use crate::cli::api::{Column, Nodes, Table, field};

/// Show the series that running hosts know: topic, unit and labels; found by a topic filter, by a part of the topic, or by both.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Only those that match this MQTT topic filter.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only those with this in their topic.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Go on where a page ended: its `next`, which --json shows.
    #[arg(long, value_name = "N")]
    after: Option<u32>,
    /// How many at most, of each host.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    query.extend_pairs(args.after.iter().map(|after| ("after", after.to_string())));
    for (name, value) in [("topic", &args.topic), ("contains", &args.contains)] {
        query.extend_pairs(value.iter().map(|value| (name, value)));
    }
    let query = query.finish();
    let columns = vec![
        Column("TOPIC", |v| field(v, "/topic")),
        Column("UNIT", |v| field(v, "/unit")),
        Column("LABELS", |v| field(v, "/labels")),
    ];
    let table = Table::new("/series", columns, "no such series is known");
    args.nodes.ask(&table, |client| client.get(&format!("series?{query}")))
}
