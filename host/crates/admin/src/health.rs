//! Is it alive, is it ready, how is it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tidegate_engine::RuleState;
use tidegate_model::Phase;

use crate::status::View;

/// The answer of the health routes.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    /// Why it is not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// `/livez`: whether the process does its work; if not, restart it.
pub(crate) async fn live(State(view): State<View>) -> (StatusCode, Json<Health>) {
    let dead = "a lane or a sink's task has ended by itself: this is a bug of the host, and its log says more";
    answer(if view.pipeline.alive() { Vec::new() } else { vec![dead.into()] })
}

/// `/readyz`: whether messages flow from end to end. `degraded` is our own doing: a ledger that does not balance.
pub(crate) async fn ready(State(view): State<View>) -> (StatusCode, Json<Health>) {
    let reasons = blocked(&view);
    let findings = view.pipeline.audit();
    if reasons.is_empty() && !findings.is_empty() {
        return (StatusCode::OK, Json(Health { status: "degraded", reasons: findings }));
    }
    answer(reasons)
}

/// `/health`: ready, and every rule as its author meant it. A rule that fails does not make the node unready.
pub(crate) async fn health(State(view): State<View>) -> (StatusCode, Json<Health>) {
    let reasons = blocked(&view);
    if !reasons.is_empty() {
        return answer(reasons);
    }
    let rules = view.registry.rules().into_iter();
    let ill = rules
        .filter(|rule| rule.problem.is_some() || matches!(rule.state, RuleState::Failed | RuleState::Quarantined));
    let reasons: Vec<String> =
        ill.map(|rule| format!("rule {}: {}", rule.name, rule.problem.unwrap_or_default())).collect();
    let status = if reasons.is_empty() { "ok" } else { "degraded" };
    (StatusCode::OK, Json(Health { status, reasons }))
}

fn blocked(view: &View) -> Vec<String> {
    if view.pipeline.phase() != Phase::Running {
        return vec!["the host is shutting down".into()];
    }
    let status = view.pipeline.status();
    let sources = status.sources.into_iter().filter(|source| !source.up).map(|source| {
        let why = source.down.unwrap_or_else(|| "it has not connected yet".into());
        format!("source {}: {why}", source.name)
    });
    let sinks = status.sinks.into_iter().filter_map(|sink| Some(format!("sink {}: {}", sink.name, sink.down?)));
    sources.chain(sinks).collect()
}

fn answer(reasons: Vec<String>) -> (StatusCode, Json<Health>) {
    if reasons.is_empty() {
        (StatusCode::OK, Json(Health { status: "ok", reasons }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "unavailable", reasons }))
    }
}
