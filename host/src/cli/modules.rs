//! `tidegate modules`: the modules that rules of running hosts can use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::cli::api::{Client, Column, Nodes, Refusal, Request, Table, field, joined};
use crate::wiring::manifest_path;

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
    /// Upload one, and what vouches for it: the `<file>.sig` beside it, if there is one. It runs when a rule names the file it is kept in.
    Upload {
        file: PathBuf,
        /// It may import WASI: it gets an empty one.
        #[arg(long)]
        wasi: bool,
    },
    /// Give hosts anew what vouches for a module: the `<file>.sig` beside it, as when the old one is about to expire.
    Vouch { file: PathBuf },
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
            let bytes = read(file)?;
            let manifest = manifest(file)?;
            nodes.ask(&modules(), |client| upload(client, &bytes, manifest.as_deref(), *wasi))
        }
        Action::Vouch { file } => {
            let sha256 = tidegate_admin::digest(&read(file)?);
            let manifest =
                manifest(file)?.with_context(|| format!("there is no {}", manifest_path(file).display()))?;
            nodes.ask(&vouchers(), |client| vouch(client, &sha256, &manifest))
        }
        Action::Delete { sha256 } => nodes.ask(&Table::nothing_but("deleted"), |client| {
            client.send(&Request { method: "DELETE", path: format!("modules/{sha256}"), body: None, if_match: None })
        }),
    }
}

/// Uploads a module, after what vouches for it: a host that wants signatures looks at no module without.
pub fn upload(client: &Client, module: &[u8], manifest: Option<&[u8]>, wasi: bool) -> Result<Value, Refusal> {
    if let Some(manifest) = manifest {
        match vouch(client, &tidegate_admin::digest(module), manifest) {
            // It asks for no signatures, so it knows no keys.
            Err(refusal) if refusal.code() == "no_keys" => {}
            other => drop(other?),
        }
    }
    let path = if wasi { "modules?wasi=true" } else { "modules" };
    let body = Some(("application/wasm", module));
    client.send(&Request { method: "POST", path: path.to_owned(), body, if_match: None })
}

fn vouch(client: &Client, sha256: &str, manifest: &[u8]) -> Result<Value, Refusal> {
    let path = format!("modules/{sha256}/signature");
    client.send(&Request { method: "PUT", path, body: Some(("application/json", manifest)), if_match: None })
}

/// What stands beside a module's file and vouches for it, if anything does.
pub fn manifest(module: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let path = manifest_path(module);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn vouchers() -> Table {
    let columns = vec![
        Column("NAME", |v| field(v, "/name")),
        Column("VERSION", |v| field(v, "/version")),
        Column("EXPIRES", |v| field(v, "/expires")),
        Column("KEY", |v| field(v, "/key")),
    ];
    Table::new("", columns, "nothing")
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
