//! Shadows: a candidate beside a rule, compared with it, harmless, and promoted.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tidegate_tests::{
    DEADLINE, House, Mosquitto, Publisher, Qos, Setup, binary, built_module, guest_module, plain, variant, wait_for,
    wat_guest,
};

/// A host with the rule `r`.
fn house(broker: &Mosquitto, name: &str, module: &[u8], rule: &str) -> House {
    House::start(broker, Setup::new().bytes(name, module).rule("r", rule))
}

fn begin(house: &House, body: Value) -> Value {
    house.host.ask("POST", "/api/v1/rules/r/shadow").json(&body).send().expect(200)
}

fn differences(house: &House) -> Value {
    house.host.ask("GET", "/api/v1/rules/r/shadow/differences").send().expect(200)
}

fn promote(house: &House, state: &str) -> Value {
    let body = json!({ "state": state });
    house.host.ask("POST", "/api/v1/rules/r/shadow/promote").json(&body).send().expect(200)
}

fn upload(house: &House, module: &[u8]) -> String {
    let answer = house.host.ask("POST", "/api/v1/modules").body("application/wasm", module).send();
    answer.json()["file"].as_str().unwrap().to_owned()
}

/// The values stored, in order.
fn values_of(house: &House) -> Vec<f64> {
    let mut rows = house.host.rows();
    rows.sort_by_key(|row| row.time_us);
    rows.iter().map(|row| row.number().unwrap()).collect()
}

fn threshold(above: f64) -> Value {
    json!({"module": "threshold.wasm", "topics": ["dev/#"], "config": {"above": above}})
}

const THRESHOLD: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 80.0\n";
const COUNTING: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/#\"]\n";

/// Guarantees: a shadow with another threshold shows exactly the alerts that it would not have sent, and one with another factor exactly
/// the rows that it would have changed, each with both values; neither stores, publishes or counts anything.
#[test]
fn exactly_what_differs() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker, "threshold", &built_module("threshold"), THRESHOLD);
    let files = tidegate_tests::files(&house.host.rules_dir());
    begin(&house, json!({"definition": threshold(90.0)}));
    house.measure(&[("dev/a", 70.0), ("dev/b", 85.0), ("dev/c", 95.0), ("dev/d", 90.0), ("dev/b", 60.0)]);
    let diff = differences(&house);
    let shown: BTreeSet<(&str, &str, &str)> =
        diff["alert_differences"].as_array().unwrap().iter().map(told).collect();
    let expected = [("serving", "dev/b", "cleared"), ("serving", "dev/b", "raised"), ("serving", "dev/d", "raised")];
    assert_eq!(shown, BTreeSet::from(expected), "{diff}");
    assert_eq!((&diff["alerts_only_serving"], &diff["alerts_only_candidate"]), (&json!(3), &json!(0)));
    assert_eq!((&diff["rows"], &diff["rows_changed"], &diff["state"]), (&json!(5), &json!(0), &json!("running")));
    assert!(diff["ns_per_row_candidate"].as_f64() > Some(0.0) && diff["cost_nanos"].as_u64() > Some(0), "{diff}");
    let in_short = house.host.ask("GET", "/api/v1/rules/r/shadow").send().expect(200);
    assert_eq!((&in_short["alerts_only_serving"], &in_short["alert_differences"]), (&json!(3), &json!([])));
    let status = house.host.status();
    assert_eq!((status.rule("r").stats.rows_in, status.alerts_standing), (5, 2), "as without it");
    assert_eq!(tidegate_tests::files(&house.host.rules_dir()), files, "nothing is written");
    assert!(
        house
            .host
            .get("/metrics")
            .body
            .contains("tidegate_rule_shadow_alerts_only_total{rule=\"r\",only=\"serving\"} 3")
    );

    house.host.ask("DELETE", "/api/v1/rules/r/shadow").send().expect(204);
    house.host.ask("GET", "/api/v1/rules/r/shadow").send().expect_problem(404, "not_found");
    house.measure(&[("dev/e", 85.0)]);

    let scale = upload(&house, &built_module("scale"));
    let of = |factor: f64| json!({"module": scale, "topics": ["dev/#"], "config": {"factor": factor}});
    house.host.ask("DELETE", "/api/v1/rules/r").send().expect(204);
    house.host.ask("PUT", "/api/v1/rules/r").json(&of(2.0)).send().expect(201);
    begin(&house, json!({"definition": of(3.0)}));
    let stored = values_of(&house).len();
    house.measure(&[("dev/a", 1.0), ("dev/b", 0.0), ("dev/c", 5.0)]);
    let diff = differences(&house);
    let both = |row: &Value| -> (String, f64, f64) {
        let value = |who: &str| row[who]["points"][0]["value"].as_f64().unwrap();
        (row["topic"].as_str().unwrap().to_owned(), value("serving"), value("candidate"))
    };
    let shown: Vec<_> = diff["row_differences"].as_array().unwrap().iter().map(both).collect();
    assert_eq!(shown, [("dev/a".to_owned(), 2.0, 3.0), ("dev/c".to_owned(), 10.0, 15.0)], "{diff}");
    assert_eq!(values_of(&house)[stored..], [2.0, 0.0, 10.0]);
    house.host.status().assert_balanced("shadows");
}

