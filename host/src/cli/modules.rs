//! `tidegate modules`: the modules that rules of running hosts can use.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::api::{Column, Nodes, Request, Table, field, joined};

/// See and change the modules of running hosts.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them.
    List,
    /// Show one, and what it says of itself.
    Show {
        #[arg(value_parser = sha256)]
        sha256: String,
    },
    /// Upload one. It runs when a rule names the file it is kept in.
    Upload {
        file: PathBuf,
        /// It may import WASI: it gets an empty one.
        #[arg(long)]
        wasi: bool,
    },
    /// Delete one that no rule uses.
    Delete {
        #[arg(value_parser = sha256)]
        sha256: String,
    },
}

fn sha256(text: &str) -> Result<String, &'static str> {
    let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a sha256 has 64 hexadecimal digits; `tidegate modules list` shows them")
    }
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let nodes = &args.nodes;
    match &args.action {
        Action::List => nodes.ask(&modules(), |client| client.get("modules")),
        Action::Show { sha256 } => nodes.ask(&Table::whole(), |client| client.get(&format!("modules/{sha256}"))),
        Action::Upload { file, wasi } => {
            let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            let path = if *wasi { "modules?wasi=true" } else { "modules" };
            nodes.ask(&modules(), |client| {
                let body = Some(("application/wasm", bytes.as_slice()));
                client.send(&Request { method: "POST", path: path.to_owned(), body, if_match: None })
            })
        }
        Action::Delete { sha256 } => nodes.ask(&Table::nothing_but("deleted"), |client| {
            client.send(&Request { method: "DELETE", path: format!("modules/{sha256}"), body: None, if_match: None })
        }),
    }
}

fn modules() -> Table {
    let columns = vec![
        Column("SHA256", |v| field(v, "/sha256")),
        Column("FILE", |v| field(v, "/file")),
        Column("BYTES", |v| field(v, "/bytes")),
        Column("USED BY", |v| joined(v, "/used_by")),
    ];
    Table::new("", columns, "no modules")
}
