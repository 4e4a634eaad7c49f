//! The API as an OpenAPI 3.1 document, made from the table of routes.

use std::sync::LazyLock;

use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem::{Details, PROBLEM_JSON};
use crate::refusals;
use crate::route::{Answers, Blank, Condition, Gives, Need, Route, SchemaOf, Tagged, Takes, of};
use crate::table::routes;

/// The document as it is sent: made once, since anybody may ask for it, and it is the same for every host of this version.
pub(crate) fn text() -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    TEXT.clone()
}

fn document() -> Value {
    let mut generator =
        SchemaSettings::draft2020_12().with(|it| it.definitions_path = "/components/schemas".into()).into_generator();
    let problem = of::<Details>(&mut generator).to_value();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let operation = operation(&route, &mut generator);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rules, modules and data of one Tidegate host. Every refusal is application/problem+json (RFC 9457), but of what is no HTTP and of headers without end: 400 and 431 without a body. Under paths that are none of these: 404; with other methods: 405, with Allow.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals::components(&problem),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "A token that `tidegate token new` made. Not needed on a host that listens on its own machine only and has no tokens." } }
        }
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "tags": tags(route),
        "responses": responses(route, generator),
    });
    if let Need::Scope(scope) = route.need {
        operation["security"] = json!([{ "token": [] }]);
        operation["x-scope"] = json!(scope.as_str());
    }
    let parameters = parameters(route, generator);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    let body = |schema: Value, types: &[&str]| {
        let content: Map<String, Value> =
            types.iter().map(|it| ((*it).to_owned(), json!({ "schema": schema }))).collect();
        json!({ "required": true, "content": content })
    };
    match route.takes {
        Takes::Nothing => {}
        Takes::Json(schema) => operation["requestBody"] = body(schema(generator).to_value(), &["application/json"]),
        Takes::Patch => {
            operation["requestBody"] = body(json!({ "type": "object" }), &["application/merge-patch+json"])
        }
        Takes::Rows => {
            operation["requestBody"] = body(json!({ "type": "string" }), &["application/x-ndjson", "text/plain"])
        }
        Takes::Wasm => {
            operation["requestBody"] = body(
                json!({ "type": "string", "format": "binary" }),
                &["application/wasm", "application/octet-stream"],
            )
        }
    }
    operation
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let problem_schema = json!({ "schema": of::<Details>(generator).to_value() });
    for (status, gives) in &route.gives {
        let mut response = json!({ "description": word(*status) });
        if route.tagged == Tagged::Yes {
            let about = "The version of what is shown, for `If-Match`.";
            response["headers"] =
                json!({ "ETag": { "description": about, "required": true, "schema": { "type": "string" } } });
        }
        match gives {
            Gives::Nothing => {}
            Gives::Json(schema) => {
                response["content"] = json!({ "application/json": { "schema": schema(generator).to_value() } })
            }
            Gives::Other(kind) => {
                let essence = kind.split(';').next().unwrap_or(kind);
                response["content"] = json!({ essence: { "schema": {} } });
            }
        }
        responses.insert(status.to_string(), response);
    }
    for code in refusals::of(route) {
        let refused = json!({ "$ref": format!("#/components/responses/{}", refusals::name(code)) });
        match responses.get_mut(&code.to_string()) {
            // It says with that code, too, what it was asked for: how a host is that is not well.
            Some(given) => given["content"][PROBLEM_JSON] = problem_schema.clone(),
            None => drop(responses.insert(code.to_string(), refused)),
        }
    }
    Value::Object(responses)
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    for segment in route.path.split('/') {
        if let Some(blank) = Blank::of(segment) {
            let name = segment.trim_matches(['{', '}']);
            let schema = json!({ "type": "string", "pattern": blank.pattern() });
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
    }
    parameters.extend(route.query.map(|schema| query(schema, generator)).unwrap_or_default());
    let header = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "header", "description": about, "schema": schema });
    if route.condition != Condition::None {
        let about = "Only if the rule, or all of them, have this ETag still.";
        parameters.push(header("If-Match", about, json!({ "type": "string" })));
    }
    if route.condition == Condition::MatchOrNew {
        let about = "Only if there is no such rule yet.";
        parameters.push(header("If-None-Match", about, json!({ "type": "string", "enum": ["*"] })));
    }
    parameters
}

/// The members of a query's schema, one parameter each.
fn query(schema: SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = schema(generator).to_value();
    let members = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let each = members.into_iter().map(|(name, mut schema)| {
        let about = schema.as_object_mut().and_then(|it| it.remove("description")).unwrap_or_default();
        // A query has no null: what is optional is left out.
        if let Some(kinds) = schema.get("type").and_then(Value::as_array).cloned() {
            schema["type"] = kinds.into_iter().find(|kind| kind != "null").unwrap_or_default();
        }
        json!({ "name": name, "in": "query", "description": about, "schema": schema })
    });
    each.collect()
}

/// What a route is about, and `waits` where its answer comes or goes on when there is news.
fn tags(route: &Route) -> Vec<&str> {
    let waits = (route.answers == Answers::WhenThereIsNews).then_some("waits");
    [tag(route.path)].into_iter().chain(waits).collect()
}

/// What a path is about: `rules`, `modules` …
pub(crate) fn tag(path: &str) -> &str {
    match path.strip_prefix("/api/v1") {
        None => "probes",
        Some(rest) => match rest.trim_start_matches('/').split('/').next().unwrap_or_default() {
            "" | "openapi.json" | "audit" => "documents",
            "test" | "export" | "import" | "desired" => "rules",
            word @ ("rules" | "modules" | "dead-letters" | "backtests") => word,
            _ => "state",
        },
    }
}

const fn word(status: u16) -> &'static str {
    match status {
        201 => "It was made.",
        204 => "It is gone.",
        503 => "It is not as it should be: `reasons` says why.",
        _ => "Done.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: who asks for the document again costs no second one.
    #[test]
    fn made_once() {
        let (one, other) = (text(), text());
        assert!(!one.is_empty() && one.as_ptr() == other.as_ptr());
    }

    /// Guarantees: every route is in the document, under an id of its own, with a sentence and an answer; and every reference leads
    /// somewhere.
    #[test]
    fn whole() {
        let document = document();
        let mut ids = Vec::new();
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{}", route.id);
            assert!(operation["responses"].as_object().is_some_and(|all| all.len() > 1), "{}", route.id);
            assert_eq!(operation["security"].is_array(), matches!(route.need, Need::Scope(_)), "{}", route.id);
            ids.push(route.id);
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id is given twice");
        let text = document.to_string();
        for to in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(to).is_some(), "{to} leads nowhere");
        }
    }
}
