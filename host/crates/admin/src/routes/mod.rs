//! What the routes do. Which there are, and for whom, stands in `table.rs`.

pub(crate) mod alerts;
pub(crate) mod backtests;
pub(crate) mod desired;
pub(crate) mod documents;
pub(crate) mod letters;
pub(crate) mod modules;
mod outcome;
pub(crate) mod rules;
pub(crate) mod shadow;
mod show;
pub(crate) mod state;
pub(crate) mod tail;
pub(crate) mod trace;
pub(crate) mod trial;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_engine::{Rule, Scope};

use crate::app_state::AppState;
use crate::problem::Problem;
use crate::route::Answer;
use crate::server::is_own_thread;

/// What most answers have room in, and what allocators have at hand.
const USUAL_BYTES: usize = 1 << 10;
/// What a longer one may take up in vain.
const SPARE_BYTES: usize = 4 << 10;
/// So many headers an answer has, with those that all have.
const HEADERS: usize = 8;
/// What is not made on the interface's own thread: it would keep all others for a millisecond and more.
const BESIDE_BYTES: usize = 256 << 10;
/// A list of more is made beside it.
const LISTED_AT_ONCE: usize = 200;

/// An answer of 200 with JSON. One that can be long is made where what it tells of was, beside the interface's own thread.
fn json(value: impl Serialize) -> Response {
    // Into a `Vec`, which takes the many small pieces of JSON for less than any other buffer.
    let mut body = Vec::with_capacity(USUAL_BYTES);
    match serde_json::to_writer(&mut body, &value) {
        Ok(()) => {
            debug_assert!(
                body.len() < BESIDE_BYTES || !is_own_thread(),
                "{} bytes are to be made beside",
                body.len()
            );
            // It may wait for its reader for long.
            if body.capacity() - body.len() > SPARE_BYTES {
                body.shrink_to_fit();
            }
            let mut response = Response::new(Body::from(body));
            response.headers_mut().reserve(HEADERS);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => Problem::internal(error.to_string()).into_response(),
    }
}

/// The same of a list of so many, on the interface's own thread where that is short.
async fn listed(app: &Arc<AppState>, many: usize, value: impl Serialize + Send + 'static) -> Answer {
    if many <= LISTED_AT_ONCE {
        return Ok(json(value));
    }
    app.look_up(move |_| json(value)).await
}

/// Where a rule stands among those that serve, as lanes have them: rules of the whole node come after all others.
fn place(rule: &Rule) -> (bool, i32, Arc<str>) {
    (rule.module.description().scope == Scope::Node, rule.order, rule.name.clone())
}

/// Microseconds since 1970-01-01 UTC.
fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
