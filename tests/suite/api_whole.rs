//! Changes are whole: over a refusal that comes late, over a crash between any two files, and whoever swaps files for links meanwhile.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};
use tidegate_tests::{Answer, Ask, Host, built_module, files, guest_module};

use crate::api::quiet;

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";

fn shown(host: &Host, rule: &str) -> Value {
    let rule = host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200);
    json!([rule["state"], rule["module"], rule["sha256"], rule["problem"], rule["order"]])
}

fn upload(host: &Host, module: &[u8]) -> Value {
    host.ask("POST", "/api/v1/modules").body("application/wasm", module).send().expect(201)["file"].clone()
}

/// Has the host end where it is armed, at what is asked of it; and starts it again.
fn crash(host: &mut Host, site: &str, passes: u32, ask: impl Fn(u16) -> Answer + std::panic::RefUnwindSafe) {
    host.kill();
    host.arm(site, passes);
    host.launch_again();
    let port = host.port();
    let answer = catch_unwind(|| ask(port));
    assert!(answer.is_err(), "{site} after {passes}: it was answered for: {answer:?}");
    host.wait_crash();
    host.launch_again();
}

/// Guarantees: a rule that runs by its module's defaults is as it was, and so are all files, when it is given another module that passes every test and cannot take
/// its place; and when a document would drop it in which another rule cannot.
#[test]
fn refused_late() {
    let host = quiet()
        .bytes("tally", &guest_module("tally"))
        .module("json-reading")
        .module("threshold")
        .rule("hot", HOT)
        .launch();
    let threshold = upload(&host, &tidegate_tests::variant(&built_module("threshold"), 1));
    let before = (shown(&host, "tally"), files(&host.rules_dir()));
    assert_eq!(before.0[0], "serving", "{before:?}");
    // Its state is the node's, and would be each series'.
    let other = json!({"module": threshold, "topics": ["dev/#"], "config": {"above": 1.0}});
    let refused = host.ask("PUT", "/api/v1/rules/tally").json(&other).send().expect_problem(409, "not_serving");
    assert!(refused["detail"].as_str().unwrap().contains("as it was"), "{refused}");
    assert_eq!((shown(&host, "tally"), files(&host.rules_dir())), before);

    let generation =
        |rule: &str| host.ask("GET", &format!("/api/v1/rules/{rule}")).send().expect(200)["generation"].clone();
    let (dropped, hot) = (generation("json-reading"), shown(&host, "hot"));
    let document = json!({"rules": {"tally": other, "hot": {"module": "threshold.wasm", "topics": ["dev/+/temp"], "config": {"above": 80.0}}}});
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect_problem(409, "not_serving");
    assert_eq!((shown(&host, "tally"), files(&host.rules_dir())), before);
    assert_eq!((generation("json-reading"), shown(&host, "hot")), (dropped, hot), "it was never let go");
    host.ask("DELETE", "/api/v1/rules/tally").send().expect(204);
    host.ask("GET", "/api/v1/rules/tally").send().expect_problem(404, "not_found");
}

/// Guarantees: a rule is gone when it was deleted, also where a module of its name, which it does not use, lies beside its file.
#[test]
fn gone_is_gone() {
    let hot = HOT.replace("threshold", "other");
    for by_document in [false, true] {
        let host = quiet()
            .bytes("hot", &guest_module("tally"))
            .bytes("other", &built_module("threshold"))
            .rule("hot", &hot)
            .launch();
        if by_document {
            host.ask("PUT", "/api/v1/desired").json(&json!({"rules": {}})).send().expect(200);
        } else {
            host.ask("DELETE", "/api/v1/rules/hot").send().expect(204);
        }
        assert_eq!(host.ask("GET", "/api/v1/rules").send().expect(200), json!([]), "{:?}", files(&host.rules_dir()));
    }
}

