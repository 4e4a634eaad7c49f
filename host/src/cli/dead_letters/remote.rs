//! The same over the API of running hosts, as far as that goes: listed, shown, put back and purged.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};
use tidegate_model::TopicFilter;
use url::form_urlencoded;

use super::Action;
use super::select::{Filters, Which};
use crate::cli::api::{Client, Column, Refusal, Remote, Request, Table, field};
use crate::cli::time::time_us;

/// Exit code 1: a host refused, or could not be reached.
pub(super) fn run(remote: &Remote, action: &Action, now_us: i64) -> anyhow::Result<ExitCode> {
    match action {
        Action::List { filters, limit, after, json } => {
            let mut query = query(filters, now_us)?;
            query.push(("limit", (*limit).min(1_000).to_string()));
            query.push(("after", after.unwrap_or(0).to_string()));
            let path = format!("dead-letters?{}", encoded(&query));
            remote.nodes(*json).ask(&letters(), |client| client.get(&path))
        }
        Action::Show { payload: true, .. } => {
            bail!("--payload shows bytes of the file: leave --node out, or --payload")
        }
        Action::Show { id, json, .. } => {
            remote.nodes(*json).ask(&Table::whole(), |client| client.get(&format!("dead-letters/{id}")))
        }
        Action::Export { .. } => bail!("export reads the file: leave --node out, or `list --json` page by page"),
        Action::Replay { cancel: true, .. } => bail!("--cancel works on the file: leave --node out"),
        Action::Replay { which, json, .. } => change(remote, "replay", "TO BE REPLAYED", which, *json, now_us),
        Action::Purge { dry_run: true, .. } | Action::Purge { compact: true, .. } => {
            bail!("--dry-run and --compact work on the file: leave --node out; `list` says how many match")
        }
        Action::Purge { which, json, .. } => change(remote, "purge", "PURGED", which, *json, now_us),
    }
}

fn change(
    remote: &Remote,
    what: &'static str,
    heading: &'static str,
    which: &Which,
    json: bool,
    now_us: i64,
) -> anyhow::Result<ExitCode> {
    // Refuses what is said in neither way, or in both.
    which.selection(now_us)?;
    let queries: Vec<String> = if which.ids.is_empty() {
        let mut query = query(&which.filters, now_us)?;
        query.extend(which.all.then(|| ("all", "true".to_owned())));
        vec![encoded(&query)]
    } else {
        which.ids.iter().map(|id| format!("id={id}")).collect()
    };
    let columns = vec![Column(heading, |v| field(v, "/letters"))];
    remote.nodes(json).ask(&Table::new("", columns, "nothing"), |client| {
        let each = queries.iter().map(|query| one(client, what, query));
        let letters: u64 = each.sum::<Result<u64, Refusal>>()?;
        Ok(json!({ "letters": letters }))
    })
}

fn one(client: &Client, what: &str, query: &str) -> Result<u64, Refusal> {
    let path = format!("dead-letters/{what}?{query}");
    let done = client.send(&Request { method: "POST", path, body: None, if_match: None })?;
    Ok(done["letters"].as_u64().unwrap_or(0))
}

fn query(filters: &Filters, now_us: i64) -> anyhow::Result<Vec<(&'static str, String)>> {
    if filters.requested {
        bail!("--requested looks into the file: leave --node out");
    }
    let time = |text: &Option<String>| text.as_deref().map(|text| time_us(text, now_us)).transpose();
    let all = [
        ("rule", filters.rule.clone()),
        ("source", filters.source.clone()),
        ("stage", filters.stage.map(|stage| stage.as_str().to_owned())),
        ("topic", filters.topic.as_ref().map(TopicFilter::to_string)),
        ("since_us", time(&filters.since)?.map(|us| us.to_string())),
        ("until_us", time(&filters.until)?.map(|us| us.to_string())),
        ("reason", filters.reason.clone()),
    ];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn encoded(query: &[(&str, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish()
}

fn letters() -> Table {
    let columns = vec![
        Column("ID", |v| field(v, "/id")),
        Column("DIED", |v| field(v, "/died")),
        Column("STAGE", |v| field(v, "/stage")),
        Column("RULE", |v| field(v, "/rule")),
        Column("TOPIC", |v| field(v, "/topic")),
        Column("REASON", |v: &Value| field(v, "/reason")),
    ];
    Table::new("/letters", columns, "no dead letters")
}
