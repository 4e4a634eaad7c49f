//! The API as a page for people: plain HTML from the table of routes. It loads nothing and runs nothing.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::openapi::tag;
use crate::route::{Effect, Need, Takes};
use crate::table::routes;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #d8dee4}\
code{font:14px ui-monospace,monospace;white-space:nowrap}.m{font-weight:600}\
@media(prefers-color-scheme:dark){body{background:#14171b;color:#e6e9ec}td,th{border-color:#32383f}a{color:#7db4ff}}";

/// The sections, and what they are called.
const SECTIONS: [(&str, &str); 7] = [
    ("state", "How the host is"),
    ("rules", "Rules"),
    ("modules", "Modules"),
    ("backtests", "Backtests"),
    ("dead-letters", "Dead letters"),
    ("documents", "Documents"),
    ("probes", "Probes"),
];

/// The page as it is sent: made once, since anybody may ask for it.
pub(crate) fn text() -> (Bytes, HeaderValue) {
    static TEXT: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
        let (html, policy) = page();
        // It can be sent always; if not, nothing is allowed.
        (html.into(), policy.parse().unwrap_or(HeaderValue::from_static("default-src 'none'")))
    });
    TEXT.clone()
}

/// The page, and the policy that lets it have its own style and nothing else.
fn page() -> (String, String) {
    let mut html = String::new();
    let _ = write_page(&mut html);
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    (html, policy)
}

fn write_page(html: &mut String) -> std::fmt::Result {
    write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Tidegate API</title><style>{STYLE}</style><h1>Tidegate {}</h1>\
         <p>The API of this host. <a href=\"/api/v1/openapi.json\">The same as OpenAPI 3.1</a>, with every field. Refusals are \
         <code>application/problem+json</code> with a <code>code</code> for programs.</p>\
         <p>Show a token as <code>Authorization: Bearer …</code>; <code>tidegate token new</code> makes one. A rule's \
         <code>ETag</code>, sent back as <code>If-Match</code>, keeps two people from overwriting each other.</p>",
        env!("CARGO_PKG_VERSION")
    )?;
    for (section, title) in SECTIONS {
        write!(html, "<h2>{title}</h2><table><tr><th>Request<th>Scope<th>What it does")?;
        for route in routes().iter().filter(|route| tag(route.path) == section) {
            let scope = match route.need {
                Need::Scope(scope) => scope.as_str(),
                Need::Probe | Need::Document => "–",
            };
            let takes = match route.takes {
                Takes::Nothing => "",
                Takes::Json(_) => " Takes JSON.",
                Takes::Patch => " Takes a JSON merge patch.",
                Takes::Rows => " Takes NDJSON.",
                Takes::Wasm => " Takes the module's bytes.",
            };
            let writes = if route.effect == Effect::ChangesRules {
                " Refused where <code>readonly</code> is set."
            } else {
                ""
            };
            let (method, path, about) = (&route.method, route.path, route.about);
            write!(
                html,
                "<tr><td><code><span class=\"m\">{method}</span> {path}</code><td>{scope}<td>{about}{takes}{writes}"
            )?;
        }
        write!(html, "</table>")?;
    }
    write!(html, "</html>")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: every route is on the page, and nothing on it is loaded from anywhere or run.
    #[test]
    fn whole_and_plain() {
        let (html, policy) = page();
        assert_eq!((text().0.as_ptr(), text().1), (text().0.as_ptr(), policy.parse().unwrap()));
        for route in routes() {
            assert!(html.contains(&format!("{}</span> {}</code>", route.method, route.path)), "{}", route.id);
        }
        for word in ["<script", "src=", "@import", "url(", "http://", "https://"] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(policy.starts_with("default-src 'none'"));
    }
}
