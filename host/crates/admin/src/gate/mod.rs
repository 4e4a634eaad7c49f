//! The way of a request from its first byte to its answer: the same for every route, so that none can leave a step out.
//!
//! In this order: is it for this machine, and of no foreign page; is there such a route; who asks, and may they; are they within
//! their rate; may rules be changed here at all; is the body what the route takes; is it in the audit log that it begins. Then the
//! route runs. What it did stands in the audit log before the answer is sent; so do refusals for want of a right, in one of their own.

mod audit;
mod audit_reader;
mod audit_writer;
mod credentials;
mod pace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts};
use axum::response::{IntoResponse, Response};
use tidegate_config::{Admin as Settings, Changes, Scope};

pub(crate) use audit::Book;
pub(crate) use audit_reader::{Found as FoundLines, Wanted as WantedLines, past};
pub(crate) use audit_writer::AuditWriter;
pub(crate) use credentials::Peer;
pub(crate) use pace::Account;

use crate::app_state::AppState;
use crate::body::Body;
use crate::gate::audit_writer::Deed;
use crate::gate::credentials::{Caller, Credentials, Unknown};
use crate::gate::pace::{Pace, Payer};
use crate::problem::Problem;
use crate::route::{Call, Effect, Need, Route, Sees, Takes};
use crate::table::{Found, Table};

/// The longest path and query that is looked at.
const MAX_URI_BYTES: usize = 4096;

/// What a route has changed, for the audit log: put into the extensions of its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Lets requests through to their routes, or says why not.
pub(crate) struct Gate {
    app: Arc<AppState>,
    table: Table,
    credentials: Credentials,
    pace: Pace,
    audit: Arc<AuditWriter>,
    changes: Changes,
    /// It listens on this machine only.
    local: bool,
}

impl Gate {
    pub fn new(
        settings: &Settings,
        app: Arc<AppState>,
        table: Table,
        listen: SocketAddr,
        audit: Arc<AuditWriter>,
    ) -> Self {
        let credentials = Credentials::of(settings);
        Self {
            pace: Pace::new(settings.requests_per_s, credentials.payers(), Instant::now()),
            app,
            table,
            credentials,
            audit,
            changes: settings.changes,
            local: listen.ip().is_loopback(),
        }
    }

