//! Modules that come to be tried: what is kept of them, for how long, and what is not.

use serde_json::{Value, json};
use tidegate_tests::{Host, Setup, built_module, files, variant};

use crate::api::quiet;
use crate::api_cli::{done, tidegate};

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";

fn upload(host: &Host, module: &[u8]) -> Value {
    host.ask("POST", "/api/v1/modules").body("application/wasm", module).send().expect(201)
}

fn prune(host: &Host, query: &str) -> Value {
    host.ask("POST", &format!("/api/v1/modules/prune{query}")).send().expect(200)
}

fn digests(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|module| module["sha256"].as_str().unwrap()).collect()
}

/// Guarantees: a module whose file is replaced by another of the same length and time, as a copy that keeps times makes it, is told as what it is now.
#[test]
fn a_twin() {
    let (one, other) = (variant(&built_module("threshold"), 1), variant(&built_module("threshold"), 2));
    let host = quiet().bytes("hot", &one).launch();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    let aged = |path: &std::path::Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap()
    };
    let (file, twin) = (host.rules_dir().join("hot.wasm"), host.path().join("twin"));
    aged(&file);
    let told = || host.ask("GET", "/api/v1/modules").send().expect(200)[0]["sha256"].clone();
    let before = told();
    std::fs::write(&twin, &other).unwrap();
    aged(&twin);
    std::fs::rename(&twin, &file).unwrap();
    let now = told();
    assert_ne!(before, now);
    host.ask("GET", &format!("/api/v1/modules/{}", now.as_str().unwrap())).send().expect(200);
}

/// Guarantees: of modules that were uploaded only those are pruned that nothing needs, by age and by number; not one that a rule or a shadow uses, or that a rule
/// can go back to, nor one that lies there under a name of its own. It is said beforehand what would go, a slip changes nothing, and the audit log says what went.
#[test]
fn pruned() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let kept: Vec<Value> = (1..=5).map(|mark| upload(&host, &variant(&built_module("threshold"), mark))).collect();
    let definition =
        |at: usize| json!({"module": kept[at]["file"], "topics": ["dev/+/temp"], "config": {"above": 80.0}});
    // The first serves, the second did, the third is a shadow's; nothing needs the other two.
    host.ask("PUT", "/api/v1/rules/hot").json(&definition(1)).send().expect(200);
    host.ask("PUT", "/api/v1/rules/hot").json(&definition(0)).send().expect(200);
    host.ask("POST", "/api/v1/rules/hot/shadow").json(&json!({"definition": definition(2)})).send().expect(200);

    let before = files(&host.rules_dir());
    for slip in ["", "?plan=true", "?keep=-1", "?older_than_s=x", "?all=true"] {
        let refused = host.ask("POST", &format!("/api/v1/modules/prune{slip}")).send();
        refused.expect_problem(400, "bad_request");
    }
    let mut spare = vec![kept[3]["sha256"].as_str().unwrap(), kept[4]["sha256"].as_str().unwrap()];
    spare.sort_unstable();
    let planned = prune(&host, "?keep=0&plan=true");
    let mut all = digests(&planned["modules"]);
    all.sort_unstable();
    assert_eq!((all, &planned["plan"]), (spare.clone(), &json!(true)), "{planned}");
    for too_new in ["?older_than_s=3600", "?keep=2", "?older_than_s=3600&keep=0"] {
        assert_eq!(prune(&host, too_new)["modules"], json!([]), "{too_new}");
    }
    assert_eq!(files(&host.rules_dir()), before);

    // One that comes again is as good as new.
    let (old, new) = (kept[3]["file"].as_str().unwrap(), kept[4]["file"].as_str().unwrap());
    for file in [old, new] {
        let opened = std::fs::File::options().write(true).open(host.rules_dir().join(file)).unwrap();
        opened.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let again = variant(&built_module("threshold"), 5);
    host.ask("POST", "/api/v1/modules").body("application/wasm", &again).send().expect(200);
    let gone = prune(&host, "?keep=1");
    assert_eq!(
        (digests(&gone["modules"]), &gone["left"]),
        (vec![kept[3]["sha256"].as_str().unwrap()], &json!(1)),
        "{gone}"
    );
    assert!(!host.rules_dir().join(old).exists() && host.rules_dir().join(new).exists());
    let table = done(&tidegate(&[&host], &["modules", "prune", "--keep", "0", "--dry-run"]));
    assert!(table.contains(kept[4]["sha256"].as_str().unwrap()), "{table}");
    assert_eq!(done(&tidegate(&[&host], &["modules", "prune", "--older-than", "1h"])), "nothing to prune\n");
    done(&tidegate(&[&host], &["modules", "prune", "--keep", "0"]));
    assert!(!tidegate(&[&host], &["modules", "prune"]).status.success(), "nothing said is not everything");

    host.ask("POST", "/api/v1/rules/hot/rollback").json(&json!({})).send().expect(200);
    let gone = prune(&host, "?keep=0");
    let to_go_to = [&kept[0], &kept[1]].map(|module| module["sha256"].as_str().unwrap());
    assert!(
        !digests(&gone["modules"]).iter().any(|it| to_go_to.contains(it)),
        "a rule can go forth and back: {gone}"
    );
    let audit = host.ask("GET", "/api/v1/audit?operation=pruneModules").send().expect(200);
    let told = audit["lines"].as_array().unwrap().iter().filter(|line| line["before"] == kept[3]["sha256"]);
    assert_eq!(told.map(|line| &line["of"]).collect::<Vec<_>>(), [&json!("keep=1")], "{audit}");
}