/// Guarantees: a host that dies at any step of giving a rule without a file another module has the rule with the one or the other.
#[test]
fn another_module_over_a_crash() {
    let mut host = quiet().bytes("tally", &guest_module("tally")).launch();
    let other = upload(&host, &tidegate_tests::variant(&guest_module("tally"), 1));
    let modules = [json!("tally.wasm"), other.clone()];
    let body = json!({"module": other, "topics": ["dev/#"]});
    for (site, passes) in
        [("rules-place-after", 0), ("rules-place-after", 1), ("rules-place-after", 2), ("rules-change-made", 0)]
    {
        let put = body.clone();
        crash(&mut host, site, passes, move |port| Ask::new(port, "PUT", "/api/v1/rules/tally").json(&put).send());
        let found = shown(&host, "tally");
        assert!(found[0] == "serving" && modules.contains(&found[1]), "{site} after {passes}: {found}");
        assert_eq!(host.ask("GET", "/api/v1/rules").send().expect(200).as_array().unwrap().len(), 1);
        // As it was, for the next.
        if found[1] != "tally.wasm" {
            let back = json!({"module": "tally.wasm", "topics": ["dev/#"]});
            host.ask("PUT", "/api/v1/rules/tally").json(&back).send().expect(200);
        }
    }
    host.ask("PUT", "/api/v1/rules/tally").json(&body).send().expect(200);
    assert_eq!(shown(&host, "tally")[1], other);
}

/// Guarantees: a change that comes to nothing and cannot be put back says so, and stays noted: the next change takes it back before it is made, and so does the next
/// start, but for one that may change no files, which says what it found.
#[test]
fn put_back_later() {
    for by_start in [false, true] {
        let setup = quiet().admin("readonly = false");
        let mut host = setup.bytes("tally", &guest_module("tally")).module("threshold").rule("hot", HOT).launch();
        let threshold = upload(&host, &tidegate_tests::variant(&built_module("threshold"), 1));
        let before = (shown(&host, "tally"), files(&host.rules_dir()));
        host.kill();
        host.arm("rules-back", 0);
        host.launch_again();
        let other = json!({"module": threshold, "topics": ["dev/#"], "config": {"above": 1.0}});
        let refused = host.ask("PUT", "/api/v1/rules/tally").json(&other).send().expect_problem(409, "not_serving");
        let told = refused["detail"].as_str().unwrap();
        assert!(told.contains("not all could be put back, that is tried again before the next change"), "{told}");
        let note = host.rules_dir().join(".change.intent");
        assert!(note.exists(), "{:?}", files(&host.rules_dir()));
        if by_start {
            host.kill();
            host.replace_in_config("readonly = false", "readonly = true");
            host.launch_again();
            assert!(note.exists() && host.log().contains("may not take it back"), "{}", host.tail());
            host.kill();
            host.replace_in_config("readonly = true", "readonly = false");
            host.launch_again();
        } else {
            // It is taken back by whoever changes anything next, here something else.
            host.ask("POST", "/api/v1/rules/hot/disable").send().expect(200);
            host.ask("POST", "/api/v1/rules/hot/enable").send().expect(200);
        }
        assert_eq!((shown(&host, "tally"), files(&host.rules_dir())), before, "by a start: {by_start}");
    }
}

/// Guarantees: while another host is at the files of the same directory nothing is changed, nor what is left of its change taken back; after it both are.
#[test]
fn two_hosts_on_one_directory() {
    let mut host = quiet().module("threshold").rule("hot", HOT).launch();
    let rule = |order: u32| json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "order": order, "config": {"above": 90.0}});
    let document = json!({"rules": {"hot": rule(1), "warm": rule(2)}});
    let put = document.clone();
    let before = files(&host.rules_dir());
    let other = std::fs::File::open(host.rules_dir()).unwrap();
    crash(&mut host, "rules-place-after", 1, move |port| Ask::new(port, "PUT", "/api/v1/desired").json(&put).send());
    assert_eq!(files(&host.rules_dir()), before, "it started alone");

    other.lock().unwrap();
    // As the other one would say of a module that its change leaves without a rule.
    let waits = host.rules_dir().join(".threshold.wasm.waits");
    std::fs::write(&waits, "").unwrap();
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect_problem(503, "busy");
    let told = host.ask("POST", "/api/v1/rules/hot/disable").send().expect_problem(503, "busy");
    assert!(told["detail"].as_str().unwrap().contains("another host"), "{told}");
    std::fs::remove_file(waits).unwrap();
    assert_eq!(files(&host.rules_dir()), before);
    other.unlock().unwrap();
    host.kill();
    host.arm("rules-place-after", 1);
    host.launch_again();
    let (port, put) = (host.port(), document.clone());
    assert!(catch_unwind(|| Ask::new(port, "PUT", "/api/v1/desired").json(&put).send()).is_err());
    host.wait_crash();
    let half = files(&host.rules_dir());
    assert_ne!(half, before);
    other.lock().unwrap();
    host.launch_again();
    assert!(files(&host.rules_dir()) == half && host.log().contains("left to it"), "{}", host.tail());
    host.ask("POST", "/api/v1/rules/hot/disable").send().expect_problem(503, "busy");
    assert_eq!(files(&host.rules_dir()), half);
    other.unlock().unwrap();
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect(200);
    assert_eq!(shown(&host, "warm")[0], "serving");
}

