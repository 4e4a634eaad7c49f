//! What rules keep, by the API: forgotten as asked, and nothing else; and the series that are known.

use std::process::Command;

use serde_json::{Value, json};
use tidegate_tests::{Answer, House, Mosquitto, Setup, binary, guest_module};

const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\n";
const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\n[config]\nabove = 90.0\n";

/// A host with a rule that numbers the readings of each series, and one that raises alerts.
fn house(broker: &Mosquitto) -> House {
    let setup = Setup::new().module("threshold").bytes("brittle", &guest_module("brittle"));
    House::start(broker, setup.rule("number", NUMBER).rule("hot", HOT))
}

/// What the last reading of a topic was numbered.
fn number(house: &House, topic: &str) -> f64 {
    let rows = house.host.rows();
    let last = rows.iter().filter(|row| row.topic == topic).max_by_key(|row| row.time_us);
    last.and_then(|row| row.number()).unwrap()
}

fn reset(house: &House, rule: &str, query: &str) -> Answer {
    house.host.ask("POST", &format!("/api/v1/rules/{rule}/reset-state{query}")).send()
}

/// Guarantees: the state of a series, of a partition or of a rule is forgotten when the answer says so, by API and by command, and no other;
/// alerts that came of it are cleared, and are raised again. What is not there, not meant clearly, or changed since is refused, and changes
/// nothing; and each change is in the audit log.
#[test]
fn state_is_reset() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    let all = [("dev/count/a", 1.0), ("dev/count/b", 1.0), ("dev/count/c", 1.0)];
    house.measure(&all);
    house.measure(&all);
    for (query, code, word) in [
        ("?series=dev/count/z", 404, "not_found"),
        ("?partition=dev/count/z", 404, "not_found"),
        ("?series=dev/count/a&partition=dev/count/a", 400, "bad_request"),
        ("?serie=dev/count/a", 400, "bad_request"),
    ] {
        reset(&house, "number", query).expect_problem(code, word);
    }
    reset(&house, "nobody", "").expect_problem(404, "not_found");
    let path = "/api/v1/rules/number/reset-state";
    house.host.ask("POST", path).header("If-Match", "\"0000\"").send().expect_problem(412, "changed_since");
    let tag = house.host.ask("GET", "/api/v1/rules/number").send().header("etag").unwrap().to_owned();
    let one = house.host.ask("POST", &format!("{path}?series=dev/count/a")).header("If-Match", &tag).send();
    assert_eq!(one.expect(200)["cells"], json!(1));
    house.measure(&all);
    let numbers = |house: &House| -> Vec<f64> { all.iter().map(|(topic, _)| number(house, topic)).collect() };
    assert_eq!(numbers(&house), [1.0, 3.0, 3.0]);
    assert_eq!(reset(&house, "number", "?partition=dev/count/b").expect(200)["cells"], json!(1));

    let node = format!("http://127.0.0.1:{}", house.host.port());
    let tidegate = |args: &[&str]| {
        Command::new(binary()).args(["rules", "reset-state", "number", "--node", &node]).args(args).output().unwrap()
    };
    assert!(!tidegate(&[]).status.success(), "nothing said is not everything");
    let told = tidegate(&["--all", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["cells"], json!(2));
    assert!(told["durable"].is_boolean(), "{told}");
    house.measure(&all);
    assert_eq!(numbers(&house), [1.0, 1.0, 1.0]);

    house.measure(&[("dev/oven/a", 95.0), ("dev/oven/b", 95.0)]);
    assert_eq!(house.host.status().alerts_standing, 2);
    reset(&house, "hot", "?series=dev/oven/a").expect(200);
    assert_eq!(house.host.status().alerts_standing, 1);
    house.measure(&[("dev/oven/a", 96.0), ("dev/oven/b", 96.0)]);
    let history = house.host.ask("GET", "/api/v1/alerts/history?rule=hot").send().expect(200);
    let mut told: Vec<String> = history["alerts"].as_array().unwrap().iter().map(transition).collect();
    told.sort();
    assert_eq!(told, ["dev/oven/a cleared", "dev/oven/a raised", "dev/oven/a raised", "dev/oven/b raised"]);

    house.host.ask("POST", "/api/v1/rules/hot/disable").send().expect(200);
    reset(&house, "hot", "").expect_problem(409, "not_serving");
    let audit = house.host.ask("GET", "/api/v1/audit").send().expect(200);
    let lines = audit["lines"].as_array().unwrap().iter();
    let done = lines.filter(|line| line["operation"] == "resetState" && line["status"] == 200);
    let of: Vec<&str> = done.map(|line| line["of"].as_str().unwrap()).collect();
    assert_eq!(of, ["series=dev/count/a", "partition=dev/count/b", "all", "series=dev/oven/a"], "{audit}");
    let begun = audit["lines"].as_array().unwrap().iter().filter(|line| line["phase"] == "begun");
    assert!(begun.clone().any(|line| line["of"] == "series=dev/count/z"), "also what came to nothing: {audit}");
    assert!(!audit.to_string().contains("serie=dev"), "what no route takes is not written down: {audit}");
    house.host.status().assert_balanced("resets");
}

fn transition(alert: &Value) -> String {
    format!("{} {}", alert["topic"].as_str().unwrap(), alert["transition"].as_str().unwrap())
}

/// Guarantees: series are found by a part of their topic, page by page, each once, and together with a topic filter; what is in none is no
/// mistake.
#[test]
fn series_by_a_part_of_their_topic() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    house.measure(&[("dev/oven/a", 1.0), ("dev/count/oven", 1.0), ("dev/count/a", 1.0), ("dev/Oven/a", 1.0)]);
    let ask = |query: &str| house.host.ask("GET", &format!("/api/v1/series{query}")).send().expect(200);
    let topics = |page: &Value| -> Vec<String> {
        let all = page["series"].as_array().unwrap().iter();
        let mut topics: Vec<_> = all.map(|it| it["topic"].as_str().unwrap().to_owned()).collect();
        topics.sort();
        topics
    };
    assert_eq!(topics(&ask("?contains=oven")), ["dev/count/oven", "dev/oven/a"]);
    assert_eq!(topics(&ask("?contains=oven&topic=dev/%2B/a")), ["dev/oven/a"]);
    let none = ask("?contains=nowhere");
    assert_eq!((topics(&none), &none["next"], &none["known"]), (Vec::new(), &Value::Null, &json!(4)));
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = ask(&format!("?contains=oven&limit=1&after={after}"));
        found.extend(topics(&page));
        let Some(next) = page["next"].as_u64() else { break };
        after = next;
    }
    found.sort();
    assert_eq!(found, ["dev/count/oven", "dev/oven/a"]);
}
