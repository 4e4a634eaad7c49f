//! The same over the API of running hosts.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidegate_model::TopicFilter;
use url::form_urlencoded;

use super::select::{Filters, Which};
use super::{Action, EXPORT_PAGE};
use crate::cli::api::{Client, Column, Hosts, Nodes, Refusal, Request, Table, field};
use crate::cli::print::{print, print_bytes};
use crate::cli::time::time_us;

/// The most of a page.
const MAX_PAGE: u32 = 1_000;

/// Exit code 1: a host refused, or could not be reached.
pub(super) fn run(remote: &Hosts, action: &Action, now_us: i64) -> anyhow::Result<ExitCode> {
    match action {
        Action::List { filters, limit, after, json } => {
            let mut query = query(filters, now_us)?;
            query.push(("limit", (*limit).min(MAX_PAGE).to_string()));
            query.push(after.map_or_else(|| ("newest", "true".to_owned()), |after| ("after", after.to_string())));
            let path = format!("dead-letters?{}", encoded(&query));
            remote.nodes(*json).ask(&letters(), |client| client.get(&path))
        }
        Action::Show { id, payload: true, .. } => payload(&remote.nodes(false), *id),
        Action::Show { id, json, .. } => {
            remote.nodes(*json).ask(&Table::whole(), |client| client.get(&format!("dead-letters/{id}")))
        }
        Action::Export { filters, output } => {
            let (nodes, query) = (remote.nodes(false), query(filters, now_us)?);
            match output {
                None => export(&nodes, &query, io::stdout()).map(|(_, code)| code),
                Some(file) => export_to(&nodes, &query, file),
            }
        }
        Action::Replay { which, cancel: true, json } => {
            change(remote, "cancel-replay", "NOT TO BE REPLAYED", which, *json, now_us, After::Nothing)
        }
        Action::Replay { which, json, .. } => {
            change(remote, "replay", "TO BE REPLAYED", which, *json, now_us, After::Nothing)
        }
        Action::Purge { which, dry_run: true, json, .. } => would_be_purged(remote, which, *json, now_us),
        Action::Purge { which, compact, json, .. } => {
            let after = if *compact { After::Compact } else { After::Nothing };
            change(remote, "purge", "PURGED", which, *json, now_us, after)
        }
    }
}

