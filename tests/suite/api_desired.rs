//! All rules of a host at once: given, taken by another, and held against what should be; all or none.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate_tests::{Host, binary, built_module, files};

use crate::api::quiet;

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\norder = 7\n[config]\nabove = 90.0\n";

fn tidegate(host: &Host, args: &[&str]) -> Output {
    let node = format!("http://127.0.0.1:{}", host.port());
    let mut command = Command::new(binary());
    command.args(args).args(["--node", &node]).env_remove("TIDEGATE_TOKEN").env_remove("TIDEGATE_NODES");
    command.output().unwrap()
}

#[track_caller]
fn code(output: &Output) -> i32 {
    let words = String::from_utf8_lossy(&output.stderr);
    output.status.code().unwrap_or_else(|| panic!("{words}"))
}

fn export(host: &Host, to: &Path) -> Value {
    let exported = tidegate(host, &["export"]);
    assert_eq!(code(&exported), 0, "{}", String::from_utf8_lossy(&exported.stderr));
    std::fs::write(to, &exported.stdout).unwrap();
    serde_json::from_slice(&exported.stdout).unwrap()
}

fn put(host: &Host, document: &Value) -> tidegate_tests::Answer {
    host.ask("PUT", "/api/v1/desired").json(document).send()
}

/// What the files say: names and bytes.
fn state(host: &Host) -> Vec<(String, Vec<u8>)> {
    let all = files(&host.rules_dir()).into_iter();
    all.map(|path| (path.display().to_string(), std::fs::read(host.rules_dir().join(&path)).unwrap())).collect()
}

fn actions(converged: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    converged["rules"].as_array().unwrap().iter().map(|it| (text(&it["rule"]), text(&it["action"]))).collect()
}

/// Guarantees: what a host exports makes an empty one do the same, rule for rule and module for module; held against either, it differs in
/// nothing; and given again it changes nothing, not so much as a generation.
#[test]
fn a_host_is_cloned() {
    let one = quiet().module("threshold").module("json-reading").rule("hot", HOT).launch();
    let two = quiet().launch();
    let document = one.path().join("rules.json");
    let of_both = tidegate(&one, &["export", "--node", &format!("http://127.0.0.1:{}", two.port())]);
    let words = String::from_utf8_lossy(&of_both.stderr);
    assert!(code(&of_both) == 1 && of_both.stdout.is_empty() && words.contains("--json"), "{words}");
    let exported = export(&one, &document);
    assert_eq!(exported["modules"].as_array().unwrap().len(), 2, "{exported}");
    let path = document.to_str().unwrap();
    let planned = tidegate(&two, &["desired", "plan", path]);
    assert_eq!(code(&planned), 2, "{}", String::from_utf8_lossy(&planned.stderr));
    assert!(state(&two).is_empty(), "a plan was carried out");
    let imported = tidegate(&two, &["import", path]);
    let table = String::from_utf8_lossy(&imported.stdout);
    assert!(code(&imported) == 0 && table.matches("created").count() == 2, "{table}");

    let points = json!({"points": [{"topic": "dev/a/temp", "value": 95}]});
    let tried = |host: &Host| {
        let mut tried = host.ask("POST", "/api/v1/rules/hot/test").json(&points).send().expect(200);
        tried["nanos"] = Value::Null;
        tried["alerts"][0]["time_us"] = Value::Null;
        tried["points"][0]["time_us"] = Value::Null;
        tried
    };
    assert_eq!(tried(&one), tried(&two));
    let rules = |host: &Host| -> Vec<(Value, Value, Value, Value)> {
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        let each = rules.as_array().unwrap().iter();
        each.map(|it| (it["name"].clone(), it["state"].clone(), it["sha256"].clone(), it["order"].clone())).collect()
    };
    assert_eq!(rules(&one), rules(&two));
    for host in [&one, &two] {
        assert_eq!(code(&tidegate(host, &["desired", "plan", path])), 0, "it differs from itself");
    }
    let generations = |host: &Host| host.ask("GET", "/api/v1/rules").send().expect(200)[0]["generation"].clone();
    let (before, generation) = (state(&two), generations(&two));
    assert_eq!(code(&tidegate(&two, &["desired", "apply", path])), 0);
    assert_eq!((state(&two), generations(&two)), (before, generation));
}

