//! `tidegate rules shadow`: a candidate beside a rule, without effects, until it is let go or promoted.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use tidegate_config::Name;

use super::tables::rules;
use super::{Definition, Only, known, name, post};
use crate::cli::api::{Client, Column, Nodes, Request, Table, field};
use crate::cli::time::shown;

/// The most differences of a kind that people are shown; `--json` has all.
const MAX_DIFFERENCES: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub enum Shadow {
    /// Run a candidate beside the rule, on all that the rule gets; nothing it does is done.
    Start {
        #[arg(value_parser = name)]
        rule: Name,
        /// The candidate's file, as it would stand in `rules.d`.
        file: PathBuf,
        /// Upload this module first, and use it, whatever `module` the file names. A read-only host only tries it, and writes it nowhere.
        #[arg(long, value_name = "WASM")]
        module: Option<PathBuf>,
        /// Begin without state instead of with a copy of the rule's.
        #[arg(long)]
        empty: bool,
        /// The most it may cost a lane, in percent of its time.
        #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
        max_share: u32,
        /// Only if the rule has this ETag still.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Show what it does otherwise than the rule: counts, and the newest rows and alerts, which a token of scope `data` may see.
    Diff {
        #[arg(value_parser = name)]
        rule: Name,
        /// Only the numbers, a line for each host; a token of scope `read` may see them.
        #[arg(long)]
        brief: bool,
    },
    /// Let it go.
    Stop {
        #[arg(value_parser = name)]
        rule: Name,
        /// Only if the rule has this ETag still.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Let it serve.
    Promote {
        #[arg(value_parser = name)]
        rule: Name,
        /// The state it goes on with: what it has built, or what the rule has.
        #[arg(long, value_enum)]
        state: State,
        #[command(flatten)]
        only: Only,
    },
}

/// With which state a shadow goes on.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum State {
    /// What it has built.
    Own,
    /// What the rule has.
    TakenOver,
}

pub fn run(nodes: &Nodes, shadow: &Shadow) -> anyhow::Result<ExitCode> {
    match shadow {
        Shadow::Start { rule, file, module, empty, max_share, if_match } => {
            let definition = Definition::read(file, module.as_deref())?;
            let state = if *empty { "empty" } else { "copied" };
            nodes.ask(&numbers(), |client| {
                let definition = definition.to_try_first(client)?;
                let order = json!({ "definition": definition, "state": state, "max_share_percent": max_share });
                let bytes = order.to_string().into_bytes();
                let body = Some(("application/json", bytes.as_slice()));
                let path = format!("rules/{rule}/shadow");
                client.send(&Request { method: "POST", path, body, if_match: if_match.clone() })
            })
        }
        Shadow::Diff { rule, brief } => {
            let path = format!("rules/{rule}/shadow");
            if *brief {
                return nodes.ask(&numbers(), |client| client.get(&path));
            }
            let path = format!("{path}/differences");
            nodes.ask_for(&[numbers(), rows(), alerts()], |client| client.get(&path))
        }
        Shadow::Stop { rule, if_match } => nodes.ask(&Table::nothing_but("stopped"), |client| {
            let path = format!("rules/{rule}/shadow");
            client.send(&Request { method: "DELETE", path, body: None, if_match: if_match.clone() })
        }),
        Shadow::Promote { rule, state, only } => {
            let state = match state {
                State::Own => "own",
                State::TakenOver => "taken-over",
            };
            let bytes = json!({ "state": state }).to_string().into_bytes();
            let ask =
                |client: &Client| client.send(&post(rule, "shadow/promote", Some(&bytes), only.if_match.as_ref()));
            only.rollout.change(nodes, &rules(), ask, |client, _| known(client, rule))
        }
    }
}

fn numbers() -> Table {
    let columns = vec![
        Column("STATE", |v| field(v, "/state")),
        Column("ROWS", |v| field(v, "/rows")),
        Column("CHANGED", |v| field(v, "/rows_changed")),
        Column("SKIPPED", |v| field(v, "/skipped_rows")),
        Column("ALERTS ONLY IT", |v| field(v, "/alerts_only_candidate")),
        Column("ONLY THE RULE", |v| field(v, "/alerts_only_serving")),
        Column("NS/ROW", |v| whole(&v["ns_per_row_candidate"])),
        Column("THE RULE'S", |v| whole(&v["ns_per_row_serving"])),
        Column("FAULTS", |v| field(v, "/faults")),
        Column("REASON", |v| field(v, "/reason")),
    ];
    Table::new("", columns, "no shadow")
}

fn rows() -> Table {
    let columns = vec![
        Column("ROW OF", |v| shown(v, "/time_us")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("BY THE RULE", |v| made(&v["serving"])),
        Column("BY IT", |v| made(&v["candidate"])),
    ];
    Table::new("/row_differences", columns, "").first(MAX_DIFFERENCES)
}

fn alerts() -> Table {
    let columns = vec![
        Column("ALERT OF", |v| shown(v, "/time_us")),
        Column("ONLY BY", |v| if v["only"] == "serving" { "the rule".to_owned() } else { "it".to_owned() }),
        Column("ALERT", |v| field(v, "/transition")),
        Column("SEVERITY", |v| field(v, "/severity")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("MESSAGE", |v| field(v, "/message")),
    ];
    Table::new("/alert_differences", columns, "").first(MAX_DIFFERENCES)
}

/// What one of the two made of a row: its points' values, or what else became of it.
fn made(of: &Value) -> String {
    let points = of["points"].as_array().into_iter().flatten();
    let values: Vec<String> = points.map(|point| field(point, "/value")).collect();
    match (values.is_empty(), of["reason"].as_str()) {
        (false, _) => values.join(", "),
        (true, Some(reason)) => format!("{}: {reason}", field(of, "/outcome")),
        (true, None) => field(of, "/outcome"),
    }
}

fn whole(number: &Value) -> String {
    number.as_f64().map_or_else(String::new, |number| format!("{number:.0}"))
}
