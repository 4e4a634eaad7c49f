//! What must hold for a change to be made.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Known;
use crate::problem::Problem;

/// `If-Match` and `If-None-Match` of its request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    matches: Option<String>,
    absent: bool,
}

impl Condition {
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text =
            |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default().trim().to_owned());
        let absent = match text(header::IF_NONE_MATCH).as_deref() {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Problem::bad("If-None-Match can only be `*` here: make it, do not replace it")),
        };
        Ok(Self { matches: text(header::IF_MATCH), absent })
    }

    /// The same for all rules together, of which `etag` is the ETag.
    pub(super) fn check_whole(&self, etag: &str) -> Result<(), Problem> {
        if self.absent {
            return Err(Problem::bad("If-None-Match means nothing for all rules together, which are always there"));
        }
        let matches = |tags: &String| tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag);
        if self.matches.as_ref().is_none_or(matches) {
            return Ok(());
        }
        let detail = format!("the rules have been changed since; their ETag is {etag} now");
        Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed_since", detail))
    }

    pub(super) fn check(&self, known: Option<&Known>) -> Result<(), Problem> {
        let failed = |detail: String| Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed_since", detail));
        if let Some(known) = known.filter(|_| self.absent) {
            return failed(format!("there is a rule {:?} already", known.status.name));
        }
        match (self.matches.as_deref(), known) {
            (None, _) | (Some("*"), Some(_)) => Ok(()),
            (Some(_), None) => failed("there is no such rule (any more)".to_owned()),
            // Weak tags never match for a change (RFC 9110, 13.1.1).
            (Some(tags), Some(known)) if tags.split(',').any(|tag| tag.trim() == known.etag()) => Ok(()),
            (Some(_), Some(known)) => {
                failed(format!("the rule has been changed since; its ETag is {} now", known.etag()))
            }
        }
    }
}
