//! What went wrong, in the form of RFC 9457 (`application/problem+json`): the one form in which this interface refuses.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_config::ConfigErrors;
use tidegate_engine::LoadError;

/// The content type of all refusals.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not done. Boxed: it is the other side of nearly every result here, and seldom.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Details>);

/// Why a request was not done.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Details {
    /// Always `about:blank`: `code` says more.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status, in words.
    title: Cow<'static, str>,
    /// The HTTP status.
    status: u16,
    /// What happened, and what to do about it.
    detail: String,
    /// A word for programs, which stays the same.
    code: &'static str,
    /// What is wrong with what was sent, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Mistake>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One mistake in what was sent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Mistake {
    /// Where: a JSON pointer (RFC 6901) into the body; empty for all of it.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// The request says something that cannot be.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// What it is about is not there.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// It does not go with how things are now.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// What was sent can be read, and is wrong.
    pub fn unusable(code: &'static str, detail: impl Into<String>, errors: Vec<Mistake>) -> Self {
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        problem.0.errors = errors;
        problem
    }

    /// Something of ours failed.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// It could be done later.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).with(header::RETRY_AFTER, "1")
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.0.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// With more words.
    #[must_use]
    pub fn adding(mut self, words: &str) -> Self {
        self.0.detail += words;
        self
    }

    /// The same, where what has mistakes stands below `place` in the body.
    #[must_use]
    pub fn below(mut self, place: &str) -> Self {
        self.0.errors.iter_mut().for_each(|mistake| mistake.pointer.insert_str(0, place));
        self
    }

    /// What is wrong with what stands at `place` in a larger body.
    pub fn mistakes_at(self, place: &str) -> Vec<Mistake> {
        let detail = self.0.detail.clone();
        let mistakes = self.below(place).0.errors;
        if mistakes.is_empty() { vec![Mistake::new(place, detail)] } else { mistakes }
    }

    /// The body of the answer.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// The word for programs.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl Mistake {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl From<ConfigErrors> for Problem {
    fn from(errors: ConfigErrors) -> Self {
        let mistakes =
            errors.iter().map(|e| Mistake::new(e.pointer.clone(), format!("{}; {}", e.what, e.todo))).collect();
        Problem::unusable("definition", "the rule's definition has mistakes", mistakes)
    }
}

impl From<LoadError> for Problem {
    /// By the error's own code; its place is known where there is only one.
    fn from(error: LoadError) -> Self {
        let text = error.to_string();
        match &error {
            LoadError::Busy(_) => Problem::busy(text),
            LoadError::Compiler(_) => Problem::internal(text),
            LoadError::Config(_) => {
                let mistake = Mistake::new("/config", text.clone());
                Problem::unusable(error.code(), text, vec![mistake])
            }
            _ => Problem::unusable(error.code(), text, Vec::new()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.json();
        let mut response = (self.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        response.headers_mut().extend(self.0.headers);
        response
    }
}
