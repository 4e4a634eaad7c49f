//! What a change must leave alone: rules that it does not name, files that it was refused to change, a shadow in whose place no other can run; and nodes
//! whose files come from elsewhere.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tidegate_tests::{Host, built_module, variant};

use crate::api::quiet;
use crate::api_cli::{done, tidegate};

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";

fn state(host: &Host, rule: &str) -> Value {
    host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200)["state"].clone()
}

/// Guarantees: a rule that runs by its module's defaults goes on when another rule names its module, by the file's name, by an upload of the same bytes or
/// by a document; it has a file from then on, and stays when the other goes.
#[test]
fn rules_without_a_file_stay() {
    let line2 = json!({"module": "json-reading.wasm", "topics": ["line2/#"]});
    let host = quiet().module("json-reading").launch();
    let before = host.ask("GET", "/api/v1/rules/json-reading").send().expect(200);
    host.ask("PUT", "/api/v1/rules/line2").json(&line2).send().expect(201);
    let after = host.ask("GET", "/api/v1/rules/json-reading").send().expect(200);
    assert_eq!((&after["state"], &after["generation"]), (&json!("serving"), &before["generation"]), "{after}");
    host.ask("DELETE", "/api/v1/rules/line2").send().expect(204);
    assert_eq!(state(&host, "json-reading"), "serving");

    let host = quiet().module("json-reading").launch();
    let kept = host.ask("POST", "/api/v1/modules").body("application/wasm", &built_module("json-reading")).send();
    let named = json!({"module": kept.expect(200)["file"], "topics": ["line2/#"]});
    host.ask("PUT", "/api/v1/rules/line2").json(&named).send().expect(201);
    assert_eq!(state(&host, "json-reading"), "serving");

    let host = quiet().module("json-reading").launch();
    host.ask("POST", "/api/v1/import").json(&json!({"rules": {"line2": line2}})).send().expect(200);
    assert_eq!((state(&host, "json-reading"), state(&host, "line2")), (json!("serving"), json!("serving")));
    host.ask("PUT", "/api/v1/desired").json(&json!({"rules": {"line2": line2}})).send().expect(200);
    host.ask("GET", "/api/v1/rules/json-reading").send().expect_problem(404, "not_found");
}

/// Guarantees: to enable a rule is tried like any other change: one that cannot serve, for want of its module or by its configuration, stays disabled, in its
/// file too.
#[test]
fn what_cannot_be_enabled_stays_off() {
    let off = format!("enabled = false\n{HOT}");
    let wrong = off.replace("90.0", "\"hot\"");
    let gone = off.replace("threshold.wasm", "gone.wasm");
    let host = quiet().module("threshold").rule("off", &off).rule("wrong", &wrong).rule("gone", &gone).launch();
    for (rule, text) in [("wrong", &wrong), ("gone", &gone)] {
        let tag = host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200)["etag"].clone();
        let refused = host.ask("POST", &format!("/api/v1/rules/{rule}/enable")).send();
        assert_eq!(refused.code, 422, "{refused:?}");
        assert_eq!(&std::fs::read_to_string(host.rules_dir().join(format!("{rule}.toml"))).unwrap(), text);
        let shown = host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200);
        assert_eq!((&shown["state"], &shown["etag"]), (&json!("disabled"), &tag));
    }
    assert_eq!(host.ask("POST", "/api/v1/rules/off/enable").send().expect(200)["state"], "serving");
    let text = std::fs::read_to_string(host.rules_dir().join("off.toml")).unwrap();
    assert_eq!(text, off.replace("enabled = false", "enabled = true"));
}

/// Guarantees: a shadow that runs goes on when one that can be none is asked for in its place; its module cannot be deleted under it.
#[test]
fn a_shadow_is_not_ended_by_a_slip() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let module = variant(&built_module("threshold"), 1);
    let kept = host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send().expect(201);
    let definition =
        |topics: &str| json!({"definition": {"module": kept["file"], "topics": [topics], "config": {"above": 70.0}}});
    let start = |topics: &str| host.ask("POST", "/api/v1/rules/hot/shadow").json(&definition(topics)).send();
    start("dev/+/temp").expect(200);
    assert_eq!(start("dev/#").code, 422);
    let shown = host.ask("GET", "/api/v1/rules/hot/shadow").send().expect(200);
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("running"), &Value::Null), "{shown}");
    start("dev/+/temp").expect(200);
    let started = host.ask("GET", "/api/v1/audit?operation=startShadow").send().expect(200);
    let ended = started["lines"].as_array().unwrap().iter().filter(|line| line["status"] == 200);
    let before: Vec<&Value> = ended.map(|line| &line["before"]).collect();
    assert!(before.contains(&&Value::Null) && before.contains(&&kept["sha256"]) && before.len() == 2, "{started}");
    let at = format!("/api/v1/modules/{}", kept["sha256"].as_str().unwrap());
    host.ask("DELETE", &at).send().expect_problem(409, "in_use");
    let stale = host.ask("DELETE", "/api/v1/rules/hot/shadow").header("If-Match", "\"0000\"").send();
    stale.expect_problem(412, "changed_since");
    host.ask("POST", "/api/v1/rules/hot/shadow/promote").json(&json!({"state": "own"})).send().expect(200);
    host.ask("POST", "/api/v1/rules/hot/rollback").json(&json!({})).send().expect(200);
    host.ask("DELETE", &at).send().expect(204);
}

