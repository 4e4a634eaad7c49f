//! The API against its own OpenAPI document.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::{Mosquitto, Protocol, Setup, built_module, schemathesis};

use crate::api_access::token;

/// Guarantees: asked everything its document permits, and much that it does not, the API never fails, and every answer is of a code,
/// a type and a form that the document names.
#[test]
fn every_answer_conforms() {
    let (Some(program), Some(broker)) = (schemathesis(), Mosquitto::start()) else { return };
    let (token, section) = token("tester", "admin", "");
    let setup = Setup::new().admin(&format!("requests_per_s = 100000\n{section}"));
    let host =
        setup.mqtt(&broker, Protocol::V5, "[\"dev/#\"]", "").module("threshold").module("json-reading").start();
    host.ask("POST", "/api/v1/modules")
        .token(&token)
        .body("application/wasm", &built_module("scale"))
        .send()
        .expect(201);
    let url = format!("http://127.0.0.1:{}/api/v1/openapi.json", host.port());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance";
    let output = Command::new(program)
        .args(["run", &url, "--max-examples", "15", "--no-color", "--checks", checks])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // Those wait for what passes; `api_live.rs` reads them.
        .args(["--exclude-tag", "waits"])
        // The same cases every time.
        .arg("--generation-deterministic")
        // How long a machine takes to make them up says nothing of the API.
        .args(["--suppress-health-check", "too_slow"])
        .current_dir(host.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Tested:") && !told.contains("Authentication failed"), "{told}");
}

/// Guarantees: the document is of the version it says, and tells what a rule's file takes.
#[test]
fn the_document() {
    let host = crate::api::quiet().launch();
    let document: Value = host.ask("GET", "/api/v1/openapi.json").send().expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let definition = &document["components"]["schemas"]["Definition"]["properties"];
    // Each operation says with what codes it refuses; a word for all that it does not name would be true of anything.
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().all(|code| code.parse::<u16>().is_ok()), "{method} {path}: {responses:?}");
        }
    }
    let put = &document["paths"]["/api/v1/rules/{rule}"]["put"];
    let names: Vec<&Value> = put["parameters"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["rule", "If-Match", "If-None-Match"]);
    assert_eq!(put["responses"]["201"]["headers"]["ETag"]["required"], true);
    for key in ["module", "enabled", "order", "topics", "config", "commands", "limits"] {
        assert!(definition[key].is_object(), "{key}: {definition}");
    }
}
