//! Is it alive, is it ready, how is it.
//!
//! Anybody may ask. What databases, brokers and modules have said may have names of users and machines in it: that hears who may read.

use std::fmt::Display;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_engine::RuleState;
use tidegate_model::Phase;
use tidegate_pipeline::{PipelineStatus, SinkTotals};

use crate::problem::Problem;
use crate::recent::Page;
use crate::route::{Answer, Call, Sees};
use crate::status::View;

/// The most rules that are named while the host starts.
const MOST_NAMED: usize = 10;

/// The answer of the health routes.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Health {
    /// `ok`, `degraded` or `unavailable`.
    status: &'static str,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// `/livez`: whether the process does its work; if not, restart it.
pub(crate) async fn live(call: Call) -> Answer {
    let view = &call.app.view;
    let dead = "a lane or a sink's task has ended by itself: this is a bug of the host, and its log says more";
    let dead = if view.pipeline.alive() { None } else { Some(Finding::plain(dead)) };
    Ok(page(call.sees, dead.into_iter().collect(), Vec::new())?.into_response())
}

/// Something that is not as it should be.
#[derive(Clone)]
struct Finding {
    /// What anybody may know: names and our own words.
    short: String,
    /// With what a database, a broker or a module has said.
    full: String,
}

impl Finding {
    fn new(of: impl Display, what: impl Display, why: impl Display) -> Self {
        Self { short: format!("{of}: {what}"), full: format!("{of}: {why}") }
    }

    /// In our own words only.
    fn plain(text: impl Into<String>) -> Self {
        let full = text.into();
        Self { short: full.clone(), full }
    }
}

/// `/readyz`: whether messages flow from end to end, or at least to where they are durable. `degraded` is what does not stop them: a sink
/// that is down while its spool takes what comes, a spool that could not take it, one of several partitions that is not read, its database's own jobs that fail, state that cannot
/// be kept, and our own doing, a ledger that does not balance.
pub(crate) async fn ready(call: Call) -> Answer {
    let view = &call.app.view;
    let page = call.app.pages.ready.of(call.sees).page(Instant::now(), || {
        let status = view.pipeline.status();
        page(call.sees, blocked(view, &status), impaired(view, &status))
    });
    Ok(page?.into_response())
}

/// `/health`: ready, and every rule as its author meant it. A rule that fails does not make the node unready.
pub(crate) async fn health(call: Call) -> Answer {
    let view = &call.app.view;
    let page = call
        .app
        .pages
        .health
        .of(call.sees)
        .page(Instant::now(), || page(call.sees, blocked(view, &view.pipeline.status()), ill(view)));
    Ok(page?.into_response())
}

fn page(sees: Sees, blocked: Vec<Finding>, less: Vec<Finding>) -> Result<Page, Problem> {
    let status = if blocked.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let health = judged(sees, blocked, less);
    let body = serde_json::to_vec(&health).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Page { status, kind: "application/json", body: body.into() })
}

/// What stops messages makes a host unavailable; it is `degraded` by what else is not as it should be.
fn judged(sees: Sees, blocked: Vec<Finding>, less: Vec<Finding>) -> Health {
    let (word, findings) = match (blocked.is_empty(), less.is_empty()) {
        (true, true) => ("ok", less),
        (true, false) => ("degraded", less),
        (false, _) => ("unavailable", blocked),
    };
    let told = |finding: Finding| match sees {
        Sees::Names => finding.short,
        Sees::Reasons => finding.full,
    };
    Health { status: word, reasons: findings.into_iter().map(told).collect() }
}

impl Health {
    /// All that `/readyz` and `/health` know, for who may read: what stops messages, or else all that is not as it should be.
    pub(crate) fn of(view: &View, status: &PipelineStatus) -> Self {
        let less = [impaired(view, status), ill(view)].concat();
        judged(Sees::Reasons, blocked(view, status), less)
    }
}