/// Guarantees: a host is brought in line: what should be there is made or made anew, what should not is taken away, its module waits; what
/// differed is told with its place. `import` leaves others alone. An ETag that is not the newest changes nothing.
#[test]
fn brought_in_line() {
    let host = quiet().module("threshold").module("json-reading").module("scale").rule("hot", HOT).launch();
    let document = host.path().join("rules.json");
    let mut wanted = export(&host, &document);
    let etag = host.ask("GET", "/api/v1/export?modules=false").send().header("etag").unwrap().to_owned();
    wanted["rules"]["hot"]["config"]["above"] = json!(80.0);
    wanted["rules"].as_object_mut().unwrap().remove("scale");
    let mut warm = wanted["rules"]["hot"].clone();
    warm["order"] = json!(9);
    wanted["rules"]["warm"] = warm;
    std::fs::write(&document, wanted.to_string()).unwrap();

    let imported = host.ask("POST", "/api/v1/import?plan=true").json(&wanted).send().expect(200);
    let left: Vec<(String, String)> =
        [("hot", "replaced"), ("json-reading", "unchanged"), ("scale", "left"), ("warm", "created")]
            .map(|(rule, action)| (rule.to_owned(), action.to_owned()))
            .into();
    assert_eq!(actions(&imported), left);
    let planned = tidegate(&host, &["desired", "plan", document.to_str().unwrap()]);
    let table = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(
        code(&planned) == 2 && table.contains("/config/above: 90.0 → 80.0") && table.contains("deleted"),
        "{table}"
    );

    host.ask("PUT", "/api/v1/desired")
        .header("If-Match", "\"0123\"")
        .json(&wanted)
        .send()
        .expect_problem(412, "changed_since");
    let done = host.ask("PUT", "/api/v1/desired").header("If-Match", &etag).json(&wanted).send();
    let converged = done.expect(200);
    assert_eq!((&converged["differs"], &converged["plan"]), (&json!(true), &json!(false)));
    assert_ne!(done.header("etag").unwrap(), etag);
    host.ask("PUT", "/api/v1/desired")
        .header("If-Match", &etag)
        .json(&wanted)
        .send()
        .expect_problem(412, "changed_since");
    let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
    let serving: Vec<&str> = rules
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["state"] == "serving")
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(serving, ["hot", "json-reading", "warm"]);
    assert_eq!(host.ask("GET", "/api/v1/rules/hot").send().expect(200)["file"]["config"]["above"], 80.0);
    assert_eq!(put(&host, &wanted).expect(200)["differs"], false);
    // Nothing at all is what should be there: all go, and no module runs by itself for that.
    assert_eq!(put(&host, &json!({"rules": {}})).expect(200)["differs"], true);
    assert_eq!(host.ask("GET", "/api/v1/rules").send().expect(200), json!([]));
}

