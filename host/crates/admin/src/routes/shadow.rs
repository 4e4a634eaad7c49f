//! Shadows: started, looked at, let go, promoted.

use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::json;
use super::rules::changed;
use crate::problem::{Mistake, Problem};
use crate::route::{Answer, Call};
use crate::rules::Condition;
use crate::shapes::{PromoteInput, ShadowInput};

/// The share of a lane's time that a shadow may have, where nobody says otherwise: percent.
const SHARE: u32 = 25;

pub(crate) async fn get(call: Call) -> Answer {
    Ok(json(call.app.desk.shadow(&call.name())?.in_short()))
}

pub(crate) async fn differences(call: Call) -> Answer {
    Ok(json(call.app.desk.shadow(&call.name())?))
}

pub(crate) async fn start(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let ShadowInput { definition, state, max_share_percent } = call.body.json().await?;
    let share = max_share_percent.unwrap_or(SHARE);
    if !(1..=100).contains(&share) {
        let detail = format!("max_share_percent cannot be {share}: choose from 1 to 100");
        return Err(Problem::unusable("body", detail.clone(), vec![Mistake::new("/max_share_percent", detail)]));
    }
    let started =
        app.blocking(move |app| app.desk.start_shadow(&name, &definition, state.into(), share, &condition)).await?;
    let (shadow, changed) = started?;
    let mut response = json(shadow.in_short());
    response.extensions_mut().insert(changed);
    Ok(response)
}

pub(crate) async fn stop(call: Call) -> Answer {
    let (name, condition) = (call.name(), Condition::of(&call.headers)?);
    let changed = call.app.blocking(move |app| app.desk.end_shadow(&name, &condition)).await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(changed);
    Ok(response)
}

pub(crate) async fn promote(call: Call) -> Answer {
    let (app, name, condition) = (call.app.clone(), call.name(), Condition::of(&call.headers)?);
    let with: PromoteInput = call.body.json().await?;
    changed(app.blocking(move |app| app.desk.promote(&name, with.state.into(), &condition)).await?)
}
