//! The same over the API of running hosts, as far as that goes: how much stands in each, not what.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::Action;
use crate::cli::api::{Hosts, Refusal, Table};
use crate::cli::status::spools;

/// Exit code 1: a host refused, could not be reached, or has no such spool.
pub(super) fn run(remote: &Hosts, action: &Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::List { json } => remote.nodes(*json).ask(&spools(), |client| client.get("spools")),
        Action::Inspect { sink, json } => {
            remote.nodes(*json).ask(&Table::whole(), |client| one(client.get("spools")?, sink))
        }
        Action::Verify { .. } | Action::Export { .. } => {
            bail!(
                "verify and export read the files: name them with --config or --data-dir, on the host itself, and no --node"
            )
        }
    }
}

fn one(spools: Value, sink: &str) -> Result<Value, Refusal> {
    let found = spools.as_array().into_iter().flatten().find(|spool| spool["sink"] == sink).cloned();
    let none = || Refusal::of(json!({ "code": "not_found", "detail": format!("no sink {sink:?} has a spool here") }));
    found.ok_or_else(none)
}