/// Guarantees: there is a bound on what nothing needs: one more is refused, whole, and says how to make room; a rule's own module is no part of it.
#[test]
fn no_end_of_candidates() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    for n in 0..500 {
        std::fs::write(host.rules_dir().join(format!("{n:064x}.wasm")), n.to_string()).unwrap();
    }
    let module = variant(&built_module("threshold"), 1);
    let refused = host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send();
    let problem = refused.expect_problem(409, "too_many_modules");
    assert!(problem["detail"].as_str().unwrap().contains("modules prune"), "{problem}");
    let drafts = std::fs::read_dir(host.rules_dir())
        .unwrap()
        .filter(|it| it.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(drafts.count(), 0, "a draft is left");
    let pruned = prune(&host, "?keep=10");
    assert_eq!((pruned["modules"].as_array().unwrap().len(), &pruned["left"]), (490, &json!(10)));
    upload(&host, &module);
    assert_eq!(host.ask("GET", "/api/v1/rules/hot").send().expect(200)["state"], "serving");
}

/// Guarantees: a candidate with a module of its own is tried on a node that lets nothing be changed, whether it says so or its files are links: on rows, on a
/// history, and beside the rule; and nothing is written, there or where all may be changed. What was only tried serves nowhere.
#[test]
fn tried_and_not_kept() {
    let module = variant(&built_module("threshold"), 7);
    let furnish = |setup: Setup| setup.module("threshold").rule("hot", HOT);
    let (free, readonly) = (furnish(quiet()).launch(), furnish(quiet().admin("readonly = true")).launch());
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        std::fs::write(here.path().join(name), bytes).unwrap();
        here.path().join(name).to_str().unwrap().to_owned()
    };
    let (wasm, file) = (at("new.wasm", &module), at("hot.toml", HOT.replace("90.0", "50.0").as_bytes()));
    let input = at("input.json", br#"{"points": [{"topic": "dev/a/temp", "value": 60}]}"#);
    let rows = at("rows.ndjson", b"{\"topic\": \"dev/a/temp\", \"time_us\": 1, \"value\": 60}\n");
    for host in [&free, &readonly] {
        let before = files(&host.rules_dir());
        let said = |args: &[&str]| done(&tidegate(&[host], args));
        let tried = said(&["rules", "test", "hot", &input, "--definition", &file, "--module", &wasm]);
        assert!(tried.contains("\"transition\": \"raised\""), "{tried}");
        let found = said(&["backtest", "hot", "--definition", &file, "--module", &wasm, "--file", &rows, "--json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!((&found["state"], &found["alerts"]["raised"]), (&json!("done"), &json!(1)), "{found}");
        assert_eq!(files(&host.rules_dir()), before);

        let definition =
            json!({"module": format!("{}.wasm", found["module"].as_str().unwrap()), "topics": ["dev/#"]});
        let refused = host.ask("PUT", "/api/v1/rules/other").json(&definition).send();
        assert!([403, 422].contains(&refused.code), "{refused:?}");
    }
    let before = files(&readonly.rules_dir());
    let started = done(&tidegate(&[&readonly], &["rules", "shadow", "start", "hot", &file, "--module", &wasm]));
    assert!(started.contains("running"), "{started}");
    assert_eq!(files(&readonly.rules_dir()), before);

    let tried = |part: &Value| readonly.ask("POST", "/api/v1/modules/trial").json(part).send();
    let zeros = "0".repeat(64);
    tried(&json!({"sha256": zeros, "content": "AGFzbQ=="})).expect_problem(422, "body");
    tried(&json!({"sha256": zeros, "content": "%"})).expect_problem(422, "body");
    tried(&json!({"sha256": zeros})).expect_problem(422, "body");
}

/// Guarantees: a module that serves is not deleted, by prune or by name, though the rule's file, changed by hand, names one that cannot serve, and no generation is
/// kept of it: else the rule would be without any after a restart.
#[test]
fn what_serves_is_needed() {
    let mut host = quiet().launch();
    let module = upload(&host, &variant(&built_module("threshold"), 1));
    let (sha256, file) = (module["sha256"].as_str().unwrap(), module["file"].as_str().unwrap());
    let definition = json!({"module": file, "topics": ["dev/+/temp"], "config": {"above": 90.0}});
    host.ask("PUT", "/api/v1/rules/hot").json(&definition).send().expect(201);
    host.stop();
    let generations = host.data_dir().join("generations");
    std::fs::remove_dir_all(&generations).unwrap();
    std::fs::write(&generations, "no directory").unwrap();
    host.launch_again();
    let serving = || host.ask("GET", "/api/v1/rules/hot").send().expect(200);
    assert_eq!(serving()["sha256"], sha256);
    let broken = HOT.replace("threshold.wasm", "none.wasm");
    std::fs::write(host.rules_dir().join("hot.toml"), broken).unwrap();
    let refused = host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect_problem(409, "in_use");
    assert!(refused["detail"].as_str().unwrap().contains("hot"), "{refused}");
    assert_eq!(prune(&host, "?keep=0")["modules"], json!([]));
    assert!(host.rules_dir().join(file).exists());
    let shown = serving();
    assert_eq!((&shown["sha256"], &shown["module"]), (&json!(sha256), &json!("none.wasm")), "{shown}");
}

/// Guarantees: where the rules cannot be read as they are now, no module is deleted by what they were: a file may name it since.
#[test]
fn nothing_goes_by_old_rules() {
    let host = quiet().launch();
    let module = upload(&host, &variant(&built_module("threshold"), 1));
    let (sha256, file) = (module["sha256"].as_str().unwrap(), module["file"].as_str().unwrap());
    let full = host.rules_dir().join("x");
    std::fs::write(&full, "").unwrap();
    // More entries than are looked at, each a name of one file.
    let names: Vec<_> = (0..100_000).map(|n| host.rules_dir().join(format!("x{n}"))).collect();
    names.iter().for_each(|name| std::fs::hard_link(&full, name).or_else(|_| std::fs::write(name, "")).unwrap());
    std::fs::write(host.rules_dir().join("hot.toml"), HOT.replace("threshold.wasm", file)).unwrap();
    let refused = host.ask("POST", "/api/v1/modules/prune?keep=0").send().expect_problem(500, "internal");
    assert!(refused["detail"].as_str().unwrap().contains("100000 entries"), "{refused}");
    host.ask("DELETE", &format!("/api/v1/modules/{sha256}")).send().expect_problem(500, "internal");
    assert!(host.rules_dir().join(file).exists());
    names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
    assert_eq!(prune(&host, "?keep=0")["modules"], json!([]), "the rule names it");
}
