//! Generations of a rule: kept, listed, gone back to, over a restart too.

use serde_json::{Value, json};
use tidegate_tests::{Host, Mosquitto, Protocol, Publisher, Qos, Setup, built_module, plain, variant};

use crate::api::quiet;

fn threshold(above: f64) -> String {
    format!("module = \"threshold.wasm\" # ours\ntopics = [\"dev/+/temp\"]\n[config]\nabove = {above:.1}\n")
}

fn versions(host: &Host, rule: &str) -> Vec<Value> {
    let listed = host.ask("GET", &format!("/api/v1/rules/{rule}/versions")).send().expect(200);
    listed.as_array().unwrap().clone()
}

fn rule(host: &Host, rule: &str) -> Value {
    host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200)
}

fn read(host: &Host, file: &str) -> String {
    std::fs::read_to_string(host.rules_dir().join(file)).unwrap()
}

fn wait_generation(host: &Host, rule: &str, after: u64) -> u64 {
    host.wait_status("the next generation", |status| {
        let found = status.rules.iter().find(|it| it.name == rule)?;
        (found.generation > after && found.problem.is_none()).then_some(found.generation)
    })
}

/// Guarantees: a rule goes back to the file it had, word for word; back and forth by number; not on a wrong ETag, not to what is not
/// kept, not to what serves. A restart changes none of it: the numbers go on, and a file that is broken then lets what served last serve.
#[test]
fn back_over_a_restart() {
    let mut host = quiet().module("threshold").rule("hot", &threshold(80.0)).launch();
    let rollback = |host: &Host, body: Value| host.ask("POST", "/api/v1/rules/hot/rollback").json(&body).send();
    let first = host.status().rule("hot").generation;
    rollback(&host, json!({})).expect_problem(409, "no_version");
    host.drop_by_rename("hot.toml", threshold(90.0).as_bytes());
    let second = wait_generation(&host, "hot", first);
    let tag = "\"0000\"";
    let stale = host.ask("POST", "/api/v1/rules/hot/rollback").header("If-Match", tag).json(&json!({})).send();
    stale.expect_problem(412, "changed_since");

    let back = rollback(&host, json!({})).expect(200);
    assert_eq!((&back["file"]["config"]["above"], read(&host, "hot.toml")), (&json!(80.0), threshold(80.0)));
    let third = back["generation"].as_u64().unwrap();
    assert!(third > second);
    let numbers = |host: &Host| -> Vec<(u64, bool)> {
        let each = |it: Value| (it["generation"].as_u64().unwrap(), it["serving"].as_bool().unwrap());
        versions(host, "hot").into_iter().map(each).collect()
    };
    assert_eq!(numbers(&host), [(third, true), (second, false)], "the same as the first, which is now the third");
    rollback(&host, json!({"generation": third})).expect_problem(409, "serves_already");
    rollback(&host, json!({"generation": 1_000})).expect_problem(409, "not_kept");
    rollback(&host, json!({"generation": "first"})).expect_problem(422, "body");

    host.kill();
    host.launch_again();
    assert_eq!(numbers(&host), [(third, true), (second, false)]);
    let forth = rollback(&host, json!({"generation": second})).expect(200);
    assert_eq!((&forth["file"]["config"]["above"], read(&host, "hot.toml")), (&json!(90.0), threshold(90.0)));
    let fourth = forth["generation"].as_u64().unwrap();

    host.kill();
    std::fs::write(host.rules_dir().join("hot.toml"), "module = ").unwrap();
    host.launch_again();
    let broken = rule(&host, "hot");
    assert_eq!((&broken["state"], &broken["generation"]), (&json!("serving"), &json!(fourth)), "{broken}");
    assert_eq!(broken["problem_code"], "file", "{broken}");
    assert_eq!(
        host.ask("GET", "/api/v1/rules").send().expect(200).as_array().unwrap().len(),
        1,
        "no module is set free"
    );
    let mended = rollback(&host, json!({})).expect(200);
    assert_eq!((read(&host, "hot.toml"), mended["problem_code"].is_null()), (threshold(90.0), true), "{mended}");
}

/// Guarantees: a module that was overwritten is put back from what is kept, in its own file where nobody else uses that, and beside it,
/// under its digest, where another rule does, which is left as it is.
#[test]
fn modules_come_back() {
    let host = quiet().module("threshold").rule("hot", &threshold(80.0)).launch();
    let (module, other) = (built_module("threshold"), variant(&built_module("threshold"), 1));
    let first = host.status().rule("hot").generation;
    host.drop_by_overwrite("threshold.wasm", &other);
    let second = wait_generation(&host, "hot", first);
    let back = host.ask("POST", "/api/v1/rules/hot/rollback").json(&json!({})).send().expect(200);
    assert!(back["generation"].as_u64().unwrap() > second);
    assert_eq!(std::fs::read(host.rules_dir().join("threshold.wasm")).unwrap(), module);
    assert_eq!(read(&host, "hot.toml"), threshold(80.0));

    host.drop_by_rename("warm.toml", threshold(60.0).as_bytes());
    wait_generation(&host, "warm", 0);
    let third = host.status().rule("hot").generation;
    host.drop_by_overwrite("threshold.wasm", &other);
    wait_generation(&host, "hot", third);
    let (warm, back) = (rule(&host, "warm"), host.ask("POST", "/api/v1/rules/hot/rollback").json(&json!({})).send());
    let back = back.expect(200);
    let file = back["file"]["module"].as_str().unwrap();
    assert_eq!(file, format!("{}.wasm", back["sha256"].as_str().unwrap()));
    assert_eq!(std::fs::read(host.rules_dir().join(file)).unwrap(), module);
    assert_eq!(std::fs::read(host.rules_dir().join("threshold.wasm")).unwrap(), other);
    let now = host.wait_status("warm on the other module", |status| {
        let warm = status.rule("warm");
        (warm.problem.is_none()).then(|| warm.sha256.clone())
    });
    assert_ne!(now.as_deref(), back["sha256"].as_str());
    assert_eq!(warm["name"], "warm");
    assert!(read(&host, "hot.toml").contains("# ours"), "its comments stay");
    assert_eq!(host.status().rules.len(), 2, "nothing else runs");
}