fn blocked(view: &View, status: &PipelineStatus) -> Vec<Finding> {
    if view.pipeline.phase() != Phase::Running {
        return vec![Finding::plain("the host is shutting down")];
    }
    if view.registry.is_starting() {
        let pending = view.registry.rules().into_iter().filter(|rule| rule.state == RuleState::Pending);
        let pending: Vec<String> = pending.map(|rule| rule.name).take(MOST_NAMED).collect();
        let of = "the host is starting: its rules are looked over first";
        let full =
            if pending.is_empty() { of.to_owned() } else { format!("{of}; to be compiled: {}", pending.join(", ")) };
        return vec![Finding { short: of.to_owned(), full }];
    }
    let sources = status.sources.iter().filter(|source| !source.up).map(|source| {
        let why = source.down.as_deref().unwrap_or("it has not connected yet");
        Finding::new(format_args!("source {}", source.name), "it is not connected", why)
    });
    let sinks = status.sinks.iter().filter_map(|sink| {
        let held = sink.holds_back.as_ref()?;
        let (of, what) = (format!("sink {}", sink.name), "it is down, and messages wait for it");
        Some(match sink.down.as_ref().filter(|down| *down != held) {
            Some(down) => Finding::new(of, what, format_args!("{down}; its spool takes nothing: {held}")),
            None => Finding::new(of, what, held),
        })
    });
    sources.chain(sinks).collect()
}

/// What is wrong and does not stop messages.
fn impaired(view: &View, status: &PipelineStatus) -> Vec<Finding> {
    let mut findings: Vec<Finding> = view.pipeline.audit().into_iter().map(Finding::plain).collect();
    findings.extend(status.sinks.iter().flat_map(of_sink));
    findings.extend(status.sinks.iter().filter(|sink| !sink.failed_jobs.is_empty()).map(|sink| {
        let what = "jobs of its database fail";
        let why =
            format!("{what}: {}; timescaledb_information.job_errors has their reasons", sink.failed_jobs.join(", "));
        Finding::new(format_args!("sink {}", sink.name), what, why)
    }));
    let unread = status.sources.iter().flat_map(|source| source.unread.iter().map(move |unread| (source, unread)));
    findings.extend(unread.map(|(source, unread)| {
        let what = format!("partition {} of {} is not read", unread.partition, unread.topic);
        Finding::new(format_args!("source {}", source.name), what, &unread.reason)
    }));
    let state = status.state.as_ref().and_then(|state| state.down.as_ref());
    findings.extend(state.map(|why| {
        let what = "the state of rules cannot be kept, and sources with `journal` come to a stand, since they acknowledge nothing";
        Finding { short: what.to_owned(), full: format!("{what}: {why}") }
    }));
    findings
}

/// What is wrong with a sink that does not hold messages back.
fn of_sink(sink: &SinkTotals) -> Vec<Finding> {
    let Some(spool) = sink.spool.as_ref().filter(|_| sink.holds_back.is_none()) else { return Vec::new() };
    let stand = format!("its spool takes what comes, {} rows stand in it", spool.rows);
    let down = sink.down.as_ref().map(|why| {
        Finding::new(
            format_args!("sink {}", sink.name),
            format_args!("it is down; {stand}"),
            format_args!("{why}; {stand}"),
        )
    });
    let unusable = spool.unusable.as_ref();
    let unusable =
        unusable.map(|why| Finding::new(format_args!("the spool of sink {}", sink.name), "it cannot be used", why));
    down.into_iter().chain(unusable).collect()
}

/// The rules that are not as they should be.
fn ill(view: &View) -> Vec<Finding> {
    let rules = view.registry.rules().into_iter();
    let ill = rules
        .filter(|rule| rule.problem.is_some() || matches!(rule.state, RuleState::Failed | RuleState::Quarantined));
    ill.map(|rule| {
        let code = rule.problem_code.unwrap_or("failed");
        Finding::new(format_args!("rule {}", rule.name), code, rule.problem.unwrap_or_default())
    })
    .collect()
}
