//! `tidegate export`, `import` and `desired`: all rules of a host at once, as a document.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::api::{Client, Column, Nodes, Refusal, Request, Rollout, Table, field};

/// Print all rules of a host, and the modules they use, as one document for `import` and `desired`. Of several hosts with --json, a line each.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// Leave the modules' bytes out: for hosts that have them.
    #[arg(long)]
    without_modules: bool,
}

/// Take the rules and modules of a document in, all or none; other rules stay.
///
/// Examples:
///   tidegate export --node http://edge-1:8081 > rules.json
///   tidegate import rules.json --node https://edge-2:8081 --node https://edge-3:8081
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArgs {
    #[command(flatten)]
    nodes: Nodes,
    document: PathBuf,
    /// Only say what would be changed.
    #[arg(long, conflicts_with = "rolling")]
    plan: bool,
    /// Only if no rule has been changed since, as `etag` of an export says.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    rollout: Rollout,
}

/// Bring all rules in line with a document: others go. For GitOps and fleets.
///
/// A rule under another name takes the place of the old one between two batches if its module is the same. If that is another too, rows may pass by between
/// them: change the module first, and then the name.
///
/// Exit code 2 of `plan`: a host differs.
#[derive(Debug, clap::Args)]
pub struct DesiredArgs {
    #[command(flatten)]
    nodes: Nodes,
    #[command(subcommand)]
    action: DesiredAction,
}

#[derive(Debug, clap::Subcommand)]
enum DesiredAction {
    /// Say in what hosts differ, and change nothing.
    Plan { document: PathBuf },
    /// Bring hosts in line, all rules or none.
    Apply {
        document: PathBuf,
        /// Only if no rule has been changed since, as `etag` of an export says.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
        #[command(flatten)]
        rollout: Rollout,
    },
}

/// Exit code 1: a host refused, or could not be reached.
pub fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.nodes.several() && !args.nodes.json() {
        bail!("several hosts' rules are no one document; ask one host, or have a line for each with --json");
    }
    let path = if args.without_modules { "export?modules=false" } else { "export" };
    args.nodes.ask(&Table::whole(), |client| client.get(path))
}

/// Exit code 1: a host refused, or could not be reached.
pub fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let document = read(&args.document)?;
    let path = if args.plan { "import?plan=true" } else { "import" };
    let ask = |client: &Client| client.send(&request("POST", path, &document, args.if_match.as_ref()));
    args.rollout.change(&args.nodes, &changes(), ask, changed)
}

/// Exit codes as in the help.
pub fn desired(args: &DesiredArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        DesiredAction::Apply { document, if_match, rollout } => {
            let document = read(document)?;
            let ask = |client: &Client| client.send(&request("PUT", "desired", &document, if_match.as_ref()));
            rollout.change(&args.nodes, &changes(), ask, changed)
        }
        DesiredAction::Plan { document } => {
            let document = read(document)?;
            let differs = std::sync::atomic::AtomicBool::new(false);
            let asked = args.nodes.ask(&changes(), |client| {
                let plan = client.send(&request("PUT", "desired?plan=true", &document, None))?;
                differs.fetch_or(plan["differs"] == true, std::sync::atomic::Ordering::Relaxed);
                Ok(plan)
            });
            let code = asked?;
            let done = code == ExitCode::SUCCESS;
            Ok(if done && differs.into_inner() { ExitCode::from(2) } else { code })
        }
    }
}

/// The rules that were made or made anew, as they are.
fn changed(client: &Client, answer: &Value) -> Result<Vec<Value>, Refusal> {
    let made = answer["rules"].as_array().into_iter().flatten();
    let made = made.filter(|it| matches!(it["action"].as_str(), Some("created" | "replaced")));
    let made: HashSet<String> = made.map(|it| field(it, "/rule")).collect();
    let mut rules = client.get("rules")?;
    let rules = rules.as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(rules.into_iter().filter(|rule| made.contains(&field(rule, "/name"))).collect())
}

fn request<'a>(method: &'static str, path: &str, document: &'a [u8], if_match: Option<&String>) -> Request<'a> {
    let body = Some(("application/json", document));
    Request { method, path: path.to_owned(), body, if_match: if_match.cloned() }
}

fn read(document: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(document).with_context(|| format!("{} cannot be read", document.display()))?;
    let read: Value = serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", document.display()))?;
    if read["rules"].is_null() {
        bail!("{} has no `rules`; `tidegate export` prints such a document", document.display());
    }
    Ok(bytes)
}

fn changes() -> Table {
    let columns = vec![
        Column("RULE", |v| field(v, "/rule")),
        Column("ACTION", |v| field(v, "/action")),
        Column("DIFFERENCES", |v| {
            let all = v["differences"].as_array().into_iter().flatten();
            let each = all.map(|it| {
                let side = |key: &str| it.get(key).map_or("-".to_owned(), Value::to_string);
                format!("{}: {} → {}", field(it, "/pointer"), side("before"), side("after"))
            });
            let all: Vec<String> = each.collect();
            if all.is_empty() { "-".to_owned() } else { all.join("; ") }
        }),
    ];
    Table::new("/rules", columns, "no rules, here or there")
}