fn told(alert: &Value) -> (&str, &str, &str) {
    let text = |key: &str| alert[key].as_str().unwrap();
    (text("only"), text("topic"), text("transition"))
}

/// Guarantees: a shadow that begins with a copy of the state does what the rule does; one that begins without goes its own way, and
/// serves with what it has built or with what the rule has, as asked; its file is written, and it can be gone back from.
#[test]
fn state_as_asked() {
    let Some(broker) = Mosquitto::start() else { return };
    let counting = guest_module("brittle");
    for (state, next) in [("own", 3.0), ("taken-over", 6.0)] {
        let mut house = house(&broker, "brittle", &counting, COUNTING);
        house.measure(&[("dev/a", 1.0); 3]);
        let candidate = json!({"module": upload(&house, &variant(&counting, 1)), "topics": ["dev/#"]});
        begin(&house, json!({"definition": candidate, "state": "copied"}));
        house.measure(&[("dev/a", 1.0)]);
        let diff = differences(&house);
        assert_eq!((&diff["rows"], &diff["rows_changed"]), (&json!(1), &json!(0)), "{state}: {diff}");
        let begun = begin(&house, json!({"definition": candidate, "state": "empty", "max_share_percent": 100}));
        house.measure(&[("dev/a", 1.0)]);
        house.host.ask("POST", "/api/v1/rules/r/shadow/promote").json(&json!({})).send().expect_problem(422, "body");
        assert_eq!(differences(&house)["rows_changed"], 1);
        let (before, first) =
            (house.host.status().rule("r").generation, house.host.status().rule("r").sha256.clone());
        // The candidate has seen one of five; one more comes before it serves.
        let rows_before = values_of(&house).len();
        if state == "own" {
            house.measure(&[("dev/a", 1.0)]);
        }
        let promoted = promote(&house, state);
        assert!(promoted["generation"].as_u64() > Some(before), "{promoted}");
        assert_eq!((&promoted["module"], &promoted["state"]), (&candidate["module"], &json!("serving")));
        assert_eq!(promoted["sha256"], begun["sha256"]);
        house.measure(&[("dev/a", 1.0)]);
        let values = values_of(&house);
        assert_eq!(values.last(), Some(&next), "{state}: {values:?} after {rows_before}");
        assert_eq!(differences(&house)["state"], "ended");
        house
            .host
            .ask("POST", "/api/v1/rules/r/shadow/promote")
            .json(&json!({"state": "own"}))
            .send()
            .expect_problem(409, "shadow_ended");

        // What serves now is what the files say, over a restart too.
        let text = std::fs::read_to_string(house.host.rules_dir().join("r.toml")).unwrap();
        assert!(text.contains(candidate["module"].as_str().unwrap()), "{text}");
        let back = house.host.ask("POST", "/api/v1/rules/r/rollback").json(&json!({})).send().expect(200);
        assert_eq!(back["sha256"].as_str(), first.as_deref(), "{back}");
    }
}