/// Guarantees: one mistake anywhere in a document changes nothing, and every one is told with its place; nothing of it is left in the
/// rules directory. Where rules come from elsewhere nothing is taken.
#[test]
fn one_mistake_changes_nothing() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let good = export(&host, &host.path().join("rules.json"));
    let before = state(&host);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        document["rules"]["hot"]["order"] = json!(1);
        let mut warm = good["rules"]["hot"].clone();
        change(&mut warm);
        document["rules"]["warm"] = warm;
        document
    };
    let hidden = |document: &mut Value, content: &str, sha256: &str| {
        document["modules"] = json!([{"sha256": sha256, "content": content}]);
    };
    let mut foreign = with(&|_| {});
    hidden(&mut foreign, "bm8gbW9kdWxl", &"0".repeat(64));
    let mut no_module = with(&|_| {});
    hidden(&mut no_module, "bm8gbW9kdWxl", "6d2cf1ae1d6a5a2ea0ea4cbb2bd1f4a6c2c4fa2d3f6a5cbb05b5f0e9c9a1f3d1");
    let mut leading = with(&|_| {});
    hidden(&mut leading, "bm8gbW9kdWxl", "../../../../../../../../../../../../../../../../../../../x");
    let mut tricky = with(&|_| {});
    tricky["rules"]["../warm"] = good["rules"]["hot"].clone();
    for (what, document, place) in [
        ("a configuration", with(&|warm| warm["config"]["above"] = json!("hot")), "/rules/warm/config/above"),
        ("a key", with(&|warm| warm["colour"] = json!("red")), "/rules/warm/colour"),
        ("a module that is nowhere", with(&|warm| warm["module"] = json!("none.wasm")), "/rules/warm/module"),
        ("a module that leads elsewhere", with(&|warm| warm["module"] = json!("../x.wasm")), "/rules/warm/module"),
        ("a name", tricky, "/rules/..~1warm"),
        ("a digest", foreign, "/modules/0/sha256"),
        ("another digest", no_module, "/modules/0/sha256"),
        ("a digest that leads elsewhere", leading, "/modules/0/sha256"),
    ] {
        let refused = put(&host, &document).expect_problem(422, "document");
        let places: Vec<&str> =
            refused["errors"].as_array().unwrap().iter().map(|it| it["pointer"].as_str().unwrap()).collect();
        assert!(places.contains(&place), "{what}: {refused}");
        assert!(state(&host) == before, "{what}: something was written");
    }
    let mut no_wasm = with(&|_| {});
    hidden(&mut no_wasm, "bm8gbW9kdWxl", &sha256_of_no_module());
    let refused = put(&host, &no_wasm).expect_problem(422, "document");
    assert_eq!(refused["errors"][0]["pointer"], "/modules/0", "{refused}");
    assert!(state(&host) == before);
    host.ask("PUT", "/api/v1/desired").json(&json!([])).send().expect_problem(422, "body");
    assert_eq!(host.ask("GET", "/api/v1/rules/hot").send().expect(200)["order"], 7);

    let fixed = quiet().admin("readonly = true").module("threshold").launch();
    put(&fixed, &good).expect_problem(403, "readonly");
    fixed.ask("POST", "/api/v1/import").json(&good).send().expect_problem(403, "readonly");
    fixed.ask("GET", "/api/v1/export").send().expect(200);
}

/// Guarantees: a module that comes in a document is looked over like any other, and only what it should be serves; what it is vouched for
/// by comes with it.
#[test]
fn modules_come_with_who_vouches_for_them() {
    let directory = tempfile::TempDir::new().unwrap();
    let by_hand = |args: &[&str]| {
        let output = Command::new(binary()).args(args).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let key = by_hand(&["rule", "keygen", "--name", "release", "--out", "k.pem", "--json"]);
    let key: Value = serde_json::from_slice(&key).unwrap();
    std::fs::write(directory.path().join("json-reading.wasm"), built_module("json-reading")).unwrap();
    by_hand(&["rule", "sign", "json-reading.wasm", "--key", "k.pem", "--version", "1.0.0"]);
    let rules = format!("[rules]\nrequire_signatures = true\n[rules.keys]\nrelease = {}\n", key["public"]);
    let one = quiet().toml(&rules).launch();
    let file = one.path().join("r.toml");
    std::fs::write(&file, "module = \"x.wasm\"\n").unwrap();
    let module = directory.path().join("json-reading.wasm");
    let made =
        tidegate(&one, &["rules", "put", "read", file.to_str().unwrap(), "--module", module.to_str().unwrap()]);
    assert_eq!(code(&made), 0, "{}", String::from_utf8_lossy(&made.stderr));
    let exported = export(&one, &directory.path().join("rules.json"));
    let two = quiet().toml(&rules).launch();
    let mut stripped = exported.clone();
    stripped["modules"][0].as_object_mut().unwrap().remove("manifest");
    let refused = put(&two, &stripped).expect_problem(422, "document");
    assert!(refused["errors"].to_string().contains("not signed"), "{refused}");
    assert!(state(&two).is_empty());
    assert_eq!(actions(&put(&two, &exported).expect(200)), [("read".to_owned(), "created".to_owned())]);
    assert_eq!(two.ask("GET", "/api/v1/rules/read").send().expect(200)["state"], "serving");
}

/// Of the bytes `no module`.
fn sha256_of_no_module() -> String {
    let output = Command::new("sh").args(["-c", "printf 'no module' | sha256sum"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}
