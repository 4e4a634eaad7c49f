//! `tidegate audit`: who changed what on running hosts, and who was refused.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use url::form_urlencoded;

use crate::cli::api::{Client, Column, Nodes, Refusal, Table, field};
use crate::cli::time::time_us;

/// A change has two lines in the log: when it began, and when it had ended.
const LINES_A_CHANGE: u32 = 2;

/// Show who changed what on running hosts by their API, the newest last; or with --denials who was refused.
///
/// It takes the scope `admin`. A change without an outcome was begun and has not ended: it is under way, or a crash ended it.
///
/// Examples:
///   tidegate audit --since 2h
///   tidegate audit --about overheat --node https://edge-1:8081 --node https://edge-2:8081
///   tidegate audit --denials --who unknown
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Who was refused, instead of what was changed.
    #[arg(long)]
    denials: bool,
    /// Only of this caller: a token's name, or what else was known.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only this operation, as the API's page names it: putRule.
    #[arg(long, value_name = "OPERATION")]
    operation: Option<String>,
    /// Only what was done to this: the name of a rule, the digest of a module.
    #[arg(long, value_name = "SUBJECT")]
    about: Option<String>,
    /// Not longer ago than this, or not before: 2h, 7d, 2025-03-01.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many at most, of each host.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let query = query(args)?;
    let (json, most) = (args.nodes.json(), args.limit as usize);
    let table = if args.denials { denials() } else { changes() };
    args.nodes.ask(&table, |client| asked(client, &query, json, most))
}

fn query(args: &Args) -> anyhow::Result<String> {
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let time = |text: &Option<String>| text.as_deref().map(|text| time_us(text, now_us)).transpose();
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &(args.limit * LINES_A_CHANGE).to_string());
    query.append_pair("denials", &args.denials.to_string());
    for (name, value) in [("who", &args.who), ("operation", &args.operation), ("about", &args.about)] {
        query.extend_pairs(value.iter().map(|value| (name, value)));
    }
    for (name, us) in [("since_us", since), ("until_us", until)] {
        query.extend_pairs(us.iter().map(|us| (name, us.to_string())));
    }
    Ok(query.finish())
}

fn asked(client: &Client, query: &str, json: bool, most: usize) -> Result<Value, Refusal> {
    let mut page = client.get(&format!("audit?{query}"))?;
    if let (false, Some(lines)) = (json, page["lines"].as_array_mut()) {
        fold(lines, most);
    }
    Ok(page)
}

/// For people: of a change that has ended, that line alone; of all, the newest.
fn fold(lines: &mut Vec<Value>, most: usize) {
    let ended = lines.iter().filter(|line| line["phase"] == "ended");
    let ended: HashSet<String> = ended.map(|line| field(line, "/change")).collect();
    lines.retain(|line| line["phase"] != "begun" || !ended.contains(&field(line, "/change")));
    lines.drain(..lines.len().saturating_sub(most));
}

/// What a line of either book begins with.
fn who_asked_what() -> Vec<Column> {
    vec![
        Column("TIME", |v| field(v, "/time")),
        Column("WHO", |v| field(v, "/who")),
        Column("FROM", |v| field(v, "/from")),
        Column("OPERATION", |v| field(v, "/operation")),
        Column("ABOUT", |v| short(&field(v, "/about"))),
    ]
}

fn changes() -> Table {
    let mut columns = who_asked_what();
    columns.extend([
        Column("OF", |v| field(v, "/of")),
        Column("OUTCOME", outcome),
        Column("BEFORE", |v| short(&field(v, "/before"))),
        Column("AFTER", |v| short(&field(v, "/after"))),
    ]);
    Table::new("/lines", columns, "no change was made")
}

fn denials() -> Table {
    let mut columns = who_asked_what();
    columns.extend([Column("OUTCOME", outcome), Column("NOT WRITTEN BEFORE", |v| field(v, "/unwritten"))]);
    Table::new("/lines", columns, "nobody was refused")
}

/// The status and the word of a refusal.
fn outcome(line: &Value) -> String {
    match (line["status"].as_u64(), line["refused"].as_str()) {
        (Some(status), Some(refused)) => format!("{status} {refused}"),
        (Some(status), None) => status.to_string(),
        (None, _) => "not ended".to_owned(),
    }
}

/// As much of a digest as tells it from others.
fn short(text: &str) -> String {
    let is_digest = text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_digest { text.chars().take(12).collect() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: a change that has ended is one line, one that has not is its beginning, and the newest are kept.
    #[test]
    fn a_change_is_a_line() {
        let line = |phase: &str, change: &str| json!({ "phase": phase, "change": change });
        let mut lines = vec![line("begun", "a"), line("begun", "b"), line("ended", "a"), line("begun", "c")];
        lines.push(line("ended", "c"));
        let mut two = lines.clone();
        fold(&mut lines, 10);
        assert_eq!(lines, [line("begun", "b"), line("ended", "a"), line("ended", "c")]);
        fold(&mut two, 2);
        assert_eq!(two, lines[1..]);
    }
}
