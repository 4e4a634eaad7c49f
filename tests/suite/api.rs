//! The admin API: rules and modules made, changed, tried and taken away, whole or not at all.

use std::os::unix::fs::symlink;
use std::sync::Barrier;

use serde_json::{Value, json};
use tidegate_tests::{DEADLINE, Host, Setup, built_module, guest_module, wait_for};

/// A host that nobody sends anything: the API is what is tested.
pub(crate) fn quiet() -> Setup {
    Setup::new().toml("[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:1\"\ntopics = [\"dev/#\"]\n")
}

fn threshold(above: f64) -> Value {
    json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "config": {"above": above}})
}

fn etag(host: &Host, rule: &str) -> String {
    let answer = host.ask("GET", &format!("/api/v1/rules/{rule}")).send();
    answer.expect(200);
    answer.header("etag").unwrap().to_owned()
}

fn upload(host: &Host, name: &str) -> Value {
    let answer = host.ask("POST", "/api/v1/modules").body("application/wasm", &built_module(name)).send();
    assert!(answer.code == 201 || answer.code == 200, "{answer:?}");
    answer.json()
}

/// Guarantees: a rule's whole life by the API: its module comes in and waits, the rule serves when the answer says so, is changed
/// in part, tried, switched, and taken away, module and all; what the API says is what the files say.
#[test]
fn a_rules_life() {
    let host = quiet().launch();
    let module = upload(&host, "threshold");
    let (sha256, file) = (module["sha256"].as_str().unwrap(), module["file"].as_str().unwrap());
    assert_eq!(
        (module["description"]["kind"].as_str(), file),
        (Some("processor"), format!("{sha256}.wasm").as_str())
    );
    assert_eq!(host.ask("GET", "/api/v1/rules").send().expect(200), json!([]), "it waits for a rule to name it");

    let mut definition = threshold(90.0);
    definition["module"] = file.into();
    let made = host.ask("PUT", "/api/v1/rules/hot").header("If-None-Match", "*").json(&definition).send();
    let shown = made.expect(201);
    assert_eq!((shown["state"].as_str(), shown["sha256"].as_str()), (Some("serving"), Some(sha256)));
    assert_eq!(made.header("etag").unwrap(), etag(&host, "hot"));
    let text = std::fs::read_to_string(host.rules_dir().join("hot.toml")).unwrap();
    assert!(text.contains("above = 90.0") && text.contains(file), "{text}");
    host.ask("PUT", "/api/v1/rules/hot")
        .header("If-None-Match", "*")
        .json(&definition)
        .send()
        .expect_problem(412, "changed_since");

    let patch = json!({"order": 7, "limits": {"cpu_ms": 20}, "config": {"hysteresis": 2.5}}).to_string();
    let changed = host
        .ask("PATCH", "/api/v1/rules/hot")
        .body("application/merge-patch+json", patch.as_bytes())
        .send()
        .expect(200);
    assert_eq!((&changed["order"], &changed["file"]["limits"]["cpu_ms"]), (&json!(7), &json!(20)));
    assert_eq!(changed["file"]["config"], json!({"above": 90.0, "hysteresis": 2.5}));
    assert!(changed["generation"].as_u64() > shown["generation"].as_u64(), "{changed}");

    let points = json!({"points": [{"topic": "dev/a/temp", "value": 89.0}, {"topic": "dev/a/temp", "value": 95.0}]});
    let tried = host.ask("POST", "/api/v1/rules/hot/test").json(&points).send().expect(200);
    assert_eq!(tried["alerts"][0]["transition"], "raised", "{tried}");
    assert_eq!((tried["points"].as_array().unwrap().len(), &tried["points"][1]["from"]), (2, &json!(1)));
    assert_eq!(host.status().alerts_standing, 0, "nothing is done");

    assert_eq!(host.ask("POST", "/api/v1/rules/hot/disable").send().expect(200)["state"], "disabled");
    assert_eq!(host.ask("POST", "/api/v1/rules/hot/enable").send().expect(200)["state"], "serving");
    host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect_problem(409, "in_use");
    host.ask("DELETE", "/api/v1/rules/hot").send().expect(204);
    host.ask("GET", "/api/v1/rules/hot").send().expect_problem(404, "not_found");
    host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect(204);
    assert_eq!(std::fs::read_dir(host.rules_dir()).unwrap().count(), 0, "nothing is left behind");

    let audit = host.ask("GET", "/api/v1/audit").send().expect(200);
    let lines = |phase: &str| -> Vec<Value> {
        audit["lines"].as_array().unwrap().iter().filter(|line| line["phase"] == phase).cloned().collect()
    };
    let (begun, ended) = (lines("begun"), lines("ended"));
    let done: Vec<&str> = ended.iter().map(|line| line["operation"].as_str().unwrap()).collect();
    let numbers = |lines: &[Value]| -> Vec<Value> { lines.iter().map(|line| line["change"].clone()).collect() };
    assert_eq!(numbers(&begun), numbers(&ended), "each is written down before and after: {audit}");
    let expected = [
        "uploadModule",
        "putRule",
        "putRule",
        "patchRule",
        "disableRule",
        "enableRule",
        "deleteModule",
        "deleteRule",
        "deleteModule",
    ];
    assert_eq!(done, expected, "{audit}");
    let put = &ended[1];
    assert!(put["after"].is_string() && put["before"].is_null() && put["who"] == "this machine", "{put}");
}

