//! The whole of a host's rules: given, taken, and held against what should be.

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::json;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::rules::{Condition, Mode, Others};
use crate::shapes::{ConvergeQuery, Document, ExportQuery};

pub(crate) async fn export(call: Call) -> Answer {
    let modules = call.query::<ExportQuery>()?.modules.unwrap_or(true);
    let _place = call.app.at_work()?;
    let exported = call.app.blocking(move |app| {
        let (document, etag) = app.desk.export(modules, &app.view.configuration)?;
        Ok(tagged(json(document), &etag))
    });
    exported.await?
}

/// What the document does not name stays.
pub(crate) async fn import(call: Call) -> Answer {
    converge(call, Others::Stay).await
}

/// What the document does not name goes.
pub(crate) async fn desired(call: Call) -> Answer {
    converge(call, Others::Go).await
}

async fn converge(call: Call, others: Others) -> Answer {
    let mode = if call.query::<ConvergeQuery>()?.plan.unwrap_or(false) { Mode::Plan } else { Mode::Apply };
    let (app, condition) = (call.app.clone(), Condition::of(&call.headers)?);
    let place = app.incoming()?;
    let document: Document = call.body.seated(&place).document().await?;
    let done = app.in_place(app.turn().await?, move |app| {
        let (converged, changed) = app.desk.converge(&document, others, mode, &condition, &app.view.configuration)?;
        Ok::<_, Problem>((tagged(json(&converged), &converged.etag), changed))
    });
    let (mut response, changed) = done.await??;
    response.extensions_mut().insert(changed);
    Ok(response)
}

fn tagged(mut response: Response, etag: &str) -> Response {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