/// Guarantees: the tag that a rule is shown with is taken by command, with its quotes or without, and holds until the rule is changed.
#[test]
fn tags_go_round() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let shown: Value = serde_json::from_str(&done(&tidegate(&[&host], &["rules", "show", "hot", "--json"]))).unwrap();
    let tag = shown["etag"].as_str().unwrap();
    done(&tidegate(&[&host], &["rules", "order", "hot", "7", "--if-match", tag.trim_matches('"')]));
    let late = tidegate(&[&host], &["rules", "retry", "hot", "--if-match", tag]);
    assert!(!late.status.success() && String::from_utf8_lossy(&late.stderr).contains("changed since"), "{late:?}");
    let exported: Value = serde_json::from_str(&done(&tidegate(&[&host], &["export"]))).unwrap();
    let document = host.path().join("rules.json");
    std::fs::write(&document, exported.to_string()).unwrap();
    let args = ["desired", "apply", document.to_str().unwrap(), "--if-match", exported["etag"].as_str().unwrap()];
    done(&tidegate(&[&host], &args));
    done(&tidegate(&[&host], &["rules", "order", "hot", "8"]));
    assert!(!tidegate(&[&host], &args).status.success());
}

/// Guarantees: where modules and files are links, as of a ConfigMap, and nothing may be written, all can be looked at and tried: modules listed and
/// fetched, rules exported and held against a document, a candidate tried; nothing is followed or written for it.
#[test]
fn nodes_of_links() {
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("threshold.wasm"), built_module("threshold")).unwrap();
    std::fs::write(elsewhere.path().join("hot.toml"), HOT).unwrap();
    let mut host = quiet().admin("readonly = true").launch();
    host.kill();
    for name in ["threshold.wasm", "hot.toml"] {
        symlink(elsewhere.path().join(name), host.rules_dir().join(name)).unwrap();
    }
    host.launch_again();
    let before = tidegate_tests::files(&host.rules_dir());
    assert_eq!(state(&host, "hot"), "serving");
    let modules = host.ask("GET", "/api/v1/modules").send().expect(200);
    assert_eq!(
        (&modules[0]["file"], &modules[0]["used_by"]),
        (&json!("threshold.wasm"), &json!(["hot"])),
        "{modules}"
    );
    assert_eq!(modules[0]["bytes"], built_module("threshold").len());
    let sha256 = modules[0]["sha256"].as_str().unwrap();
    let fetched = tidegate(&[&host], &["modules", "download", sha256, "--output", "-"]);
    assert!(fetched.stdout == built_module("threshold"));
    let points = json!({"points": [{"topic": "dev/a/temp", "value": 99.0}]});
    let tried = host.ask("POST", "/api/v1/rules/hot/test").json(&points).send().expect(200);
    assert_eq!(tried["alerts"][0]["transition"], "raised", "{tried}");

    let mut document = host.ask("GET", "/api/v1/export").send().expect(200);
    let plan = |document: &Value| host.ask("PUT", "/api/v1/desired?plan=true").json(document).send().expect(200);
    assert_eq!(plan(&document)["differs"], false);
    document["rules"]["hot"]["config"]["above"] = 80.0.into();
    assert_eq!(plan(&document)["rules"][0]["action"], "replaced");
    document["modules"] = json!([]);
    assert_eq!(plan(&document)["rules"][0]["action"], "replaced");
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect_problem(403, "readonly");
    host.ask("PUT", "/api/v1/desired?plan=false").json(&document).send().expect_problem(403, "readonly");
    assert_eq!(tidegate_tests::files(&host.rules_dir()), before);
}