/// Guarantees: a definition with mistakes, a configuration that is not what the module's schema or the module itself takes, and a
/// module that is not there are refused before anything is written, each mistake with its place.
#[test]
fn mistakes_change_nothing() {
    let host = quiet()
        .module("threshold")
        .rule("hot", "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90\n")
        .launch();
    let (before, tag) = (std::fs::read(host.rules_dir().join("hot.toml")).unwrap(), etag(&host, "hot"));
    let put = |definition: &Value| host.ask("PUT", "/api/v1/rules/hot").json(definition).send();
    let pointers = |problem: Value| -> Vec<String> {
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect()
    };
    let mut two = threshold(1.0);
    two["order"] = json!("first");
    two["topics"] = json!(["dev/#/x"]);
    let found = pointers(put(&two).expect_problem(422, "definition"));
    assert!(found.contains(&"/order".to_owned()) && found.contains(&"/topics/0".to_owned()), "{found:?}");
    let mut wrong = threshold(1.0);
    wrong["config"] = json!({"above": "hot"});
    assert_eq!(pointers(put(&wrong).expect_problem(422, "config")), ["/config/above"]);
    wrong["config"] = json!({});
    assert_eq!(pointers(put(&wrong).expect_problem(422, "config"))[0], "/config");
    let mut absent = threshold(1.0);
    absent["module"] = json!("nobody.wasm");
    assert_eq!(pointers(put(&absent).expect_problem(422, "module")), ["/module"]);
    put(&json!({"module": "../hot.wasm"})).expect_problem(422, "definition");
    put(&json!([])).expect_problem(422, "definition");
    let garbage = host.ask("PUT", "/api/v1/rules/hot").body("application/json", b"{").send();
    garbage.expect_problem(400, "bad_request");
    assert_eq!(std::fs::read(host.rules_dir().join("hot.toml")).unwrap(), before);
    assert_eq!(etag(&host, "hot"), tag);
    assert_eq!(host.ask("GET", "/api/v1/rules/hot").send().expect(200)["state"], "serving");
}

