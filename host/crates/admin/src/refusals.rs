//! With what codes a route refuses, worked out from what is known of it: so that the OpenAPI document says of each which there are, and a test against it notices another.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::problem::PROBLEM_JSON;
use crate::route::{Blank, Condition, Effect, Need, Route, Takes};

/// What each code says, and of its headers those that say what to do.
const CODES: [(u16, &str, &[&str]); 15] = [
    (400, "The request says something that cannot be.", &[]),
    (401, "Who asks shows no token that is known and valid.", &["WWW-Authenticate"]),
    (
        403,
        "Who asks may not, or nobody may: the host is read-only; or a page of another origin asks.",
        &["WWW-Authenticate"],
    ),
    (404, "What it is about is not there.", &[]),
    (408, "The body did not come in time.", &["Retry-After"]),
    (409, "It does not go with how things are.", &[]),
    (412, "It has been changed since, or is there already.", &[]),
    (413, "The body is too large.", &[]),
    (414, "Path and query are too long.", &[]),
    (415, "The body is of a type that is not taken here.", &[]),
    (422, "What was sent can be read, and is wrong: `errors` says where.", &[]),
    (429, "There are too many requests, or too many backtests.", &["Retry-After"]),
    (500, "Something failed; the host's log says what.", &[]),
    (503, "It cannot be done now; it could be later.", &["Retry-After"]),
    (507, "There is no room for it.", &[]),
];

/// The codes with which a route may refuse.
pub(crate) fn of(route: &Route) -> BTreeSet<u16> {
    // A foreign page, a path without end, too many connections, a fault of ours.
    let mut codes = BTreeSet::from([403, 414, 500, 503]);
    let mut may = |codes_of: &[u16]| codes.extend(codes_of);
    if route.need != Need::Probe {
        may(&[429]);
    }
    if matches!(route.need, Need::Scope(_)) {
        may(&[401]);
    }
    if route.query.is_some() {
        may(&[400]);
    }
    if route.path.split('/').any(|segment| Blank::of(segment).is_some()) {
        may(&[404]);
    }
    match route.takes {
        Takes::Nothing => {}
        Takes::Rows => may(&[400, 408, 413, 415]),
        Takes::Json(_) | Takes::Patch | Takes::Wasm => may(&[400, 408, 413, 415, 422]),
    }
    if route.condition != Condition::None {
        may(&[400, 412]);
    }
    if route.effect == Effect::ChangesRules {
        may(&[409, 507]);
    }
    may(route.refuses);
    codes
}

/// All of them, as they stand among the components of the document.
pub(crate) fn components(problem: &Value) -> Map<String, Value> {
    let each = CODES.iter().map(|(code, about, headers)| {
        let headers: Map<String, Value> = headers.iter().map(|name| ((*name).to_owned(), header(name))).collect();
        let content = json!({ PROBLEM_JSON: { "schema": problem } });
        (name(*code), json!({ "description": about, "headers": headers, "content": content }))
    });
    each.collect()
}

/// Under what name.
pub(crate) fn name(code: u16) -> String {
    format!("Refused{code}")
}

fn header(name: &str) -> Value {
    match name {
        "Retry-After" => {
            json!({ "description": "In how many seconds to ask again, where that is known.", "schema": { "type": "integer", "minimum": 0 } })
        }
        _ => {
            json!({ "description": "What is to be shown, or which scope was missing.", "schema": { "type": "string" } })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::table::routes;

    fn of_route(id: &str) -> Vec<u16> {
        of(routes().iter().find(|route| route.id == id).unwrap()).into_iter().collect()
    }

    /// Guarantees: each code that a route may refuse with is one that the document tells of, and the other way round.
    #[test]
    fn all_are_told() {
        let used: BTreeSet<u16> = routes().iter().flat_map(of).collect();
        assert_eq!(used, CODES.iter().map(|(code, ..)| *code).collect());
    }

    /// Guarantees: a route's codes are those of what it takes and does, and no others.
    #[test]
    fn by_what_a_route_is() {
        assert_eq!(of_route("live"), [403, 414, 500, 503]);
        assert_eq!(of_route("page"), [403, 414, 429, 500, 503]);
        assert_eq!(of_route("listRules"), [401, 403, 414, 429, 500, 503]);
        assert_eq!(of_route("deleteRule"), [400, 401, 403, 404, 409, 412, 414, 429, 500, 503, 507]);
        let json = [400, 401, 403, 408, 413, 414, 415, 422, 429, 500, 503];
        assert_eq!(of_route("trace"), json);
        let codes = of_route("putRule");
        assert!(json.iter().chain(&[404, 409, 412, 507]).all(|code| codes.contains(code)), "{codes:?}");
    }
}