/// Guarantees: when a shadow serves with the state it has built, just the alerts stand that stand by that state: what it does not know of is
/// cleared, what it alone has raised is raised, and what both have is not published again; all are cleared by it afterwards.
#[test]
fn alerts_as_by_its_own_state() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker, "threshold", &built_module("threshold"), THRESHOLD);
    house.measure(&[("dev/old", 85.0), ("dev/mild", 85.0)]);
    // A copy of the state believes that both stand, and goes on believing it of the one that is not measured again.
    begin(&house, json!({"definition": threshold(70.0), "state": "copied", "max_share_percent": 100}));
    house.measure(&[("dev/mild", 20.0), ("dev/new", 75.0), ("dev/both", 95.0)]);
    let standing = |house: &House| -> Vec<String> {
        let all = house.host.ask("GET", "/api/v1/alerts").send().expect(200);
        let mut topics: Vec<_> =
            all.as_array().unwrap().iter().map(|it| it["topic"].as_str().unwrap().to_owned()).collect();
        topics.sort();
        topics
    };
    assert_eq!(standing(&house), ["dev/both", "dev/old"]);
    promote(&house, "own");
    assert_eq!(standing(&house), ["dev/both", "dev/new", "dev/old"]);

    // One that began without any state knows of what it was given since, and of nothing else.
    begin(&house, json!({"definition": threshold(80.0), "state": "empty", "max_share_percent": 100}));
    house.measure(&[("dev/both", 96.0)]);
    promote(&house, "own");
    assert_eq!(standing(&house), ["dev/both"]);
    house.measure(&[("dev/both", 20.0), ("dev/old", 85.0)]);
    assert_eq!(standing(&house), ["dev/old"]);
    let past = house.host.ask("GET", "/api/v1/alerts/history?topic=dev/both").send().expect(200);
    let told: Vec<&str> =
        past["alerts"].as_array().unwrap().iter().map(|it| it["transition"].as_str().unwrap()).collect();
    assert_eq!(told, ["cleared", "raised"], "{past}");
    house.host.status().assert_balanced("promotions");
}

/// Guarantees: what a candidate fails on is its own affair: it is stopped after a few faults, and the rule that serves has none, is not
/// quarantined, and loses nothing.
#[test]
fn faults_are_its_own() {
    let Some(broker) = Mosquitto::start() else { return };
    let rule = "module = \"scale.wasm\"\ntopics = [\"dev/#\"]\n[config]\nfactor = 2.0\n";
    let mut house = house(&broker, "scale", &built_module("scale"), rule);
    let candidate = json!({"module": upload(&house, &guest_module("brittle")), "topics": ["dev/#"]});
    begin(&house, json!({"definition": candidate}));
    for _ in 0..6 {
        house.measure(&[("dev/a", 1.0), ("dev/a", 666.0)]);
    }
    let diff = differences(&house);
    assert_eq!((&diff["state"], &diff["faults"]), (&json!("stopped"), &json!(5)), "{diff}");
    assert!(diff["reason"].as_str().unwrap().contains("trapped") && diff["last_fault"].is_string(), "{diff}");
    let status = house.host.status();
    let rule = status.rule("r");
    assert_eq!((rule.state.as_str(), rule.problem.as_deref(), rule.stats.rows_in), ("serving", None, 12));
    assert!(rule.stats.faults.values().all(|&faults| faults == 0), "{rule:?}");
    assert_eq!(values_of(&house), [2.0, 1332.0].repeat(6));
    let refused = |body: Value| house.host.ask("POST", "/api/v1/rules/r/shadow").json(&body).send();
    refused(json!({"definition": {"module": "none.wasm"}})).expect_problem(422, "module");
    refused(json!({"definition": candidate, "max_share_percent": 101})).expect_problem(422, "body");
    let elsewhere = json!({"module": candidate["module"], "topics": ["other/#"]});
    refused(json!({"definition": elsewhere})).expect_problem(422, "unsupported");
    refused(json!({"definition": {"module": "json-reading.wasm", "topics": ["dev/#"]}}))
        .expect_problem(422, "unsupported");
    house
        .host
        .ask("POST", "/api/v1/rules/none/shadow")
        .json(&json!({"definition": candidate}))
        .send()
        .expect_problem(404, "not_found");
}

/// Sends until so many rows have passed the shadow by; gives how many messages that were, and the differences when all are settled.
fn loaded_until(house: &House, broker: &Mosquitto, rows: u64) -> (u64, Value) {
    let load = Publisher::connect(broker, Qos::One)
        .load(2_000, |number| plain(&format!("dev/t{}", number % 20), number, 1.0));
    wait_for("calls that pass it by", DEADLINE, || {
        let diff = differences(house);
        if diff["skipped_rows"].as_u64() > Some(rows) { Ok(()) } else { Err(diff.to_string()) }
    });
    let publisher = load.end();
    let sent = publisher.sent().len() as u64;
    house.host.wait_settled(sent);
    (sent, differences(house))
}

