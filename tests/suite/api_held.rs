//! Rules changed while a sink that is away holds the lanes back.

use serde_json::json;
use tidegate_tests::{
    DEADLINE, Fault, Host, Mosquitto, Protocol, Proxy, Publisher, Qos, Setup, built_module, plain, variant, wait_for,
};

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\n[config]\nabove = 90.0\n";

const COLD: &str =
    "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\nenabled = false\n[config]\nabove = 10.0\n";

/// A host whose lane is held back by a sink that is away, behind the proxy; and how many messages it was sent until then.
fn held(broker: &Mosquitto, line: &Proxy) -> (Host, u64) {
    line.set(Fault::Refused);
    let host = Setup::new()
        .mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "")
        .alerts_without_a_spool(line.port())
        .module("json-reading")
        .module("threshold")
        .rule("hot", HOT)
        .rule("cold", COLD)
        .launch();
    host.wait_taking(2);
    let mut publisher = Publisher::connect(broker, Qos::One);
    publisher.deliver([plain("dev/idle/a", 1, 1.0)]);
    host.wait_rows(1);
    let mut sent = 1;
    wait_for("a lane to be held back", DEADLINE, || {
        // One by one, so that they are many deliveries: what may wait for the sink is counted in those. An answer can take seconds.
        for _ in 0..20 {
            sent += 1;
            publisher.deliver([plain(&format!("dev/oven/t{sent}"), sent, 95.0)]);
        }
        let reset = host.ask("POST", "/api/v1/rules/hot/reset-state?partition=dev/idle/a").send();
        if reset.code == 503 { Ok(()) } else { Err(format!("{reset:?}")) }
    });
    (host, sent)
}

/// Guarantees: while as many changes wait for a lane as may be under way, and more are refused, what only looks something up is answered, and a module that comes in is
/// taken in.
#[test]
fn who_looks_on_waits_for_no_change() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let (host, _) = held(&broker, &line);
    let module = variant(&built_module("threshold"), 1);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        for _ in 0..20 {
            let (tell, host) = (tell.clone(), &host);
            threads.spawn(move || {
                // Each waits for ten seconds at least, one after the other, unless there is no place for it; so the places fill up.
                let refused = (0..6).any(|_| {
                    let disabled = host.ask("POST", "/api/v1/rules/hot/disable").send();
                    disabled.json()["detail"].as_str().is_some_and(|why| why.contains("too much is under way"))
                });
                if refused {
                    // Nobody listens any more when the last ones are refused.
                    let _ = tell.send(());
                }
            });
        }
        drop(tell);
        told.recv_timeout(DEADLINE)
            .unwrap_or_else(|_| panic!("waited {DEADLINE:?} for one change too many to be refused"));
        // One that has come all its way waits for its turn like them.
        let upload = threads.spawn(|| host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send());
        for path in ["series", "audit", "alerts", "modules", "dead-letters"] {
            host.ask("GET", &format!("/api/v1/{path}")).send().expect(200);
        }
        wait_for("the module to have come, or to be refused", DEADLINE, || {
            let lengths = std::fs::read_dir(host.rules_dir()).unwrap().filter_map(|file| file.ok()?.metadata().ok());
            let has_come = lengths.into_iter().any(|file| file.len() == module.len() as u64);
            if has_come || upload.is_finished() { Ok(()) } else { Err("neither") }
        });
        line.set(Fault::None);
        upload.join().unwrap().expect(201);
    });
}

/// Guarantees: a rule that is to be deleted, disabled, enabled, tried again, changed, renamed or left out of what is desired, and state that is to be forgotten, are refused as busy while a lane
/// is held back, and everything is as it was; reading is answered meanwhile; and once the sink works the rule goes as it is asked to, with its alerts.
#[test]
fn refused_and_as_it_was() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let (host, sent) = held(&broker, &line);
    let shown = || {
        let answer = host.ask("GET", "/api/v1/rules/hot").send();
        let rule = answer.expect(200);
        (answer.header("etag").unwrap().to_owned(), rule["state"].clone(), rule["problem_code"].clone())
    };
    let before = shown();
    assert_eq!((&before.1, &before.2), (&json!("serving"), &json!(null)));
    let mut off = host.ask("GET", "/api/v1/rules/hot").send().expect(200)["file"].clone();
    off["enabled"] = false.into();
    host.ask("DELETE", "/api/v1/rules/hot").send().expect_problem(503, "busy");
    host.ask("POST", "/api/v1/rules/hot/disable").send().expect_problem(503, "busy");
    host.ask("PUT", "/api/v1/rules/hot").json(&off).send().expect_problem(503, "busy");
    host.ask("PUT", "/api/v1/desired").json(&json!({"rules": {}})).send().expect_problem(503, "busy");
    let mut renamed = host.ask("GET", "/api/v1/export?modules=false").send().expect(200);
    let rules = renamed["rules"].as_object_mut().unwrap();
    let hot = rules.remove("hot").unwrap();
    rules.insert("warm".to_owned(), hot);
    host.ask("PUT", "/api/v1/desired").json(&json!({"rules": rules})).send().expect_problem(503, "busy");
    host.ask("GET", "/api/v1/rules/warm").send().expect_problem(404, "not_found");
    // One that no file names, too: what said meanwhile that its module waits is gone with the answer.
    host.ask("DELETE", "/api/v1/rules/json-reading").send().expect_problem(503, "busy");
    let decoder = host.ask("GET", "/api/v1/rules/json-reading").send().expect(200);
    assert_eq!((&decoder["state"], &decoder["problem"]), (&json!("serving"), &json!(null)), "{decoder}");
    assert!(!host.rules_dir().join(".json-reading.wasm.waits").exists());
    host.ask("POST", "/api/v1/rules/hot/reset-state").send().expect_problem(503, "busy");
    host.ask("POST", "/api/v1/rules/cold/enable").send().expect_problem(503, "busy");
    assert_eq!(std::fs::read_to_string(host.rules_dir().join("cold.toml")).unwrap(), COLD);
    assert_eq!(shown(), before);
    let mut on = off.clone();
    (on["enabled"], on["config"]["above"]) = (true.into(), 80.0.into());
    host.ask("PUT", "/api/v1/rules/hot").json(&on).send().expect_problem(503, "busy");
    let now = shown();
    assert_eq!((now.0, now.1), (before.0, before.1), "its file, and that it serves");
    // What somebody writes by hand is not put back, and another try is as busy as the first.
    std::fs::write(host.rules_dir().join("hot.toml"), HOT.replace("90.0", "85.0")).unwrap();
    for again in ["retry", "enable"] {
        host.ask("POST", &format!("/api/v1/rules/hot/{again}")).send().expect_problem(503, "busy");
    }

    line.set(Fault::None);
    // A sink that was away for so long may be left alone for half a minute more, and each try waits ten seconds for the lanes.
    wait_for("the rule to be deleted", DEADLINE * 2, || {
        let deleted = host.ask("DELETE", "/api/v1/rules/hot").send();
        if deleted.code == 204 { Ok(()) } else { Err(format!("{deleted:?}")) }
    });
    host.ask("GET", "/api/v1/rules/hot").send().expect_problem(404, "not_found");
    assert_eq!(host.ask("GET", "/api/v1/rules/cold").send().expect(200)["state"], "disabled");
    host.wait_settled(sent);
    host.wait_status("its alerts to be cleared", |status| (status.alerts_standing == 0).then_some(()));
    host.status().assert_balanced("a rule that went late");
}
