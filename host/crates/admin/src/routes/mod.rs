//! What the routes do. Which there are, and for whom, stands in `table.rs`.

pub(crate) mod backtests;
pub(crate) mod desired;
pub(crate) mod documents;
pub(crate) mod letters;
pub(crate) mod modules;
pub(crate) mod rules;
pub(crate) mod state;
pub(crate) mod trial;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer of 200 with JSON.
fn json(value: impl Serialize) -> Response {
    (StatusCode::OK, Json(value)).into_response()
}
