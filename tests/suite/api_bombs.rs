//! What a module says of its configuration, made to hold up whoever believes it; and what a crash leaves of a change.

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_tests::{Ask, DEADLINE, Host, wait_for, wat_guest_with_schema};

use crate::api::quiet;

fn upload(host: &Host, module: &[u8]) -> Value {
    let kept = host.ask("POST", "/api/v1/modules").body("application/wasm", module).send().expect(201);
    json!({"module": kept["file"], "topics": ["dev/#"], "config": {"word": format!("{}b", "a".repeat(40))}})
}

/// Each of `depth` definitions asks ten times for the next.
fn widening(depth: usize) -> Value {
    let definition = |i: usize| {
        let to = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        (format!("d{i}"), json!({"allOf": vec![to; 10]}))
    };
    let mut definitions: serde_json::Map<String, Value> = (0..depth).map(definition).collect();
    definitions.insert(format!("d{depth}"), json!({"type": "object"}));
    json!({"$ref": "#/$defs/d0", "$defs": definitions})
}

/// Guarantees: a schema that would take for ever, or recurse without end, costs its caller an answer and nobody else anything: while it is
/// looked at the host answers others, its module never serves, and an honest rule is made after it.
#[test]
fn schemas_that_do_not_end() {
    let host = quiet().admin("requests_per_s = 100000").launch();
    for (name, schema) in [
        ("widening", widening(12)),
        ("circular", json!({"$ref": "#"})),
        ("mutual", json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})),
        ("backtracking", json!({"properties": {"word": {"pattern": "^(?:(a+)+)+\\\\1$"}}})),
        ("repeated", json!({"properties": {"word": {"pattern": "((a{1000}){1000}){1000}"}}})),
    ] {
        let definition = upload(&host, &wat_guest_with_schema(name, &schema.to_string(), &[]));
        let (port, began) = (host.port(), Instant::now());
        std::thread::scope(|scope| {
            let asked = scope.spawn(move || Ask::new(port, "PUT", "/api/v1/rules/bomb").json(&definition).send());
            while !asked.is_finished() {
                let began = Instant::now();
                host.ask("GET", "/api/v1/rules").send().expect(200);
                assert!(began.elapsed() < DEADLINE / 2, "{name}: others had to wait");
            }
            let answer = asked.join().unwrap();
            // A validator that is clever enough says what is wrong, or that nothing is.
            assert!([201, 200, 422].contains(&answer.code), "{name}: {answer:?}");
            if name == "widening" {
                let told = answer.expect_problem(422, "description");
                assert!(told["detail"].as_str().unwrap().contains("takes too long"), "{told}");
            }
        });
        assert!(began.elapsed() < DEADLINE, "{name} took {:?}", began.elapsed());
    }
    let honest = json!({"type": "object", "required": ["word"], "properties": {"word": {"maxLength": 3}}});
    let mut definition = upload(&host, &wat_guest_with_schema("honest", &honest.to_string(), &[]));
    let refused = host.ask("PUT", "/api/v1/rules/honest").json(&definition).send().expect_problem(422, "config");
    assert_eq!(refused["errors"][0]["pointer"], "/config/word", "{refused}");
    definition["config"]["word"] = "abc".into();
    host.ask("PUT", "/api/v1/rules/honest").json(&definition).send().expect(201);
    assert!(host.log().lines().all(|line| !line.contains("panicked")));
}

/// Guarantees: a host that dies just before or just after a rule's file takes its place has the rule as it was before, or as it was asked
/// for, and nothing between; nothing of the attempt is left; and the audit log says that it was begun, and not that it was done.
#[test]
fn a_crash_keeps_or_loses_a_change_whole() {
    let rule = "module = \"threshold.wasm\"\norder = 1\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90\n";
    let mut host = quiet().module("threshold").rule("hot", rule).launch();
    let mut expected = 1;
    for (site, kept) in [("rules-place-before", false), ("rules-place-after", true)] {
        host.kill();
        host.arm(site, 0);
        host.launch_again();
        let (port, order) = (host.port(), expected + 1);
        let patch = json!({"order": order}).to_string();
        let answer = std::panic::catch_unwind(|| {
            let ask = Ask::new(port, "PATCH", "/api/v1/rules/hot");
            ask.body("application/merge-patch+json", patch.as_bytes()).send()
        });
        assert!(answer.is_err(), "{site}: it was answered for: {answer:?}");
        host.wait_crash();
        host.launch_again();
        expected = if kept { order } else { expected };
        let found = host.ask("GET", "/api/v1/rules/hot").send().expect(200);
        assert_eq!((&found["order"], &found["state"]), (&json!(expected), &json!("serving")), "{site}");
        wait_for("drafts to be gone", DEADLINE, || {
            let mut left = std::fs::read_dir(host.rules_dir()).unwrap().map(|entry| entry.unwrap().file_name());
            left.find(|name| name.to_string_lossy().ends_with(".part"))
                .map_or(Ok(()), |name| Err(format!("{name:?}")))
        });
        let lines = host.ask("GET", "/api/v1/audit").send().expect(200)["lines"].as_array().unwrap().clone();
        let last = lines.last().unwrap();
        assert_eq!((&last["operation"], &last["phase"]), (&json!("patchRule"), &json!("begun")), "{site}: {last}");
    }
}
