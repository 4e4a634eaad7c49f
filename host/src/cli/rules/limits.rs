//! `tidegate rules limits`: what a rule may use up, shown and changed.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tidegate_config::{Name, RuleLimits};

use super::{Only, change, name};
use crate::cli::api::{Column, Nodes, Refusal, Table, field};

/// Show what a rule may use up, or change that: limits that are not named stay.
///
/// Examples:
///   tidegate rules limits overheat
///   tidegate rules limits overheat cpu_ms=20 memory_mib=32
///   tidegate rules limits overheat cpu_ms=default
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[arg(value_parser = name)]
    rule: Name,
    /// A limit and its new value, or `default`.
    #[arg(value_name = "LIMIT=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    only: Only,
}

/// Exit code 1: a host refused, or could not be reached.
pub(super) fn run(nodes: &Nodes, args: &Args) -> anyhow::Result<ExitCode> {
    let defaults = defaults()?;
    if !args.set.is_empty() {
        let limits = args.set.iter().map(|text| one(text, &defaults)).collect::<anyhow::Result<Map<_, _>>>()?;
        return change::patch(nodes, &args.rule, &json!({ "limits": limits }), &args.only);
    }
    let json = nodes.json();
    nodes.ask(&limits(), |client| {
        let rule = client.get(&format!("rules/{}", args.rule))?;
        let own = rule["file"]["limits"].as_object().cloned();
        let own = own.ok_or_else(|| Refusal::new("no_file", "the rule has no file that can be read"))?;
        Ok(if json { own.into() } else { rows(&own, &defaults) })
    })
}

fn defaults() -> anyhow::Result<Map<String, Value>> {
    match serde_json::to_value(RuleLimits::default())? {
        Value::Object(limits) => Ok(limits),
        _ => bail!("limits are no object"),
    }
}

/// What `limit=value` says, as in a merge patch.
fn one(text: &str, known: &Map<String, Value>) -> anyhow::Result<(String, Value)> {
    let (limit, value) = text.split_once('=').with_context(|| format!("{text:?} is not LIMIT=VALUE"))?;
    if !known.contains_key(limit) {
        let all: Vec<&str> = known.keys().map(String::as_str).collect();
        bail!("there is no limit {limit:?}; choose from {}", all.join(", "));
    }
    let value = match value {
        "default" => Value::Null,
        number => {
            let number = number.replace('_', "").parse::<u32>();
            number.with_context(|| format!("{limit} takes a whole number, or `default`"))?.into()
        }
    };
    Ok((limit.to_owned(), value))
}

/// A limit a row, with what it is where nobody says.
fn rows(own: &Map<String, Value>, defaults: &Map<String, Value>) -> Value {
    let row =
        |(limit, value): (&String, &Value)| json!({ "limit": limit, "value": value, "default": defaults.get(limit) });
    own.iter().map(row).collect()
}

fn limits() -> Table {
    let columns = vec![
        Column("LIMIT", |v| field(v, "/limit")),
        Column("VALUE", |v| field(v, "/value")),
        Column("DEFAULT", |v| field(v, "/default")),
    ];
    Table::new("", columns, "no limits")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a limit is a known name and a whole number or `default`, and nothing else.
    #[test]
    fn limits_as_they_are_written() {
        let known = defaults().unwrap();
        assert_eq!(one("cpu_ms=20", &known).unwrap(), ("cpu_ms".to_owned(), json!(20)));
        assert_eq!(one("series=100_000", &known).unwrap().1, json!(100_000));
        assert_eq!(one("cpu_ms=default", &known).unwrap().1, Value::Null);
        for wrong in ["cpu_ms", "cpu_ms=", "cpu_ms=-1", "cpu_ms=0.5", "cpu=1", "=1"] {
            assert!(one(wrong, &known).is_err(), "{wrong}");
        }
    }
}
