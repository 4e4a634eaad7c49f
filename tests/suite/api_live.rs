//! Live data by the API: what passes is shown to who looks on, and nobody waits for them.

use std::process::Command;

use serde_json::{Value, json};
use tidegate_tests::{Events, Host, Mosquitto, Protocol, Publisher, Qos, Setup, binary, plain};

use crate::api_access::assert_told;

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";

pub(crate) fn plant(broker: &Mosquitto) -> Host {
    let setup = Setup::new().mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "");
    setup.module("json-reading").module("threshold").rule("hot", HOT).start()
}

/// Guarantees: a message, the points that came of it and the alert it caused are each shown to who looks on, with what matches and
/// nothing else, and with how the message ended.
#[test]
fn tail() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let mut all = Events::open(host.port(), "/api/v1/tail");
    let mut alerts = Events::open(host.port(), "/api/v1/tail?kind=alert&topic=dev/%2B/temp");
    for events in [&mut all, &mut alerts] {
        assert_eq!(events.next().unwrap().0, "open");
    }
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver([plain("dev/b/rpm", 1, 5.0), plain("dev/a/temp", 2, 95.5)]);
    let message = all.wait_for("message", |name, data| name == "message" && data["topic"] == "dev/a/temp");
    assert!(message["payload"].as_str().unwrap().contains("95.5"), "{message}");
    assert_eq!((message["ended"].as_str(), message["source"].as_str()), (Some("decoded"), Some("plant")));
    let (first, alert) = alerts.next().unwrap();
    assert_eq!(
        (&*first, alert["rule"].as_str(), alert["topic"].as_str()),
        ("alert", Some("hot"), Some("dev/a/temp"))
    );
    publisher.deliver([plain("dev/b/rpm", 3, 6.0)]);
    let point = all.wait_for("point", |name, data| name == "point" && data["value"] == 6.0);
    assert_eq!((point["topic"].as_str(), point["quality"].as_u64()), (Some("dev/b/rpm"), Some(192)));
    let refused = host.ask("GET", "/api/v1/tail?kind=colour").send();
    refused.expect_problem(400, "bad_request");
    host.ask("GET", "/api/v1/tail?topic=a/%23/b").send().expect_problem(400, "bad_request");
}

/// Guarantees: more than was asked for is not shown but counted, all of it; and every message is stored all the same.
#[test]
fn a_sample_says_what_it_leaves_out() {
    const MESSAGES: u64 = 2_000;
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let mut tail = Events::open(host.port(), "/api/v1/tail?kind=message&rows_per_s=5");
    assert_eq!(tail.next().unwrap().0, "open");
    Publisher::connect(&broker, Qos::One).deliver((1..=MESSAGES).map(|n| plain("dev/a/rpm", n, 1.0)));
    host.wait_settled(MESSAGES);
    let (mut shown, mut skipped) = (0, 0);
    tail.wait_for("account of all messages", |name, data| {
        shown += u64::from(name == "message");
        skipped += if name == "skipped" { data["rows"].as_u64().unwrap() } else { 0 };
        shown + skipped == MESSAGES
    });
    assert!(shown >= 5 && skipped > MESSAGES / 2, "{shown} shown, {skipped} skipped");
    assert_eq!(host.rows().len() as u64, MESSAGES);
}

/// Guarantees: the routes that answer when there is news, which are not asked at random, answer with the codes and types that the document tells of them: what they are
/// for, and each way in which they refuse.
#[test]
fn what_waits_is_as_it_is_told() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let document = host.ask("GET", "/api/v1/openapi.json").send().expect(200);
    let asked = |method: &str, path: &str, template: &str, body: Option<&Value>, code: u16| {
        let ask = host.ask(method, path);
        let answer = body.map_or_else(|| host.ask(method, path), |body| ask.json(body)).send();
        assert_eq!(answer.code, code, "{method} {path}: {answer:?}");
        assert_told(&document, method, &format!("/api/v1/{template}"), &answer);
    };
    let mut waiting: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let waits = |it: &Value| it["tags"].as_array().unwrap().contains(&json!("waits"));
        waiting.extend(methods.as_object().unwrap().values().filter(|it| waits(it)).map(|_| path.clone()));
    }
    assert_eq!(waiting, ["/api/v1/backtests/{id}/events", "/api/v1/tail", "/api/v1/trace/next"]);

    asked("GET", "/api/v1/tail", "tail", None, 200);
    asked("GET", "/api/v1/tail?kind=colour", "tail", None, 400);
    let never = json!({"topic": "dev/never/+", "within_s": 1});
    asked("POST", "/api/v1/trace/next", "trace/next", Some(&never), 404);
    asked("POST", "/api/v1/trace/next", "trace/next", Some(&json!({"topic": "a/#/b"})), 400);
    asked("POST", "/api/v1/trace/next", "trace/next", Some(&json!({"topic": 1})), 422);
    asked("POST", "/api/v1/trace/next", "trace/next", None, 415);
    let job =
        host.ask("POST", "/api/v1/backtests").json(&json!({"rule": "hot", "read": "upload"})).send().expect(201);
    asked("GET", &format!("/api/v1/backtests/{}/events", job["id"]), "backtests/{id}/events", None, 200);
    asked("GET", "/api/v1/backtests/999999/events", "backtests/{id}/events", None, 404);

    let mut publisher = Publisher::connect(&broker, Qos::One);
    std::thread::scope(|scope| {
        let next = json!({"topic": "dev/a/temp", "within_s": 45});
        let seen = scope.spawn(move || asked("POST", "/api/v1/trace/next", "trace/next", Some(&next), 200));
        let mut number = 0;
        tidegate_tests::wait_for("its end", tidegate_tests::DEADLINE, || {
            number += 1;
            publisher.deliver([plain("dev/a/temp", number, 95.5)]);
            if seen.is_finished() { Ok(()) } else { Err(format!("{number} published")) }
        });
        seen.join().unwrap();
    });
}

