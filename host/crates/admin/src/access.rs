//! Who may call: a token where one is set, and no web page that a browser on this machine happens to show.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tidegate_config::Secret;

/// What callers of `/api/` are held to.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub token: Option<Secret>,
    /// Whether the interface listens on this machine only: reading is free then.
    pub loopback: bool,
}

/// Lets a request to `/api/` through, or says why not.
pub(crate) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.refuse(request.method(), request.headers()) {
        None => next.run(request).await,
        Some((status, why)) => (status, Json(serde_json::json!({ "error": why }))).into_response(),
    }
}

impl Access {
    fn refuse(&self, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        if self.loopback && !local_host(headers) {
            return Some((
                StatusCode::FORBIDDEN,
                "the Host header names another machine; use 127.0.0.1 or localhost",
            ));
        }
        let reading = method == Method::GET || method == Method::HEAD;
        if !reading && foreign_page(headers) {
            return Some((StatusCode::FORBIDDEN, "a page of another origin may not change anything here"));
        }
        match &self.token {
            Some(token) if !(reading && self.loopback) => {
                let shown = bearer(headers).unwrap_or_default();
                let same: bool = shown.as_bytes().ct_eq(token.reveal().as_bytes()).into();
                (!same).then_some((StatusCode::UNAUTHORIZED, "show the token: `Authorization: Bearer …`"))
            }
            Some(_) => None,
            None if self.loopback => None,
            None => Some((StatusCode::UNAUTHORIZED, "no token is set: only health and metrics are served here")),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Against DNS rebinding: a name of the attacker's that resolves to 127.0.0.1 still stands in the Host header.
fn local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

/// Browsers say from which page a changing request comes.
fn foreign_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = origin.to_str().unwrap_or_default();
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) != Some(host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse::<header::HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    /// Guarantees: who may read and who may change, for each way the interface can be set up.
    #[test]
    fn the_matrix() {
        let open = Access { token: None, loopback: true };
        let locked = Access { token: Some(Secret::new("s3cret")), loopback: true };
        let public = Access { token: Some(Secret::new("s3cret")), loopback: false };
        let bare = Access { token: None, loopback: false };
        let none = headers(&[("host", "127.0.0.1:8081")]);
        let right = headers(&[("host", "127.0.0.1:8081"), ("authorization", "Bearer s3cret")]);
        let wrong = headers(&[("host", "127.0.0.1:8081"), ("authorization", "Bearer s3cres")]);
        let page = headers(&[("host", "127.0.0.1:8081"), ("origin", "http://evil.example")]);
        let rebound = headers(&[("host", "evil.example")]);
        for (access, method, headers, passes) in [
            (&open, Method::GET, &none, true),
            (&open, Method::POST, &none, true),
            (&open, Method::POST, &page, false),
            (&open, Method::GET, &rebound, false),
            (&locked, Method::GET, &none, true),
            (&locked, Method::POST, &none, false),
            (&locked, Method::POST, &wrong, false),
            (&locked, Method::POST, &right, true),
            (&public, Method::GET, &none, false),
            (&public, Method::GET, &right, true),
            (&bare, Method::GET, &none, false),
            (&bare, Method::POST, &right, false),
        ] {
            assert_eq!(access.refuse(&method, headers).is_none(), passes, "{access:?} {method} {headers:?}");
        }
    }
}
