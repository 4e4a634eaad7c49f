//! Modules: taken in, seen, deleted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::Value;
use tidegate_engine::{MAX_MODULE_BYTES, MAX_WASI_MODULE_BYTES, Wasi};

use super::json;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::rules::{Mode, WhichModules};
use crate::shapes::{ModulePart, PruneQuery, UploadQuery};

pub(crate) async fn list(call: Call) -> Answer {
    call.app.look_up(|app| app.desk.modules().map(json)).await?
}

pub(crate) async fn get(call: Call) -> Answer {
    let sha256 = call.name();
    Ok(json(call.app.look_up(move |app| app.desk.module(&sha256)).await??))
}

/// From the socket to a hidden file, piece by piece; then looked over, and put in place.
pub(crate) async fn upload(call: Call) -> Answer {
    let wasi = wasi(&call)?;
    let most = match wasi {
        Wasi::Refused => MAX_MODULE_BYTES,
        Wasi::Empty => MAX_WASI_MODULE_BYTES,
    };
    let app = call.app.clone();
    let place = app.incoming()?;
    let body = call.body.seated(&place);
    let upload = Arc::new(Mutex::new(Some(app.in_place(place.clone(), |app| app.desk.upload()).await??)));
    let each = |piece: Bytes| {
        let (app, upload, place) = (app.clone(), upload.clone(), place.clone());
        async move {
            let push = move |_: &crate::app_state::AppState| match upload
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_mut()
            {
                Some(upload) => upload.push(&piece),
                None => Ok(()),
            };
            app.in_place(place, push).await?
        }
    };
    body.module(most, each).await?;
    let whole = upload.lock().unwrap_or_else(PoisonError::into_inner).take();
    let whole = whole.ok_or_else(|| Problem::internal("the upload was lost"))?;
    let kept = app.in_place(app.turn().await?, move |app| app.desk.keep(whole, wasi)).await??;
    let status = if kept.new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(kept.module)).into_response();
    response.extensions_mut().insert(kept.changed);
    Ok(response)
}

/// Into memory, and nowhere else.
pub(crate) async fn on_trial(call: Call) -> Answer {
    let (app, wasi) = (call.app.clone(), wasi(&call)?);
    let place = app.incoming()?;
    let part: ModulePart = call.body.seated(&place).document().await?;
    Ok(json(app.in_place(app.turn().await?, move |app| app.desk.take_on_trial(&part, wasi)).await??))
}

fn wasi(call: &Call) -> Result<Wasi, Problem> {
    Ok(Wasi::allowed(call.query::<UploadQuery>()?.wasi.unwrap_or(false)))
}

/// Before its module, or after.
pub(crate) async fn vouch(call: Call) -> Answer {
    let (app, sha256) = (call.app.clone(), call.name());
    let manifest: Value = call.body.json().await?;
    let taken = app.blocking(move |app| app.desk.vouch(&sha256, &manifest)).await??;
    let status = if taken.new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(taken.signature)).into_response();
    response.extensions_mut().insert(taken.changed);
    Ok(response)
}

pub(crate) async fn content(call: Call) -> Answer {
    let (app, sha256) = (call.app.clone(), call.name());
    let _place = app.at_work()?;
    let bytes = app.look_up(move |app| app.desk.content(&sha256)).await??;
    Ok(([(header::CONTENT_TYPE, "application/wasm")], bytes).into_response())
}

pub(crate) async fn delete(call: Call) -> Answer {
    let sha256 = call.name();
    let change = call.app.blocking(move |app| app.desk.delete_module(&sha256)).await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}

/// Nothing said is not everything: that would be a slip that cannot be taken back.
pub(crate) async fn prune(call: Call) -> Answer {
    let PruneQuery { older_than_s, keep, plan } = call.query()?;
    if older_than_s.is_none() && keep.is_none() {
        return Err(Problem::bad("say which: `older_than_s`, `keep`, or both"));
    }
    let older_than = Duration::from_secs(older_than_s.unwrap_or(0).into());
    let which = WhichModules { older_than, keep: keep.unwrap_or(0) as usize };
    let mode = if plan.unwrap_or(false) { Mode::Plan } else { Mode::Apply };
    let (pruned, changed) = call.app.blocking(move |app| app.desk.prune(which, mode)).await??;
    let mut response = json(pruned);
    response.extensions_mut().insert(changed);
    Ok(response)
}