/// Guarantees: a host that dies between two files of a document has all of its rules as they were, and nothing of the attempts is left; once rules have
/// gone, which no file brings back as they were, it has them all as the document says; given again, that is what there is.
#[test]
fn documents_over_a_crash() {
    let rule = |order: u32| json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "order": order, "config": {"above": 90.0}});
    let document = |order: u32| json!({"rules": {"a": rule(order), "b": rule(order), "c": rule(order)}});
    let mut host = quiet().module("threshold").module("json-reading").rule("a", HOT).launch();
    host.ask("POST", "/api/v1/import").json(&document(1)).send().expect(200);
    let found = |host: &Host| -> Vec<(Value, Value)> {
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        rules.as_array().unwrap().iter().map(|it| (it["name"].clone(), it["order"].clone())).collect()
    };
    let wanted = document(2);
    let after: Vec<(Value, Value)> = ["a", "b", "c"].map(|name| (json!(name), json!(2))).to_vec();
    let before = found(&host);
    assert_eq!(before.len(), 4);
    // The note of it, three files, and the word that the module of the fourth rule waits.
    let steps = [1, 3, 4].map(|passes| ("rules-place-after", passes));
    for (site, passes) in steps.into_iter().chain([("rules-place-before", 2)]) {
        let put = wanted.clone();
        crash(&mut host, site, passes, move |port| Ask::new(port, "PUT", "/api/v1/desired").json(&put).send());
        let now = found(&host);
        // Nobody was told that it was made, so it is taken back.
        assert_eq!(now, before, "{site} after {passes}");
    }
    let before = files(&host.rules_dir());
    assert!(before.iter().all(|file| !file.to_string_lossy().starts_with('.')), "{before:?}");
    // When the fourth rule has gone its state has gone too: then the change stands.
    let put = wanted.clone();
    crash(&mut host, "rules-change-made", 0, move |port| Ask::new(port, "PUT", "/api/v1/desired").json(&put).send());
    assert_eq!(found(&host), after);
    host.ask("PUT", "/api/v1/desired").json(&wanted).send().expect(200);
    assert_eq!(found(&host), after);
    assert_eq!(host.ask("PUT", "/api/v1/desired").json(&wanted).send().expect(200)["differs"], false);
}

/// Guarantees: a document that gives a rule another name has it called no more before it is called by that name: never both over the same rows.
#[test]
fn another_name() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let rule = json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "order": 5, "config": {"above": 90.0}});
    host.ask("PUT", "/api/v1/desired").json(&json!({"rules": {"warm": rule}})).send().expect(200);
    let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
    assert_eq!(
        (&rules[0]["name"], &rules[0]["state"], rules.as_array().unwrap().len()),
        (&json!("warm"), &json!("serving"), 1)
    );
    let log = host.log();
    let (gone, serves) = (log.find("the rule was removed").unwrap(), log.rfind("rule serves").unwrap());
    assert!(gone < serves, "{log}");
}