/// The original bytes of a letter.
fn payload(nodes: &Nodes, id: i64) -> anyhow::Result<ExitCode> {
    if nodes.several() {
        bail!("each host has numbers of its own: name the one that has letter {id}");
    }
    let Some((_, letter)) = nodes.first(|client| client.get(&format!("dead-letters/{id}")))? else {
        return Ok(ExitCode::FAILURE);
    };
    let bytes = match (letter["payload"].as_str(), letter["payload_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD.decode(base64).context("what the host sends is no base64")?,
        (None, None) => bail!("the host shows no payload of letter {id}"),
    };
    print_bytes(&bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn export_to(nodes: &Nodes, query: &[(&'static str, String)], file: &Path) -> anyhow::Result<ExitCode> {
    let opened = File::create_new(file);
    let opened = opened.with_context(|| format!("{} cannot be made; name a new file", file.display()))?;
    let mut to = BufWriter::new(opened);
    let (written, code) = export(nodes, query, &mut to)?;
    to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    print(&format!("{} written to {}\n", super::print::letters(written), file.display()))?;
    Ok(code)
}

/// Writes all letters of all hosts as JSON, one object a line, page by page as they come; with several hosts each says whose it is. Gives how many.
fn export(nodes: &Nodes, query: &[(&'static str, String)], to: impl Write + Send) -> anyhow::Result<(u64, ExitCode)> {
    let sheet = Mutex::new(Sheet { to, written: Ok(0) });
    let code = nodes.ask(&Table::nothing_but(""), |client| {
        let mut after = 0;
        loop {
            let page = [query, &[("limit", EXPORT_PAGE.to_string()), ("after", after.to_string())]].concat();
            let mut page = client.get(&format!("dead-letters?{}", encoded(&page)))?;
            let mut letters = page["letters"].as_array_mut().map(std::mem::take).unwrap_or_default();
            if nodes.several() {
                letters.iter_mut().for_each(|letter| letter["node"] = client.node().into());
            }
            let Some(last) = letters.last() else { return Ok(Value::Null) };
            after = last["id"].as_i64().unwrap_or(i64::MAX);
            if !sheet.lock().unwrap_or_else(PoisonError::into_inner).write(&letters) {
                return Ok(Value::Null);
            }
        }
    })?;
    let Sheet { mut to, written } = sheet.into_inner().unwrap_or_else(PoisonError::into_inner);
    match written.and_then(|written| to.flush().map(|()| written)) {
        Ok(written) => Ok((written, code)),
        // Its reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok((0, code)),
        Err(error) => Err(error).context("the letters cannot be written"),
    }
}

/// What letters of several hosts are written on.
struct Sheet<W> {
    to: W,
    /// How many, or why no more can be.
    written: io::Result<u64>,
}

impl<W: Write> Sheet<W> {
    /// Writes a page; whether there is room for more.
    fn write(&mut self, letters: &[Value]) -> bool {
        let Ok(before) = self.written else { return false };
        let done = letters.iter().try_for_each(|letter| writeln!(self.to, "{letter}"));
        self.written = done.map(|()| before + letters.len() as u64);
        self.written.is_ok()
    }
}

fn would_be_purged(remote: &Hosts, which: &Which, json: bool, now_us: i64) -> anyhow::Result<ExitCode> {
    which.selection(now_us)?;
    let query = [query(&which.filters, now_us)?, vec![("limit", "1".to_owned())]].concat();
    let path = format!("dead-letters?{}", encoded(&query));
    let columns = vec![Column("WOULD BE PURGED", |v| field(v, "/purged"))];
    remote.nodes(json).ask(&Table::new("", columns, "nothing"), |client| {
        let letters = match which.ids.as_slice() {
            [] => client.get(&path)?["matching"].clone(),
            ids => there(client, ids)?.into(),
        };
        Ok(json!({ "purged": letters, "dry_run": true }))
    })
}

/// How many of these a host has.
fn there(client: &Client, ids: &[i64]) -> Result<u64, Refusal> {
    let mut there = 0;
    for id in ids {
        match client.get(&format!("dead-letters/{id}")) {
            Ok(_) => there += 1,
            Err(refusal) if refusal.code() == "not_found" => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(there)
}

/// What is done once letters have been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    Compact,
}

fn change(
    remote: &Hosts,
    what: &'static str,
    heading: &'static str,
    which: &Which,
    json: bool,
    now_us: i64,
    after: After,
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
        if after == After::Compact {
            let path = "dead-letters/compact".to_owned();
            client.send(&Request { method: "POST", path, body: None, if_match: None })?;
        }
        Ok(json!({ "letters": letters }))
    })
}

fn one(client: &Client, what: &str, query: &str) -> Result<u64, Refusal> {
    let path = format!("dead-letters/{what}?{query}");
    let done = client.send(&Request { method: "POST", path, body: None, if_match: None })?;
    Ok(done["letters"].as_u64().unwrap_or(0))
}

fn query(filters: &Filters, now_us: i64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let time = |text: &Option<String>| text.as_deref().map(|text| time_us(text, now_us)).transpose();
    let all = [
        ("rule", filters.rule.clone()),
        ("source", filters.source.clone()),
        ("stage", filters.stage.map(|stage| stage.as_str().to_owned())),
        ("topic", filters.topic.as_ref().map(TopicFilter::to_string)),
        ("since_us", time(&filters.since)?.map(|us| us.to_string())),
        ("until_us", time(&filters.until)?.map(|us| us.to_string())),
        ("reason", filters.reason.clone()),
        ("requested", filters.requested.then(|| "true".to_owned())),
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