/// Guarantees: of many who change the same version of a rule at once, one does; the others are told, and can see what it is now.
#[test]
fn conflicting_changes() {
    const CALLERS: usize = 8;
    let host = quiet()
        .module("threshold")
        .rule("hot", "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90\n")
        .launch();
    for round in 0..3 {
        let (tag, start) = (etag(&host, "hot"), Barrier::new(CALLERS));
        let order = |caller: usize| round * 100 + caller + 1;
        let codes: Vec<(usize, u16)> = std::thread::scope(|scope| {
            let each = |caller: usize| {
                let (host, tag, start) = (&host, &tag, &start);
                scope.spawn(move || {
                    let patch = json!({"order": order(caller)}).to_string();
                    let ask = host.ask("PATCH", "/api/v1/rules/hot").header("If-Match", tag);
                    start.wait();
                    (caller, ask.body("application/merge-patch+json", patch.as_bytes()).send().code)
                })
            };
            let all: Vec<_> = (0..CALLERS).map(each).collect();
            all.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let won: Vec<usize> = codes.iter().filter(|(_, code)| *code == 200).map(|(caller, _)| *caller).collect();
        assert!(won.len() == 1 && codes.iter().all(|(_, code)| [200, 412].contains(code)), "{codes:?}");
        let now = host.ask("GET", "/api/v1/rules/hot").send().expect(200);
        assert_eq!(now["order"], json!(order(won[0])));
    }
}

/// Guarantees: whatever is done to a rule at once, by everything that may (made anew, deleted, switched, converged, written by hand), in the end the API says what the files
/// say, nothing hidden is left among them, and a document can be brought about as ever.
#[test]
fn everything_at_once() {
    const ROUNDS: u32 = 6;
    let host = quiet().launch();
    let module = upload(&host, "threshold")["file"].clone();
    let rule =
        |above: u32| json!({"module": module, "topics": ["dev/+/temp"], "config": {"above": f64::from(above)}});
    host.ask("PUT", "/api/v1/rules/hot").json(&rule(1)).send().expect(201);
    let start = Barrier::new(5);
    let again = |of: &dyn Fn(u32) -> (u16, &'static [u16])| {
        start.wait();
        for round in 0..ROUNDS {
            let (code, may) = of(round);
            // Of another who came between, and of a change that nobody could read meanwhile, one may hear; of a fault not.
            assert!(may.contains(&code), "{code} is none of {may:?}");
        }
    };
    let ask = |method: &str, path: &str| host.ask(method, &format!("/api/v1/{path}"));
    let put = |round| (ask("PUT", "rules/hot").json(&rule(100 + round)).send().code, &[200, 201, 409, 503][..]);
    let delete = |_| (ask("DELETE", "rules/hot").send().code, &[204, 404, 409, 503][..]);
    let switch = |round: u32| {
        let which = if round.is_multiple_of(2) { "rules/hot/disable" } else { "rules/hot/enable" };
        (ask("POST", which).send().code, &[200, 404, 409, 503][..])
    };
    let converge = |round: u32| {
        let rules = json!({"rules": {"hot": rule(200 + round), "warm": rule(300 + round)}});
        (ask("PUT", "desired").json(&rules).send().code, &[200, 409, 503][..])
    };
    let write = |round: u32| {
        let name = module.as_str().unwrap();
        let text = format!("module = {name:?}\ntopics = [\"dev/#\"]\n[config]\nabove = {}.0\n", 400 + round);
        host.drop_by_rename("hot.toml", text.as_bytes());
        (0, &[0][..])
    };
    std::thread::scope(|scope| {
        scope.spawn(|| again(&put));
        scope.spawn(|| again(&delete));
        scope.spawn(|| again(&switch));
        scope.spawn(|| again(&converge));
        scope.spawn(|| again(&write));
    });
    wait_for("the API to say what the files say", DEADLINE, || {
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        let (mut told, mut written) = (Vec::new(), Vec::new());
        for rule in rules.as_array().unwrap() {
            let name = rule["name"].as_str().unwrap();
            let answer = host.ask("GET", &format!("/api/v1/rules/{name}")).send();
            let rule = if answer.code == 200 { answer.json() } else { Value::Null };
            let state = rule["state"].as_str().unwrap_or_default().to_owned();
            told.push((name.to_owned(), rule["file"]["config"]["above"].as_f64(), state));
        }
        for entry in std::fs::read_dir(host.rules_dir()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(rule) = name.strip_suffix(".toml").filter(|it| !it.starts_with('.')) else { continue };
            let text = std::fs::read_to_string(host.rules_dir().join(&name)).unwrap();
            let above = text.lines().find_map(|line| line.strip_prefix("above = ")?.parse().ok());
            let state = if text.contains("enabled = false") { "disabled" } else { "serving" };
            written.push((rule.to_owned(), above, state.to_owned()));
        }
        told.sort_by(|a, b| a.0.cmp(&b.0));
        written.sort_by(|a, b| a.0.cmp(&b.0));
        let problems = rules.as_array().unwrap().iter().any(|rule| rule["problem"].is_string());
        let hidden: Vec<String> = std::fs::read_dir(host.rules_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        let same = told == written && !problems && hidden.is_empty();
        if same { Ok(()) } else { Err(format!("{rules}; {told:?}; {written:?}; {hidden:?}")) }
    });
    let document = json!({"rules": {"hot": rule(90)}});
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect(200);
    let plan = host.ask("PUT", "/api/v1/desired?plan=true").json(&document).send().expect(200);
    assert_eq!(plan["differs"], false, "{plan}");
}

/// Guarantees: killed while it writes rules, over and over, a host comes back with each rule whole, as it was before or after a
/// change, and never without one that was answered for.
#[test]
fn killed_while_it_writes() {
    let rule = "module = \"threshold.wasm\"\norder = 0\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90\n";
    let mut host = quiet().module("threshold").rule("hot", rule).launch();
    let mut order = 0;
    for round in 0..4 {
        let port = host.port();
        let answered = std::sync::atomic::AtomicI64::new(order);
        let asked = std::sync::atomic::AtomicI64::new(order);
        std::thread::scope(|scope| {
            use std::sync::atomic::Ordering::SeqCst;
            let (answered, asked) = (&answered, &asked);
            scope.spawn(move || {
                for next in order + 1.. {
                    let patch = json!({"order": next}).to_string();
                    asked.store(next, SeqCst);
                    let sent = std::panic::catch_unwind(|| {
                        tidegate_tests::Ask::new(port, "PATCH", "/api/v1/rules/hot")
                            .body("application/merge-patch+json", patch.as_bytes())
                            .send()
                            .code
                    });
                    match sent {
                        Ok(200) => answered.store(next, SeqCst),
                        // It was killed.
                        _ => return,
                    }
                }
            });
            // After a few were answered for, at some point of the next.
            wait_for("some changes", DEADLINE, || {
                let done = answered.load(SeqCst);
                if done > order + round { Ok(()) } else { Err(format!("{done} of {order}")) }
            });
            host.kill();
        });
        host.launch_again();
        let rule = host.ask("GET", "/api/v1/rules/hot").send().expect(200);
        let found = rule["order"].as_i64().unwrap();
        let (least, most) = (answered.into_inner(), asked.into_inner());
        assert!((least..=most).contains(&found), "round {round}: {found} of {least} to {most}: {rule}");
        assert_eq!(rule["state"], "serving", "{rule}");
        order = found;
    }
}

/// Guarantees: a rule that was dropped as a file and is deleted by the API leaves a module that waits, and starts nothing else; one
/// that is put on another module leaves the old one waiting as well.
#[test]
fn modules_that_are_left_do_not_run() {
    let host = quiet().module("threshold").module("scale").launch();
    let names = |host: &Host| -> Vec<String> {
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        rules.as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&host), ["scale", "threshold"]);
    host.ask("DELETE", "/api/v1/rules/scale").send().expect(204);
    assert_eq!(names(&host), ["threshold"]);
    assert_eq!(host.ask("GET", "/api/v1/modules").send().expect(200).as_array().unwrap().len(), 2);
    // A rule that runs by its module's defaults goes on beside another one that has the same module.
    let definition = json!({"module": "threshold.wasm", "topics": ["dev/#"], "config": {"above": 1}});
    host.ask("PUT", "/api/v1/rules/hot").json(&definition).send().expect(201);
    assert_eq!(names(&host), ["hot", "threshold"]);
    host.ask("DELETE", "/api/v1/rules/threshold").send().expect(204);
    assert_eq!(names(&host), ["hot"]);
    let absence = upload(&host, "absence");
    let other = json!({"module": absence["file"], "topics": ["dev/#"], "config": {"after_s": 60}});
    let put = host.ask("PUT", "/api/v1/rules/hot").json(&other).send();
    assert!(put.code == 200, "{put:?}");
    assert_eq!(names(&host), ["hot"]);
    host.ask("DELETE", "/api/v1/rules/hot").send().expect(204);
    assert!(names(&host).is_empty(), "{:?}", names(&host));
}

/// Guarantees: where the rules come from elsewhere nothing is written: with `readonly`, and through a symlink as in a ConfigMap; what
/// is there can be seen, and tried.
#[test]
fn read_only() {
    let host = quiet().admin("readonly = true").module("threshold").launch();
    let before = tidegate_tests::files(&host.rules_dir());
    for (method, path) in [
        ("PUT", "/api/v1/rules/hot"),
        ("PATCH", "/api/v1/rules/threshold"),
        ("DELETE", "/api/v1/rules/threshold"),
        ("POST", "/api/v1/rules/threshold/disable"),
        ("POST", "/api/v1/modules"),
    ] {
        host.ask(method, path).json(&threshold(1.0)).send().expect_problem(403, "readonly");
    }
    let input = json!({"definition": threshold(1.0), "points": [{"topic": "dev/a/temp", "value": 2}]});
    let tried = host.ask("POST", "/api/v1/test").json(&input).send().expect(200);
    assert_eq!(tried["alerts"].as_array().unwrap().len(), 1, "{tried}");
    assert_eq!(tidegate_tests::files(&host.rules_dir()), before);

    let host = quiet().module("threshold").launch();
    let elsewhere = host.path().join("elsewhere.toml");
    std::fs::write(&elsewhere, "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 1\n").unwrap();
    symlink(&elsewhere, host.rules_dir().join("hot.toml")).unwrap();
    wait_for("the linked rule", DEADLINE, || {
        let answer = host.ask("GET", "/api/v1/rules/hot").send();
        if answer.code == 200 && answer.json()["state"] == "serving" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    host.ask("PUT", "/api/v1/rules/hot").json(&threshold(5.0)).send().expect_problem(409, "symlink");
    host.ask("DELETE", "/api/v1/rules/hot").send().expect_problem(409, "symlink");
    host.ask("POST", "/api/v1/rules/hot/disable").send().expect_problem(409, "symlink");
    assert!(std::fs::read_to_string(&elsewhere).unwrap().contains("above = 1\n"));
    assert!(host.rules_dir().join("hot.toml").is_symlink());
}

/// Guarantees: what is no module, or wants what no rule gets, is refused with the reason, and leaves no file; one that is sent
/// twice is there once.
#[test]
fn modules_come_in_whole_or_not_at_all() {
    let host = quiet().launch();
    let send = |bytes: &[u8]| host.ask("POST", "/api/v1/modules").body("application/wasm", bytes).send();
    send(b"no module").expect_problem(422, "not_wasm");
    send(b"").expect_problem(422, "not_wasm");
    let module = built_module("scale");
    send(&module[..module.len() / 2]).expect_problem(422, "not_wasm");
    host.ask("POST", "/api/v1/modules")
        .body("text/plain", &module)
        .send()
        .expect_problem(415, "unsupported_media_type");
    assert_eq!(std::fs::read_dir(host.rules_dir()).unwrap().count(), 0);
    send(&module).expect(201);
    let again = send(&module).expect(200);
    let listed = host.ask("GET", "/api/v1/modules").send().expect(200);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let one = host.ask("GET", &format!("/api/v1/modules/{}", again["sha256"].as_str().unwrap())).send().expect(200);
    assert_eq!(one["description"]["name"], "scale", "{one}");
}

/// Guarantees: a trial shows how a rule fails, and neither the host nor the rule that serves is any the worse for it.
#[test]
fn trials_leave_no_trace() {
    let host = quiet().bytes("hostile", &guest_module("hostile")).module("json-reading").launch();
    let messages = json!({"messages": [
        {"topic": "dev/a/temp", "payload": "{\"v\": 21.5, \"ts\": 1703289600000}"},
        {"topic": "dev/a/temp", "payload": "garbage"},
        {"topic": "dev/a/temp", "payload_base64": "/w=="}
    ]});
    let tried = host.ask("POST", "/api/v1/rules/json-reading/test").json(&messages).send().expect(200);
    assert_eq!((&tried["points"][0]["value"], &tried["points"][0]["from"]), (&json!(21.5), &json!(0)), "{tried}");
    let rows: Vec<u64> =
        tried["rejected"].as_array().unwrap().iter().map(|reject| reject["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 2], "{tried}");
    let points = json!({"points": [{"topic": "dev/a/temp", "value": 1}]});
    host.ask("POST", "/api/v1/rules/json-reading/test").json(&points).send().expect_problem(422, "body");
    let status = host.status();
    assert_eq!(status.rule("json-reading").stats.rows_in, 0);
    assert_eq!(status.messages.received, 0);
}