/// Guarantees: so many may look on, and no more; those who go make room.
#[test]
fn so_many_tails() {
    let host = crate::api::quiet().launch();
    let all: Vec<Events> = (0..8).map(|_| Events::open(host.port(), "/api/v1/tail")).collect();
    host.ask("GET", "/api/v1/tail").send().expect_problem(503, "busy");
    drop(all);
    tidegate_tests::wait_for("room", tidegate_tests::DEADLINE, || {
        let answer = host.ask("GET", "/api/v1/tail").send();
        if answer.code == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

/// Guarantees: `tidegate tail` shows what passes through several hosts at once, each line with whose it is, and ends after as many rows
/// as it was told; a host that is away is said to be.
#[test]
fn tail_by_command() {
    let Some(broker) = Mosquitto::start() else { return };
    let (one, two) = (plant(&broker), plant(&broker));
    let node = |host: &Host| format!("http://127.0.0.1:{}", host.port());
    let mut command = Command::new(binary());
    command.args(["tail", "--json", "--kind", "point", "--topic", "dev/a/#", "--count", "2"]);
    command.args(["--node", &node(&one), "--node", &node(&two)]).stdout(std::process::Stdio::piped());
    let mut tailing = command.spawn().unwrap();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // They begin to look on at a moment of their own: it is published until they have seen enough.
    let mut number = 0;
    tidegate_tests::wait_for("its end", tidegate_tests::DEADLINE, || {
        number += 1;
        publisher.deliver([plain("dev/a/temp", number, 1.5)]);
        if tailing.try_wait().unwrap().is_some() { Ok(()) } else { Err(format!("{number} published")) }
    });
    let output = tailing.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let points: Vec<&Value> = events.iter().filter(|event| event["event"] == "point").collect();
    assert!(output.status.success() && points.len() == 2, "{text}");
    assert!(points.iter().all(|point| point["data"]["value"] == 1.5 && point["node"].is_string()), "{text}");

    let away = Command::new(binary()).args(["tail", "--node", "http://127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8_lossy(&away.stderr);
    assert!(!away.status.success() && said.contains("it cannot be reached"), "{said}");
}

/// Guarantees: a message is followed through every rule that serves, with what went in and came out of each and how it ends, and
/// nothing is done: no alert stands, nothing is stored or counted; one that nobody can use says why.
#[test]
fn trace() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let trace = |body: &Value| host.ask("POST", "/api/v1/trace").json(body).send();
    let hot = json!({"topic": "dev/a/temp", "payload": "{\"v\": 95.5, \"u\": \"C\"}"});
    let traced = trace(&hot).expect(200);
    let steps = traced["steps"].as_array().unwrap();
    let rules: Vec<&str> = steps.iter().map(|step| step["rule"].as_str().unwrap()).collect();
    assert_eq!((rules, &traced["ended"]), (vec!["json-reading", "hot"], &json!("decoded")));
    assert_eq!(steps[0]["did"]["points"][0]["value"], 95.5);
    assert_eq!((&steps[1]["given"][0]["value"], &steps[1]["given"][0]["unit"]), (&json!(95.5), &json!("C")));
    assert_eq!(steps[1]["did"]["alerts"][0]["transition"], "raised", "{traced}");
    assert_eq!((&traced["points"][0]["topic"], &traced["points_out"]), (&json!("dev/a/temp"), &json!(1)));
    let cold = json!({"topic": "dev/a/rpm", "payload": "{\"v\": 95.5}"});
    assert_eq!(trace(&cold).expect(200)["steps"].as_array().unwrap().len(), 1, "`hot` does not want it");
    let poison = json!({"topic": "dev/a/temp", "payload": "{"});
    let refused = trace(&poison).expect(200);
    assert_eq!(refused["ended"], "dead_lettered", "{refused}");
    assert!(refused["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{refused}");
    let stray = json!({"topic": "nobody/wants/this", "payload": "{\"v\": 1}"});
    let status = host.status();
    assert_eq!((status.alerts_standing, status.messages.received, status.points.produced), (0, 0, 0));
    assert!(status.rules.iter().all(|rule| rule.stats.rows_in == 0), "{status:?}");
    // `json-reading` takes what nobody else does, so the stray is decoded or not as its topics say: either way it is told.
    assert!(trace(&stray).expect(200)["ended"].is_string());

    for wrong in [json!({}), json!({"topic": "a", "payload": "", "payload_base64": ""}), json!({"topic": "a/#"})] {
        trace(&wrong).expect_problem(422, "body");
    }
    let never = json!({"topic": "dev/never/+", "within_s": 1});
    host.ask("POST", "/api/v1/trace/next").json(&never).send().expect_problem(404, "no_message");
}

/// Guarantees: a trace has rules in the order in which lanes call them: those of the whole node see what all others have made of a row,
/// whatever their `order` says.
#[test]
fn trace_to_the_rules_of_the_node() {
    let setup = crate::api::quiet().module("json-reading").module("k-of-n").module("scale");
    let scale = "module = \"scale.wasm\"\norder = 10\n[config]\nfactor = 10.0\n";
    let sum = "module = \"k-of-n.wasm\"\norder = 0\n[config]\nk = 1\ntopic = \"plant/hot\"\nabove = 50.0\n";
    let host = setup.rule("scale", scale).rule("k-of-n", sum).launch();
    let message = json!({"topic": "dev/a/temp", "payload": "{\"v\": 10.0}"});
    let traced = host.ask("POST", "/api/v1/trace").json(&message).send().expect(200);
    let steps = traced["steps"].as_array().unwrap();
    let given: Vec<(&str, &Value)> =
        steps.iter().map(|step| (step["rule"].as_str().unwrap(), &step["given"][0]["value"])).collect();
    assert_eq!(given[1..], [("scale", &json!(10.0)), ("k-of-n", &json!(100.0))], "{traced}");
    assert_eq!(steps[2]["did"]["alerts"][0]["transition"], "raised", "{traced}");
}

/// Guarantees: the next message that passes is followed as it came, by API and by command, with how it really ended.
#[test]
fn trace_the_next() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let mut command = Command::new(binary());
    command.args(["trace", "--next", "--topic", "dev/+/temp", "--within", "45"]);
    command.args(["--node", &format!("http://127.0.0.1:{}", host.port())]).stdout(std::process::Stdio::piped());
    let mut tracing = command.spawn().unwrap();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let mut number = 0;
    tidegate_tests::wait_for("its end", tidegate_tests::DEADLINE, || {
        number += 1;
        publisher.deliver([plain("dev/a/temp", number, 95.5)]);
        if tracing.try_wait().unwrap().is_some() { Ok(()) } else { Err(format!("{number} published")) }
    });
    let output = tracing.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for words in
        ["dev/a/temp", "json-reading (decoder): 1 in, 1 out", "alert  raised", "decoded; 1 points to the sinks"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Guarantees: what was published is told after the fact, the newest first and page by page, when nothing stands any more; by API and by
/// command.
#[test]
fn alert_history() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = plant(&broker);
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver([plain("dev/a/temp", 1, 95.0), plain("dev/a/temp", 2, 20.0), plain("dev/b/temp", 3, 99.0)]);
    host.wait_settled(3);
    let get = |path: &str| host.ask("GET", path).send().expect(200);
    let standing = get("/api/v1/alerts");
    assert_eq!((standing.as_array().unwrap().len(), &standing[0]["topic"]), (1, &json!("dev/b/temp")));
    assert_eq!(get("/api/v1/alerts?topic=dev/a/temp"), json!([]));
    assert_eq!(get("/api/v1/alerts?rule=other"), json!([]));
    let told = |page: &Value| -> Vec<String> {
        let words =
            |alert: &Value| format!("{} {}", alert["topic"].as_str().unwrap(), alert["transition"].as_str().unwrap());
        page["alerts"].as_array().unwrap().iter().map(words).collect()
    };
    let of_a = get("/api/v1/alerts/history?topic=dev/a/temp");
    assert_eq!(told(&of_a), ["dev/a/temp cleared", "dev/a/temp raised"]);
    let first = get("/api/v1/alerts/history?limit=2");
    let second = get(&format!("/api/v1/alerts/history?limit=2&before={}", first["next"]));
    let mut all = [told(&first), told(&second)].concat();
    all.sort();
    assert_eq!(all, ["dev/a/temp cleared", "dev/a/temp raised", "dev/b/temp raised"]);
    assert!(second["next"].is_null(), "{second}");
    host.ask("GET", "/api/v1/alerts/history?limit=0").send().expect_problem(400, "bad_request");

    let output = Command::new(binary())
        .args(["alerts", "--history", "--topic", "dev/a/#", "--node", &format!("http://127.0.0.1:{}", host.port())])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.lines().count() == 3 && text.contains("cleared"), "{text}");
}