/// Guarantees: a host that dies just before or just after a rule's file says that it is disabled has it serving or disabled, as the file says.
#[test]
fn disabled_over_a_crash() {
    let mut host = quiet().module("threshold").rule("hot", HOT).launch();
    for (site, state) in [("rules-place-before", "serving"), ("rules-place-after", "disabled")] {
        crash(&mut host, site, 0, |port| Ask::new(port, "POST", "/api/v1/rules/hot/disable").send());
        assert_eq!(shown(&host, "hot")[0], state, "{site}");
        let text = std::fs::read_to_string(host.rules_dir().join("hot.toml")).unwrap();
        assert_eq!(text.contains("enabled = false"), state == "disabled", "{text}");
    }
}

/// Guarantees: whoever swaps a rule's file for a link, again and again, while it is changed in every way there is, has nothing of what the link leads to
/// changed, copied or told.
#[test]
fn swapped_for_a_link() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (secret, text) = (elsewhere.path().join("secret.toml"), "password = \"hunter2-hunter2\"\n");
    std::fs::write(&secret, text).unwrap();
    let host = quiet().admin("requests_per_s = 100000").module("threshold").rule("hot", HOT).launch();
    let (rules, over) = (host.rules_dir(), AtomicBool::new(false));
    let mut told = String::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(SeqCst) {
                for link in [true, false] {
                    let beside = elsewhere.path().join("beside");
                    if link {
                        symlink(&secret, &beside).unwrap();
                    } else {
                        std::fs::write(&beside, HOT).unwrap();
                    }
                    std::fs::rename(&beside, rules.join("hot.toml")).unwrap();
                    std::thread::yield_now();
                }
            }
        });
        for round in 0..12 {
            let definition = json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "order": round, "config": {"above": 80.0}});
            let patch = json!({"order": round + 100}).to_string();
            for answer in [
                host.ask("PUT", "/api/v1/rules/hot").json(&definition).send(),
                host.ask("PATCH", "/api/v1/rules/hot").body("application/merge-patch+json", patch.as_bytes()).send(),
                host.ask("POST", "/api/v1/rules/hot/disable").send(),
                host.ask("POST", "/api/v1/rules/hot/enable").send(),
            ] {
                // A lane that has no time for ten seconds is busy, and nothing else.
                assert!(answer.code < 500 || answer.code == 503, "{answer:?}");
                told += &answer.body;
            }
        }
        over.store(true, SeqCst);
    });
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), text);
    assert!(std::fs::symlink_metadata(&secret).unwrap().is_file());
    assert!(!told.contains("hunter2") && !host.log().contains("hunter2"), "it was told");
    let _ = std::fs::remove_file(rules.join("hot.toml"));
    for directory in [rules, host.data_dir()] {
        for file in files(&directory) {
            let bytes = match std::fs::read(directory.join(&file)) {
                // The host works on: what is gone by now tells nobody anything.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                read => read.unwrap(),
            };
            assert!(!bytes.windows(7).any(|it| it == b"hunter2"), "{} has it", file.display());
        }
    }
    std::fs::write(host.rules_dir().join("hot.toml"), HOT).unwrap();
    host.ask("PUT", "/api/v1/rules/hot")
        .json(&json!({"module": "threshold.wasm", "topics": ["#"], "config": {"above": 1.0}}))
        .send()
        .expect(200);
}

/// Guarantees: a patch of a rule's file leaves what it does not name as somebody wrote it, comments included.
#[test]
fn comments_stay() {
    let text = HOT.replace("90.0", "90.0 # degrees").replace("[config]", "# the line's own\n[config]");
    let host = quiet().module("threshold").rule("hot", &text).launch();
    let patch = json!({"order": 7, "config": {"above": 80.0}}).to_string();
    let patched =
        host.ask("PATCH", "/api/v1/rules/hot").body("application/merge-patch+json", patch.as_bytes()).send();
    assert_eq!(patched.expect(200)["file"]["config"]["above"], 80.0);
    let now = std::fs::read_to_string(host.rules_dir().join("hot.toml")).unwrap();
    let expected =
        text.replace("90.0", "80.0").replace("topics = [\"dev/+/temp\"]\n", "topics = [\"dev/+/temp\"]\norder = 7\n");
    assert_eq!(now, expected);
}
