//! `tidegate rules shadow`: a candidate beside a rule, without effects, until it is let go or promoted.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use tidegate_config::Name;

use super::{Definition, name, rules};
use crate::cli::api::{Column, Nodes, Request, Table, field};

#[derive(Debug, clap::Subcommand)]
pub enum Shadow {
    /// Run a candidate beside the rule, on all that the rule gets; nothing it does is done.
    Start {
        #[arg(value_parser = name)]
        rule: Name,
        /// The candidate's file, as it would stand in `rules.d`.
        file: PathBuf,
        /// Upload this module first, and use it, whatever `module` the file names.
        #[arg(long, value_name = "WASM")]
        module: Option<PathBuf>,
        /// Begin without state instead of with a copy of the rule's.
        #[arg(long)]
        empty: bool,
        /// The most it may cost a lane, in percent of its time.
        #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
        max_share: u32,
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
    },
    /// Let it serve.
    Promote {
        #[arg(value_parser = name)]
        rule: Name,
        /// The state it goes on with: what it has built, or what the rule has.
        #[arg(long, value_enum)]
        state: State,
        /// Only if the rule has this ETag still.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
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
        Shadow::Start { rule, file, module, empty, max_share } => {
            let definition = Definition::read(file, module.as_deref())?;
            let state = if *empty { "empty" } else { "copied" };
            nodes.ask(&numbers(), |client| {
                let definition = definition.with_module(client)?;
                let order = json!({ "definition": definition, "state": state, "max_share_percent": max_share });
                let bytes = order.to_string().into_bytes();
                let body = Some(("application/json", bytes.as_slice()));
                let path = format!("rules/{rule}/shadow");
                client.send(&Request { method: "POST", path, body, if_match: None })
            })
        }
        Shadow::Diff { rule, brief } => {
            let (table, what) = if *brief { (numbers(), "") } else { (Table::whole(), "/differences") };
            nodes.ask(&table, |client| client.get(&format!("rules/{rule}/shadow{what}")))
        }
        Shadow::Stop { rule } => nodes.ask(&Table::nothing_but("stopped"), |client| {
            let path = format!("rules/{rule}/shadow");
            client.send(&Request { method: "DELETE", path, body: None, if_match: None })
        }),
        Shadow::Promote { rule, state, if_match } => {
            let state = match state {
                State::Own => "own",
                State::TakenOver => "taken-over",
            };
            let bytes = json!({ "state": state }).to_string().into_bytes();
            nodes.ask(&rules(), |client| {
                let body = Some(("application/json", bytes.as_slice()));
                let path = format!("rules/{rule}/shadow/promote");
                client.send(&Request { method: "POST", path, body, if_match: if_match.clone() })
            })
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

fn whole(number: &Value) -> String {
    number.as_f64().map_or_else(String::new, |number| format!("{number:.0}"))
}
