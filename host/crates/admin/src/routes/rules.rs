//! Rules: seen, made, changed, switched, taken away.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::RuleStatus;
use tidegate_model::SeriesId;
use tidegate_pipeline::{Kept, Reset};

use super::{json, listed};
use crate::app_state::AppState;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::rules::{Condition, Desk, Known, Outcome};
use crate::shapes::{ResetQuery, RollbackInput, StateReset};

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a RuleStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a RuleFile>,
}

pub(crate) async fn list(call: Call) -> Answer {
    let rules = call.app.view.registry.rules();
    listed(&call.app, rules.len(), rules).await
}

pub(crate) async fn get(call: Call) -> Answer {
    Ok(shown(&call.app.desk.rule(&call.name())?, StatusCode::OK))
}

pub(crate) async fn put(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let definition: Value = call.body.json().await?;
    changed(app.blocking(move |app| app.desk.put(&name, &definition, &condition)).await?)
}

pub(crate) async fn patch(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let patch: Value = call.body.json().await?;
    changed(app.blocking(move |app| app.desk.patch(&name, &patch, &condition)).await?)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let (name, condition) = (call.name(), Condition::of(&call.headers)?);
    let change = call.app.blocking(move |app| app.desk.delete(&name, &condition)).await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}

pub(crate) async fn enable(call: Call) -> Answer {
    let condition = Condition::of(&call.headers)?;
    at_desk(call, move |desk, name| desk.switch(name, true, &condition)).await
}

pub(crate) async fn disable(call: Call) -> Answer {
    let condition = Condition::of(&call.headers)?;
    at_desk(call, move |desk, name| desk.switch(name, false, &condition)).await
}

pub(crate) async fn retry(call: Call) -> Answer {
    let condition = Condition::of(&call.headers)?;
    at_desk(call, move |desk, name| desk.retry(name, &condition)).await
}

pub(crate) async fn reset_state(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let query: ResetQuery = call.query()?;
    let reset = app.blocking(move |app| {
        let of = whose(app, &query)?;
        app.desk.with_rule(&name, &condition, |name| Ok(app.view.pipeline.reset_state(name, of)?))
    });
    let tidegate_pipeline::StateReset { cells, kept } = reset.await??;
    Ok(json(StateReset { cells, durable: kept == Kept::Now }))
}

/// The part of a state that is meant. A name that is not known has none anywhere.
fn whose(app: &AppState, query: &ResetQuery) -> Result<Reset, Problem> {
    let books = &app.view.books;
    match (&query.series, &query.partition) {
        (None, None) => Ok(Reset::Everything),
        (Some(topic), None) => {
            let found = books.all_series().find(topic).map(|id| Reset::Series(SeriesId(id)));
            found.ok_or_else(|| Problem::missing("there is no such series; GET /api/v1/series lists them"))
        }
        (None, Some(name)) => {
            let found = books.find_partition(name).map(Reset::Partition);
            found.ok_or_else(|| Problem::missing("there is no such partition"))
        }
        (Some(_), Some(_)) => Err(Problem::bad("`series` or `partition`, not both")),
    }
}

pub(crate) async fn versions(call: Call) -> Answer {
    Ok(json(call.app.desk.versions(&call.name())?))
}

pub(crate) async fn rollback(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let to: RollbackInput = call.body.json().await?;
    changed(app.blocking(move |app| app.desk.rollback(&name, to.generation, &condition)).await?)
}

async fn at_desk(call: Call, work: impl FnOnce(&Desk, &str) -> Result<Outcome, Problem> + Send + 'static) -> Answer {
    let name = call.name();
    changed(call.app.blocking(move |app| work(&app.desk, &name)).await?)
}

pub(super) fn changed(outcome: Result<Outcome, Problem>) -> Answer {
    let Outcome { rule, created, changed } = outcome?;
    let mut response = shown(&rule, if created { StatusCode::CREATED } else { StatusCode::OK });
    response.extensions_mut().insert(changed);
    Ok(response)
}

fn shown(known: &Known, status: StatusCode) -> Response {
    let shown = Shown { status: &known.status, file: known.file.as_ref() };
    let mut response = (status, Json(shown)).into_response();
    if let Ok(etag) = HeaderValue::from_str(known.etag()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
