//! Is it alive, is it ready, how is it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_engine::RuleState;
use tidegate_model::Phase;
use tidegate_pipeline::{PipelineStatus, SinkTotals};

use crate::route::{Answer, Call};
use crate::status::View;

/// The answer of the health routes.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    /// `ok`, `degraded` or `unavailable`.
    status: &'static str,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// `/livez`: whether the process does its work; if not, restart it.
pub(crate) async fn live(call: Call) -> Answer {
    let view = &call.house.view;
    let dead = "a lane or a sink's task has ended by itself: this is a bug of the host, and its log says more";
    answer(if view.pipeline.alive() { Vec::new() } else { vec![dead.into()] })
}

/// `/readyz`: whether messages flow from end to end, or at least to where they are durable. `degraded` is what does not stop them: a sink
/// that is down while its spool takes what comes, a spool that could not take it, one of several partitions that is not read, state that cannot
/// be kept, and our own doing, a ledger that does not balance.
pub(crate) async fn ready(call: Call) -> Answer {
    let view = &call.house.view;
    let status = view.pipeline.status();
    let reasons = blocked(view, &status);
    let mut findings = view.pipeline.audit();
    findings.extend(status.sinks.iter().flat_map(impaired));
    let unread = status.sources.iter().flat_map(|source| source.unread.iter().map(move |unread| (source, unread)));
    findings.extend(unread.map(|(source, unread)| format!("source {}: {}", source.name, unread.reason)));
    let state = status.state.and_then(|state| state.down);
    findings.extend(state.map(|why| {
        format!("the state of rules cannot be kept, and sources with `journal` come to a stand, since they acknowledge nothing: {why}")
    }));
    if reasons.is_empty() && !findings.is_empty() {
        return Ok((StatusCode::OK, Json(Health { status: "degraded", reasons: findings })).into_response());
    }
    answer(reasons)
}

/// `/health`: ready, and every rule as its author meant it. A rule that fails does not make the node unready.
pub(crate) async fn health(call: Call) -> Answer {
    let view = &call.house.view;
    let reasons = blocked(view, &view.pipeline.status());
    if !reasons.is_empty() {
        return answer(reasons);
    }
    let rules = view.registry.rules().into_iter();
    let ill = rules
        .filter(|rule| rule.problem.is_some() || matches!(rule.state, RuleState::Failed | RuleState::Quarantined));
    let reasons: Vec<String> =
        ill.map(|rule| format!("rule {}: {}", rule.name, rule.problem.unwrap_or_default())).collect();
    let status = if reasons.is_empty() { "ok" } else { "degraded" };
    Ok((StatusCode::OK, Json(Health { status, reasons })).into_response())
}

fn blocked(view: &View, status: &PipelineStatus) -> Vec<String> {
    if view.pipeline.phase() != Phase::Running {
        return vec!["the host is shutting down".into()];
    }
    let sources = status.sources.iter().filter(|source| !source.up).map(|source| {
        let why = source.down.as_deref().unwrap_or("it has not connected yet");
        format!("source {}: {why}", source.name)
    });
    let sinks = status.sinks.iter().filter_map(|sink| {
        let held = sink.holds_back.as_ref()?;
        Some(match sink.down.as_ref().filter(|down| *down != held) {
            Some(down) => format!("sink {}: {down}; its spool takes nothing: {held}", sink.name),
            None => format!("sink {}: {held}", sink.name),
        })
    });
    sources.chain(sinks).collect()
}

/// What is wrong with a sink that does not hold messages back.
fn impaired(sink: &SinkTotals) -> Vec<String> {
    let Some(spool) = sink.spool.as_ref().filter(|_| sink.holds_back.is_none()) else { return Vec::new() };
    let down = sink
        .down
        .as_ref()
        .map(|why| format!("sink {}: {why}; its spool takes what comes, {} rows stand in it", sink.name, spool.rows));
    let unusable = spool.unusable.as_ref().map(|why| format!("the spool of sink {}: {why}", sink.name));
    down.into_iter().chain(unusable).collect()
}

fn answer(reasons: Vec<String>) -> Answer {
    let (code, status) =
        if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    Ok((code, Json(Health { status, reasons })).into_response())
}