    /// The answer to a request.
    pub async fn answer(self: Arc<Self>, request: Request<axum::body::Body>, peer: Peer) -> Response {
        let (parts, body) = request.into_parts();
        let answer = match self.clone().pass(parts, body, peer).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(),
        };
        with_security_headers(answer)
    }

    /// Writes down that a certificate, or that there was none, ended a connection before it began.
    pub async fn refused_certificate(&self, address: SocketAddr, why: &str) {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "certificate_refused", why);
        let (who, from) = ("unknown".to_owned(), address.ip().to_string());
        let deed = Deed { who, from, operation: "connect", about: String::new(), of: String::new() };
        self.audit.deny(deed, &problem).await;
    }

    async fn pass(self: Arc<Self>, parts: Parts, body: axum::body::Body, peer: Peer) -> Result<Response, Problem> {
        let Parts { method, uri, headers, .. } = parts;
        if uri.path_and_query().is_some_and(|it| it.as_str().len() > MAX_URI_BYTES) {
            let detail = format!("path and query may have {MAX_URI_BYTES} bytes at most");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
        }
        let reads = method == Method::GET || method == Method::HEAD;
        let foreign = self.credentials.refuse_foreign_pages(&headers, self.local, reads);
        let (route, blanks) = match self.table.find(&method, uri.path()) {
            Found::Route(route, blanks) => (route, blanks),
            // Not even what there is is for it to know.
            Found::Methods(_) | Found::Nothing if foreign.is_err() => {
                return Err(foreign.err().unwrap_or_else(nothing));
            }
            Found::Methods(methods) => {
                let detail = format!("{method} is not known here; these are: {methods}");
                let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
                return Err(problem.with(header::ALLOW, &methods));
            }
            Found::Nothing => return Err(nothing()),
        };
        let about = blanks.first().cloned().unwrap_or_default();
        let deed = |who: &str| Deed {
            who: who.to_owned(),
            from: peer.address.ip().to_string(),
            operation: route.id,
            about: about.clone(),
            of: String::new(),
        };
        if let Err(problem) = foreign {
            self.audit.deny(deed("a foreign page"), &problem).await;
            return Err(problem);
        }
        let admitted = match route.need {
            Need::Probe => match self.shown_to_a_probe(&headers, &peer) {
                Ok(caller) => Ok(caller),
                // It is answered all the same, as anybody is; but it is no way to try tokens unseen.
                Err(unknown) => {
                    self.audit.deny(deed(unknown.as_str()), &unknown.problem()).await;
                    Ok(None)
                }
            },
            Need::Document | Need::Scope(_) => self.admit(&route, &uri, &headers, &peer),
        };
        let caller = match admitted {
            Ok(caller) => caller,
            Err((who, problem)) => {
                self.audit.deny(deed(&who), &problem).await;
                return Err(problem);
            }
        };
        self.check_content_type(route.takes, &headers)?;
        let sees = match &caller {
            Some(caller) if caller.allow(Scope::Read).is_ok() => Sees::Reasons,
            _ => Sees::Names,
        };
        let app = self.app.clone();
        let call = Call { app: app.clone(), blanks, uri, body: Body::new(body, &headers), headers, sees };
        if matches!(route.effect, Effect::Reads | Effect::Tries) {
            let answer = (route.run)(call).await?;
            // What anybody may ask for is never refused.
            return if matches!(route.need, Need::Scope(_)) { app.leaving.take(answer) } else { Ok(answer) };
        }
        let of = route.recorded.of(&call.uri);
        let deed = Deed { of, ..deed(caller.as_ref().map_or("anybody", |caller| &caller.who)) };
        // A task of its own: a caller who hangs up does not end a change half-way, nor keep it out of the log.
        let audit = self.audit.clone();
        let change = tidegate_telemetry::spawn("api-change", async move {
            let begun = audit.begin(deed).await?;
            let answer = (route.run)(call).await;
            let (status, code) = match &answer {
                Ok(response) => (response.status(), ""),
                Err(problem) => (problem.status(), problem.code()),
            };
            let changed =
                answer.as_ref().ok().and_then(|r| r.extensions().get::<Changed>().cloned()).unwrap_or_default();
            audit.end(begun, status, code, changed).await;
            answer
        });
        change.await.unwrap_or_else(|_| Err(Problem::internal("the change failed; see the host's log")))
    }

    /// Who asks for a probe, if that is known; or what is wrong with what they show. What probes cost does not grow with how many ask (`recent.rs`), and they need no
    /// credentials; who shows some hears more, and so does who needs none, but where others are spoken with as well.
    fn shown_to_a_probe(&self, headers: &HeaderMap, peer: &Peer) -> Result<Option<Caller>, Unknown> {
        let now = Instant::now();
        // Who has tried too many tokens learns of none whether it is good.
        let tried_out = headers.contains_key(header::AUTHORIZATION) && !self.pace.has(&Payer::Anybody, now);
        if tried_out || self.credentials.are_none() && !self.local {
            return Ok(None);
        }
        match self.credentials.caller(headers, peer, SystemTime::now()) {
            Ok(caller) => Ok(Some(caller)),
            Err(Unknown::Missing) => Ok(None),
            Err(unknown) => {
                self.pace.take(&Payer::Anybody, now);
                Err(unknown)
            }
        }
    }

    /// Who asks, if that is known; or why they may not, with what is known of them.
    fn admit(
        &self,
        route: &Route,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Option<Caller>, (String, Problem)> {
        let paid = |who: &str, payer: &Payer| {
            if self.pace.take(payer, Instant::now()) {
                return Ok(());
            }
            let detail = "too many requests; `requests_per_s` under [admin] says how many there may be";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
            Err((who.to_owned(), problem.with(header::RETRY_AFTER, "1")))
        };
        let scope = match route.need {
            Need::Probe => return Ok(None),
            Need::Document => return paid("anybody", &Payer::Anybody).map(|()| None),
            Need::Scope(scope) => scope,
        };
        let caller = match self.credentials.caller(headers, peer, SystemTime::now()) {
            Ok(caller) => caller,
            Err(unknown) => {
                paid(unknown.as_str(), &Payer::Anybody)?;
                return Err((unknown.as_str().to_owned(), unknown.problem()));
            }
        };
        paid(&caller.who, &caller.payer)?;
        caller.allow(scope).map_err(|problem| (caller.who.clone(), problem))?;
        // To ask what would be done changes nothing; those routes say in the log that it was asked for.
        let refused = route.effect == Effect::ChangesRules && self.changes == Changes::Refused;
        if refused && !route.recorded.plans(uri) {
            let detail =
                "this host is read-only (`readonly` under [admin]): its rules come from elsewhere; change them there";
            return Err((caller.who, Problem::new(StatusCode::FORBIDDEN, "readonly", detail)));
        }
        Ok(Some(caller))
    }

    fn check_content_type(&self, takes: Takes, headers: &HeaderMap) -> Result<(), Problem> {
        let accepted: &[&str] = match takes {
            Takes::Nothing => return Ok(()),
            Takes::Json(_) => &["application/json"],
            Takes::Patch => &["application/merge-patch+json", "application/json"],
            Takes::Rows => &["application/x-ndjson", "text/plain"],
            Takes::Wasm => &["application/wasm", "application/octet-stream"],
        };
        let shown = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = shown.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if accepted.contains(&essence.as_str()) {
            return Ok(());
        }
        let detail = format!("the body must be of type {}", accepted.join(" or "));
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
    }
}

fn nothing() -> Problem {
    Problem::missing("there is nothing under this path; GET /api/v1 shows what there is")
}

/// No page may frame, sniff or keep what is served here; no other origin may read it (there is no CORS header at all).
fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}
