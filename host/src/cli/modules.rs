//! `tidegate modules`: the modules that rules of running hosts can use.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cli::api::{Client, Column, Nodes, Refusal, Request, Table, field, joined};
use crate::cli::print::{print, print_bytes};
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
    /// Download one, from the first host that has it; what comes is held against its sha256.
    Download {
        #[arg(value_parser = sha256)]
        sha256: String,
        /// The file to write, which must not be there yet, or `-` for standard output; `<sha256>.wasm` if not given.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete uploaded ones that nothing needs: no rule and no shadow uses them, and no generation that is kept.
    Prune {
        /// Uploaded, last, longer ago than this: 7d, 12h.
        #[arg(long, value_name = "TIME", value_parser = crate::cli::time::length, required_unless_present = "keep")]
        older_than: Option<Duration>,
        /// All but so many, the newest of each host.
        #[arg(long, value_name = "NUMBER")]
        keep: Option<u32>,
        /// Only say which those are.
        #[arg(long)]
        dry_run: bool,
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
        Action::Download { sha256, output } => download(nodes, sha256, output.as_deref()),
        Action::Prune { older_than, keep, dry_run } => {
            let seconds = older_than.map(whole_seconds);
            let said =
                [("older_than_s", seconds), ("keep", *keep)].map(|(name, n)| n.map(|n| format!("{name}={n}&")));
            let said: String = said.into_iter().flatten().collect();
            nodes.ask(&pruned(), |client| {
                let path = format!("modules/prune?{said}plan={dry_run}");
                client.send(&Request { method: "POST", path, body: None, if_match: None })
            })
        }
        Action::Delete { sha256 } => nodes.ask(&Table::nothing_but("deleted"), |client| {
            client.send(&Request { method: "DELETE", path: format!("modules/{sha256}"), body: None, if_match: None })
        }),
    }
}

/// Never fewer than `time`: none at all would be every module.
fn whole_seconds(time: Duration) -> u32 {
    let up = u64::from(time.subsec_nanos() > 0);
    u32::try_from(time.as_secs().saturating_add(up)).unwrap_or(u32::MAX)
}

fn download(nodes: &Nodes, sha256: &str, output: Option<&Path>) -> anyhow::Result<ExitCode> {
    let own = PathBuf::from(format!("{sha256}.wasm"));
    let to = output.unwrap_or(&own);
    let standard_output = to == Path::new("-");
    if !standard_output && to.exists() {
        bail!("{} is there already; name a new file with --output", to.display());
    }
    let found = nodes.first(|client| {
        let bytes = client.bytes(&format!("modules/{sha256}/content"))?;
        if tidegate_admin::digest(&bytes) == *sha256 {
            Ok(bytes)
        } else {
            Err(Refusal::new("damaged", "what it sends is another module, or was damaged on its way"))
        }
    });
    let Some((node, bytes)) = found? else { return Ok(ExitCode::FAILURE) };
    if standard_output {
        print_bytes(&bytes)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Whole or not at all: a file of that name is made by nobody else meanwhile, and goes again if it cannot be written.
    let mut file = File::create_new(to).with_context(|| format!("{} cannot be made", to.display()))?;
    if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_all()) {
        let _ = std::fs::remove_file(to);
        return Err(error).with_context(|| format!("{} cannot be written", to.display()));
    }
    print(&match nodes.json() {
        true => format!("{}\n", json!({ "node": node, "sha256": sha256, "bytes": bytes.len(), "file": to })),
        false => format!("{} bytes from {node} written to {}\n", bytes.len(), to.display()),
    })?;
    Ok(ExitCode::SUCCESS)
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

/// Gives a host a module that is only to be tried: it keeps it in memory for a while.
pub fn give_to_try(client: &Client, module: &[u8], manifest: Option<&[u8]>, wasi: bool) -> Result<Value, Refusal> {
    let unreadable =
        |error: serde_json::Error| Refusal::new("manifest", &format!("the manifest is no JSON: {error}"));
    let manifest: Option<Value> = manifest.map(serde_json::from_slice).transpose().map_err(unreadable)?;
    let mut part = json!({ "sha256": tidegate_admin::digest(module), "content": STANDARD.encode(module) });
    if let Some(manifest) = manifest {
        part["manifest"] = manifest;
    }
    let bytes = part.to_string().into_bytes();
    let body = Some(("application/json", bytes.as_slice()));
    client.send(&Request { method: "POST", path: format!("modules/trial?wasi={wasi}"), body, if_match: None })
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

/// Those that are gone, or would be.
fn pruned() -> Table {
    let columns = vec![Column("SHA256", |v| field(v, "/sha256")), Column("BYTES", |v| field(v, "/bytes"))];
    Table::new("/modules", columns, "nothing to prune")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: an age in parts of a second is never asked for as less than it is.
    #[test]
    fn ages_are_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (500, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
