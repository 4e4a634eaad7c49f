//! `tidegate rules change`: parts of a rule's file, changed on many hosts that may differ in the rest.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tidegate_config::Name;

use super::tables::rules;
use super::{Only, known, name};
use crate::cli::api::{Client, Nodes, Request};

/// Change parts of a rule's file: topics, order, limits, configuration; what is not named stays. It serves so when this answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_parser = name)]
    rule: Name,
    /// A field and its value, as JSON or else as text: config.above=85, topics='["dev/+/temp"]'; may be given several times.
    #[arg(long = "set", value_name = "FIELD=VALUE", required_unless_present = "unset")]
    set: Vec<String>,
    /// A field that is set back to its default; may be given several times.
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
    #[command(flatten)]
    only: Only,
}

/// Exit code 1: a host refused, or could not be reached.
pub(super) fn run(nodes: &Nodes, args: &Args) -> anyhow::Result<ExitCode> {
    let mut all = Map::new();
    for text in &args.set {
        let (field, value) = text.split_once('=').with_context(|| format!("{text:?} is not FIELD=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        put(&mut all, field, value)?;
    }
    for field in &args.unset {
        put(&mut all, field, Value::Null)?;
    }
    patch(nodes, &args.rule, &Value::Object(all), &args.only)
}

/// Sends a merge patch (RFC 7396).
pub(super) fn patch(nodes: &Nodes, rule: &Name, patch: &Value, only: &Only) -> anyhow::Result<ExitCode> {
    let bytes = patch.to_string().into_bytes();
    let ask = |client: &Client| {
        let body = Some(("application/merge-patch+json", bytes.as_slice()));
        let (path, if_match) = (format!("rules/{rule}"), only.if_match.clone());
        client.send(&Request { method: "PATCH", path, body, if_match })
    };
    only.rollout.change(nodes, &rules(), ask, |client, _| known(client, rule))
}

/// Puts a value where a field like `config.above` stands.
fn put(fields: &mut Map<String, Value>, field: &str, value: Value) -> anyhow::Result<()> {
    if field.is_empty() {
        bail!("a field has a name, as config.above has");
    }
    let Some((first, rest)) = field.split_once('.') else {
        fields.insert(field.to_owned(), value);
        return Ok(());
    };
    let below = fields.entry(first).or_insert_with(|| Value::Object(Map::new()));
    match below {
        Value::Object(below) => put(below, rest, value),
        _ => bail!("{first:?} is given a value, and so is something in it"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: fields stand where their paths say, side by side; two that cannot both be are refused.
    #[test]
    fn paths() {
        let mut all = Map::new();
        for (field, value) in [("config.above", json!(85)), ("order", json!(3)), ("config.unit", Value::Null)] {
            put(&mut all, field, value).unwrap();
        }
        assert_eq!(Value::Object(all.clone()), json!({ "config": { "above": 85, "unit": null }, "order": 3 }));
        assert!(put(&mut all, "order.x", json!(1)).is_err());
        assert!(put(&mut all, "config.", json!(1)).is_err());
    }
}