/// Guarantees: a shadow costs a lane no more of its time than it may; what passes it by is counted, and nothing is lost for it.
#[test]
fn its_cost_is_bounded() {
    let Some(broker) = Mosquitto::start() else { return };
    let house = house(&broker, "brittle", &guest_module("brittle"), COUNTING);
    let candidate = json!({"module": "brittle.wasm", "topics": ["dev/#"]});
    begin(&house, json!({"definition": candidate, "max_share_percent": 1}));
    let began = Instant::now();
    let (sent, diff) = loaded_until(&house, &broker, 100);
    let cost_s = diff["cost_nanos"].as_f64().unwrap() / 1e9;
    // Two lanes, each with what it may save up, and a call that takes longer than what was left.
    let most = 2.0 * (0.01 * began.elapsed().as_secs_f64() + 0.01 + 0.05);
    assert!(cost_s <= most, "{cost_s} s of {most} s: {diff}");
    let (given, passed_by) = (diff["rows"].as_u64().unwrap(), diff["skipped_rows"].as_u64().unwrap());
    assert_eq!(given + passed_by, sent, "{diff}");
    house.host.status().assert_balanced("a bounded shadow");
}

/// Guarantees: the same of a candidate that takes milliseconds a call, on all its batches: it gets a call now and then, and the lane goes on with the rest.
#[test]
fn what_burns_is_bounded() {
    let Some(broker) = Mosquitto::start() else { return };
    let house = house(&broker, "brittle", &guest_module("brittle"), COUNTING);
    let burn = "(loop $burn (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $burn (i32.lt_u (local.get $i) (i32.const 10000000))))";
    let file = upload(&house, &wat_guest("burns", &[("process", burn)]));
    let candidate = json!({"module": file, "topics": ["dev/#"], "limits": {"cpu_ms": 1_000}});
    begin(&house, json!({"definition": candidate, "max_share_percent": 1}));
    let began = Instant::now();
    let (sent, diff) = loaded_until(&house, &broker, 4_000);
    let cost_s = diff["cost_nanos"].as_f64().unwrap() / 1e9;
    // Two lanes, each with what it may save up and the call that was under way when that was used up, which a busy machine makes long. All of its calls would
    // be as long as the load.
    let most = 2.0 * (0.01 * began.elapsed().as_secs_f64() + 0.01 + 0.25);
    assert!(cost_s > 0.001 && cost_s <= most, "{cost_s} s of {most} s: {diff}");
    assert_eq!((&diff["state"], &diff["faults"]), (&json!("running"), &json!(0)), "{diff}");
    let (given, passed_by) = (diff["rows"].as_u64().unwrap(), diff["skipped_rows"].as_u64().unwrap());
    assert!(given > 0 && given + passed_by == sent, "{sent} sent: {diff}");
    house.host.status().assert_balanced("a bounded shadow");
}

/// Guarantees: an operator does all of it by commands.
#[test]
fn by_commands() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker, "threshold", &built_module("threshold"), THRESHOLD);
    let file = house.host.path().join("candidate.toml");
    std::fs::write(&file, THRESHOLD.replace("80.0", "90.0")).unwrap();
    let node = format!("http://127.0.0.1:{}", house.host.port());
    let tidegate = |args: &[&str]| -> String {
        let output = Command::new(binary()).args(args).args(["--node", &node]).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}\n{err}");
        out.into_owned()
    };
    let started = tidegate(&["rules", "shadow", "start", "r", file.to_str().unwrap()]);
    assert!(started.starts_with("STATE") && started.contains("running"), "{started}");
    house.measure(&[("dev/a", 85.0)]);
    let diff = tidegate(&["rules", "shadow", "diff", "r"]);
    assert!(diff.contains("ONLY BY") && diff.contains("the rule  raised") && diff.contains("dev/a"), "{diff}");
    assert_eq!(tidegate(&["rules", "shadow", "diff", "r", "--brief"]).lines().count(), 2);
    assert!(tidegate(&["rules", "shadow", "promote", "r", "--state", "taken-over"]).contains("serving"));
    let versions = tidegate(&["rules", "versions", "r"]);
    assert!(versions.lines().count() == 3 && versions.contains("yes"), "{versions}");
    assert!(tidegate(&["rules", "rollback", "r"]).contains("serving"));
    assert_eq!(house.host.ask("GET", "/api/v1/rules/r").send().expect(200)["file"]["config"]["above"], 80.0);
    tidegate(&["rules", "shadow", "start", "r", file.to_str().unwrap(), "--empty", "--max-share", "10"]);
    assert!(tidegate(&["rules", "shadow", "stop", "r"]).contains("stopped"));
}
