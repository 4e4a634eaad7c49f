//! What hosts say of rules, for people.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cli::api::{Column, Table, field, joined};

/// The generations of a rule.
pub(super) fn versions() -> Table {
    let columns = vec![
        Column("GENERATION", |v| field(v, "/generation")),
        Column("SERVES", |v| if v["serving"] == true { "yes".to_owned() } else { String::new() }),
        Column("SINCE", |v| since(&v["admitted_ms"])),
        Column("MODULE", |v| field(v, "/module")),
        Column("SHA256", |v| field(v, "/sha256").chars().take(12).collect()),
        Column("QUARANTINED", |v| field(v, "/fault")),
    ];
    Table::new("", columns, "no generation is kept")
}

fn since(ms: &Value) -> String {
    let then = ms.as_u64().and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    then.map_or_else(String::new, |then| humantime::format_rfc3339_seconds(then).to_string())
}

/// Rules as they are.
pub(super) fn rules() -> Table {
    let columns = vec![
        Column("RULE", |v| field(v, "/name")),
        Column("STATE", |v| field(v, "/state")),
        Column("KIND", |v| field(v, "/kind")),
        Column("ORDER", |v| field(v, "/order")),
        Column("GENERATION", |v| field(v, "/generation")),
        Column("ROWS", |v| field(v, "/stats/rows_in")),
        Column("TOPICS", |v| joined(v, "/topics")),
        Column("PROBLEM", |v| field(v, "/problem")),
    ];
    Table::new("", columns, "no rules")
}

/// What became of a state.
pub(super) fn reset() -> Table {
    let durable = |v: &Value| match v["durable"].as_bool() {
        Some(false) => "once the sinks have confirmed what came before".to_owned(),
        _ => "yes".to_owned(),
    };
    let columns = vec![Column("CELLS FORGOTTEN", |v| field(v, "/cells")), Column("HOLDS OVER A CRASH", durable)];
    Table::new("", columns, "nothing")
}