/// Guarantees: a change that the registry cannot read is none: where the directory cannot be read whole, the file is put back, the answer says why, and the rule goes
/// on as it was; once it can be read again, the same change is made.
#[test]
fn a_change_that_nobody_reads() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let change = |above: f64| {
        let file = json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "config": {"above": above}});
        host.ask("PUT", "/api/v1/rules/hot").json(&file).send()
    };
    change(80.0).expect(200);
    let text = || std::fs::read_to_string(host.rules_dir().join("hot.toml")).unwrap();
    let before = text();
    let full = host.rules_dir().join("x");
    std::fs::write(&full, "").unwrap();
    // More entries than are looked at, each a name of one file.
    let names: Vec<_> = (0..100_000).map(|n| host.rules_dir().join(format!("x{n}"))).collect();
    names.iter().for_each(|name| std::fs::hard_link(&full, name).or_else(|_| std::fs::write(name, "")).unwrap());
    let refused = change(70.0).expect_problem(500, "internal");
    assert!(refused["detail"].as_str().unwrap().contains("100000 entries"), "{refused}");
    assert_eq!(text(), before);
    let shown = host.ask("GET", "/api/v1/rules/hot").send().expect(200);
    assert_eq!((&shown["state"], &shown["file"]["config"]["above"]), (&json!("serving"), &json!(80.0)), "{shown}");
    assert!(!host.ask("DELETE", "/api/v1/rules/hot").send().code.to_string().starts_with('2'));
    host.ask("POST", "/api/v1/rules/hot/disable").send().expect_problem(500, "internal");
    host.ask("POST", "/api/v1/rules/hot/retry").send().expect_problem(500, "internal");
    assert_eq!((text(), state(&host, "hot")), (before, json!("serving")));
    names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
    assert_eq!(change(70.0).expect(200)["file"]["config"]["above"], 70.0);
}

/// Guarantees: a decoder is tried and traced with the properties of a message, which make labels of its series; one that cannot be read is refused with its place.
#[test]
fn tried_with_properties() {
    let rule =
        "module = \"json-fields.wasm\"\ntopics = [\"dev/#\"]\n[config]\nlabels = { site = \"{header:site}\" }\n";
    let host = quiet().bytes("json-fields", &built_module("json-fields")).rule("fields", rule).launch();
    let message = |properties: Value| json!({"topic": "dev/a", "payload": "{\"a\":1}", "properties": properties});
    let given = message(json!([{"key": "other", "value_base64": "/w=="}, {"key": "site", "value": "north"}]));
    let tried = host.ask("POST", "/api/v1/rules/fields/test").json(&json!({"messages": [given]})).send().expect(200);
    assert_eq!(tried["points"][0]["labels"], json!({"site": "north"}), "{tried}");
    let traced = host.ask("POST", "/api/v1/trace").json(&given).send().expect(200);
    assert_eq!(traced["points"][0]["labels"], json!({"site": "north"}), "{traced}");
    let wrong = message(json!([{"key": "site", "value_base64": "?"}]));
    let refused = host.ask("POST", "/api/v1/trace").json(&wrong).send().expect_problem(422, "body");
    assert_eq!(refused["errors"][0]["pointer"], "/properties/0/value_base64", "{refused}");
}

/// Guarantees: what a trial shows has an end, however long the names are that a rule makes of what it is given.
#[test]
fn a_trial_of_long_names() {
    let rule = "module = \"json-fields.wasm\"\ntopics = [\"dev/#\"]\n[limits]\nmemory_mib = 64\ncpu_ms = 10000\n";
    let host = quiet().bytes("json-fields", &built_module("json-fields")).rule("fields", rule).launch();
    let fields: serde_json::Map<String, Value> =
        (0..1_000).map(|field| (format!("f{field}"), field.into())).collect();
    let payload = Value::from(fields).to_string();
    let message = |n: usize| json!({"topic": format!("dev/{n}/{}", "x".repeat(950)), "payload": payload});
    let messages: Vec<Value> = (0..10).map(message).collect();
    let tried = host.ask("POST", "/api/v1/rules/fields/test").json(&json!({"messages": messages})).send();
    let points = tried.expect(200)["points"].as_array().unwrap().len();
    assert!((2_000..10_000).contains(&points), "{points} points: {:?}", tried.json()["rejected"]);
    assert!(tried.body.len() < 10 << 20, "{} bytes", tried.body.len());
}

/// Guarantees: while another host is at a change of the same rules, its files are left alone: a module that it says waits keeps its name, and nothing is deleted; afterwards
/// that is tidied up.
#[test]
fn left_to_the_other_host() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let spare = host.ask("POST", "/api/v1/modules").body("application/wasm", &variant(&built_module("threshold"), 1));
    let sha256 = spare.send().expect(201)["sha256"].as_str().unwrap().to_owned();
    let directory = host.rules_dir();
    std::fs::write(directory.join(".spare.wasm.waits"), &sha256).unwrap();
    std::fs::rename(directory.join(format!("{sha256}.wasm")), directory.join("spare.wasm")).unwrap();
    let waits = || (directory.join("spare.wasm").exists(), directory.join(".spare.wasm.waits").exists());
    let of_another = std::fs::File::open(&directory).unwrap();
    of_another.lock().unwrap();
    host.ask("GET", "/api/v1/export").send().expect(200);
    host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect_problem(503, "busy");
    host.ask("POST", "/api/v1/modules/prune?keep=0").send().expect_problem(503, "busy");
    let module = variant(&built_module("threshold"), 2);
    host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send().expect_problem(503, "busy");
    assert_eq!(waits(), (true, true));
    of_another.unlock().unwrap();
    host.ask("GET", "/api/v1/export").send().expect(200);
    assert_eq!(waits(), (false, false));
    host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect(204);
}