/// Guarantees: a new module that swallows what it should let through is gone back from in one request, and messages flow as before; what
/// it did meanwhile is in the dead letters, and nothing is lost.
#[test]
fn back_from_a_module_that_misbehaves() {
    let Some(broker) = Mosquitto::start() else { return };
    let (good, bad) = (built_module("json-reading"), built_module("json-fields"));
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").bytes("json-reading", &good).start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let send = |publisher: &mut Publisher, from: u64| {
        publisher.deliver((from..from + 50).map(|number| plain(&format!("dev/a/t{}", number % 5), number, 1.5)));
    };
    send(&mut publisher, 0);
    host.wait_rows(50);
    let first = host.status().rule("json-reading").generation;
    // It takes an object of numbers, and what it makes of a reading is not what is meant.
    host.drop_by_overwrite("json-reading.wasm", &bad);
    let second = wait_generation(&host, "json-reading", first);
    send(&mut publisher, 50);
    host.wait_settled(100);
    let back = host.ask("POST", "/api/v1/rules/json-reading/rollback").json(&json!({})).send().expect(200);
    assert!(back["generation"].as_u64().unwrap() > second && back["kind"] == "decoder", "{back}");
    assert_eq!(std::fs::read(host.rules_dir().join("json-reading.wasm")).unwrap(), good);
    send(&mut publisher, 100);
    let status = host.wait_settled(150);
    status.assert_balanced("a rollback");
    let topics = (0..5).map(|n| format!("dev/a/t{n}"));
    let sound = host.rows().iter().filter(|row| topics.clone().any(|topic| row.topic == topic)).count();
    assert!(sound >= 100, "what came before and after is stored: {sound}");
}

/// Guarantees: a rule that is put on another module leaves the old one waiting, also where that is a link; a crash in the middle of such
/// a change, which leaves the old module without a rule, does not set it free, and the next change clears up.
#[test]
fn a_module_left_behind_waits() {
    let mut host = quiet().module("threshold").rule("hot", &threshold(80.0)).launch();
    let link = host.rules_dir().join("scale.wasm");
    let elsewhere = host.path().join("elsewhere.wasm");
    std::fs::write(&elsewhere, built_module("scale")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    host.wait_status("the linked module", |status| status.rules.iter().find(|it| it.name == "scale").map(drop));
    let names = |host: &Host| -> Vec<String> {
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        rules.as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    let of_the_link = b"module = \"scale.wasm\"\ntopics = [\"dev/#\"]\n[config]\nfactor = 2.0\n";
    host.drop_by_rename("double.toml", of_the_link);
    wait_generation(&host, "double", 0);
    assert_eq!(names(&host), ["double", "hot"]);
    let body = built_module("absence");
    let absence = host.ask("POST", "/api/v1/modules").body("application/wasm", &body).send().expect(201);
    let other = json!({"module": absence["file"], "topics": ["dev/#"], "config": {"after_s": 60}});
    host.ask("PUT", "/api/v1/rules/double").json(&other).send().expect(200);
    assert_eq!(names(&host), ["double", "hot"], "the link waits");
    assert!(link.is_symlink() && host.rules_dir().join(".scale.wasm.waits").exists());
    host.drop_by_rename("double.toml", of_the_link);
    host.ask("POST", "/api/v1/rules/hot/disable").send().expect(200);
    assert!(!host.rules_dir().join(".scale.wasm.waits").exists(), "it is named again");

    host.kill();
    let digest = host_digest(&host);
    std::fs::write(host.rules_dir().join(".threshold.wasm.waits"), &digest).unwrap();
    std::fs::remove_file(host.rules_dir().join("hot.toml")).unwrap();
    host.launch_again();
    assert_eq!(names(&host), ["double"]);
    host.ask("POST", "/api/v1/rules/double/disable").send().expect(200);
    assert!(host.rules_dir().join(format!("{digest}.wasm")).exists());
    assert!(!host.rules_dir().join("threshold.wasm").exists());
    host.drop_by_rename("threshold.wasm", &variant(&built_module("threshold"), 7));
    host.wait_status("what is dropped anew", |status| {
        status.rules.iter().find(|it| it.name == "threshold").map(drop)
    });
}

/// The digest of what served as `hot`, from what is kept on disk.
fn host_digest(host: &Host) -> String {
    let kept = std::fs::read_dir(host.data_dir().join("generations")).unwrap();
    let names = kept.map(|entry| entry.unwrap().path());
    let record =
        names.filter(|path| path.to_string_lossy().contains("/hot.") && path.extension().unwrap() == "generation");
    let text = std::fs::read_to_string(record.max().unwrap()).unwrap();
    let json: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    json["sha256"].as_str().unwrap().to_owned()
}
