//! The routes under `/api/v1`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidegate_engine::RuleStatus;

use crate::status::{Status, View};

/// `GET /api/v1/status`
pub(crate) async fn status(State(view): State<View>) -> Json<Status> {
    Json(view.status())
}

/// `GET /api/v1/rules`
pub(crate) async fn rules(State(view): State<View>) -> Json<Vec<RuleStatus>> {
    Json(view.registry.rules())
}

/// `GET /api/v1/rules/{name}`
pub(crate) async fn rule(State(view): State<View>, Path(name): Path<String>) -> Response {
    match view.registry.rule(&name) {
        Some(rule) => Json(rule).into_response(),
        None => unknown(&name),
    }
}

/// `POST /api/v1/rules/{name}/enable`: answers when the rule serves, or with why it cannot.
pub(crate) async fn enable(State(view): State<View>, Path(name): Path<String>) -> Response {
    switch(view, name, true).await
}

/// `POST /api/v1/rules/{name}/disable`: answers when no lane calls the rule any more.
pub(crate) async fn disable(State(view): State<View>, Path(name): Path<String>) -> Response {
    switch(view, name, false).await
}

async fn switch(view: View, name: String, enabled: bool) -> Response {
    if view.registry.rule(&name).is_none() {
        return unknown(&name);
    }
    let (registry, rule) = (view.registry.clone(), name.clone());
    let done = tokio::task::spawn_blocking(move || registry.set_enabled(&rule, enabled)).await;
    match done {
        Ok(Ok(())) => match view.registry.rule(&name) {
            Some(rule) => Json(rule).into_response(),
            None => unknown(&name),
        },
        Ok(Err(problem)) => refuse(StatusCode::CONFLICT, &problem),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the registry failed; see the log"),
    }
}

fn unknown(name: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, &format!("there is no rule {name:?}; GET /api/v1/rules lists them"))
}

pub(crate) fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
