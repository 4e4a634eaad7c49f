//! Answers for whoever asks, however often: made anew so many times a second, and given once more in between.
//!
//! Probes and metrics need no credentials, so anybody may ask for them, and what they cost must not grow with how many do: they are made on
//! the one thread that serves everybody. Nor may one be refused for the others' number: no is what a host is ended for. Who asks at a usual
//! pace always hears what is so now.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::gate::Account;
use crate::problem::Problem;

/// How often a second an answer is made anew.
const FRESH_PER_S: u32 = 100;

/// An answer, and when another may be made.
pub(crate) struct Recent(Mutex<State>);

struct State {
    account: Account,
    last: Option<Page>,
}

/// An answer that can be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub status: StatusCode,
    pub kind: &'static str,
    pub body: Bytes,
}

impl Recent {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { account: Account::new(FRESH_PER_S, now), last: None }))
    }

    /// The answer as `make` makes it now, or the last one.
    pub fn page(&self, now: Instant, make: impl FnOnce() -> Result<Page, Problem>) -> Result<Page, Problem> {
        // Held while it is made: who comes meanwhile gets the same.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = state.account.take(now);
        if let Some(last) = state.last.as_ref().filter(|_| !fresh) {
            return Ok(last.clone());
        }
        let page = make()?;
        state.last = Some(page.clone());
        Ok(page)
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.kind)], self.body).into_response()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    /// Guarantees: however many ask at once, an answer is made a bounded number of times, and all are answered with the newest; a moment later
    /// it is made anew.
    #[test]
    fn made_so_many_times() {
        let (start, made) = (Instant::now(), Cell::new(0));
        let recent = Recent::new(start);
        let ask = |now| {
            recent.page(now, || {
                made.set(made.get() + 1);
                let body = Bytes::from(made.get().to_string());
                Ok(Page { status: StatusCode::OK, kind: "text/plain", body })
            })
        };
        let all: Vec<Page> = (0..10_000).map(|_| ask(start).unwrap()).collect();
        assert_eq!(made.get(), 2 * FRESH_PER_S);
        assert_eq!(all.last().unwrap().body, made.get().to_string());
        let next = ask(start + Duration::from_secs(1) / FRESH_PER_S).unwrap();
        assert_eq!(next.body, (2 * FRESH_PER_S + 1).to_string());
    }

    /// Guarantees: what could not be made is no answer for those who come next.
    #[test]
    fn failures_are_not_kept() {
        let start = Instant::now();
        let recent = Recent::new(start);
        recent.page(start, || Err(Problem::internal("no"))).unwrap_err();
        let page = Page { status: StatusCode::OK, kind: "text/plain", body: Bytes::new() };
        assert_eq!(recent.page(start, || Ok(page.clone())).unwrap(), page);
    }
}
