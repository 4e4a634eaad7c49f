//! What a rule author does, from nothing to a module that serves; and the test cases that go along in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::{DEADLINE, Host, binary, root, wait_for};

use crate::api::quiet;

/// Rules of one's own, built with what the rule library was built with, so that little is compiled and nothing fetched.
struct Author(TempDir);

impl Author {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.0.path());
        command.env("CARGO_TARGET_DIR", root().join("target/wasm")).env("CARGO_NET_OFFLINE", "true");
        let chosen = fs::read_to_string(root().join("target/dev/wasm-toolchain")).unwrap_or_default();
        if std::env::var_os("TIDEGATE_WASM").is_none() {
            command.env("TIDEGATE_WASM", chosen.trim());
        }
        command.output().unwrap()
    }

    /// What it says as JSON, and whether it ended well.
    #[track_caller]
    fn json(&self, args: &[&str]) -> (Value, bool) {
        let output = self.tidegate(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said = serde_json::from_str(out.trim());
        (said.unwrap_or_else(|error| panic!("{args:?}: {error}: {out}\n{err}")), output.status.success())
    }

    /// Writes a rule and builds it; gives its module's name and what the build says.
    fn make(&self, rule: &str, kind: &str) -> (String, Value) {
        let sdk = root().join("guest-sdk");
        let made = self.tidegate(&["rule", "new", rule, "--kind", kind, "--sdk", sdk.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.build(rule)
    }

    fn build(&self, rule: &str) -> (String, Value) {
        let module = format!("{rule}.wasm");
        let (built, well) = self.json(&["rule", "build", rule, "--out", &module, "--json"]);
        assert!(well, "{built}");
        (module, built)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[track_caller]
fn wait_rule(host: &Host, code: Option<&str>, sha256: &Value) -> Value {
    wait_for(&format!("the rule to serve, with {code:?}"), DEADLINE, || {
        let answer = host.ask("GET", "/api/v1/rules/hot").send();
        let rule = if answer.code == 200 { answer.json() } else { Value::Null };
        let there = rule["state"] == "serving" && rule["problem_code"].as_str() == code && rule["sha256"] == *sha256;
        if there { Ok(rule) } else { Err(format!("{answer:?}")) }
    })
}

/// Guarantees: a rule that was just written builds, passes its test case, says what it is, and serves; one whose case is broken is refused with the
/// case and what came of it in API, log and metric, while the one before serves, also over the API; and a rule of the other kind builds too.
#[test]
fn from_nothing_to_serving() {
    let author = Author::new();
    let (module, built) = author.make("hot", "processor");
    assert_eq!(built["cases"], 1);
    let (tested, passed) = author.json(&["rule", "test", &module, "--json"]);
    assert!(passed && tested["passed"] == 1 && tested["cases"][0]["case"] == "raised-and-cleared", "{tested}");
    let (said, _) = author.json(&["rule", "inspect", &module, "--json"]);
    assert_eq!(
        (&said["kind"], &said["scope"], &said["sha256"]),
        (&"processor".into(), &"series".into(), &built["sha256"])
    );
    assert_eq!(said["cases"][0], "raised-and-cleared");
    assert!(said["config_schema"]["properties"]["above"].is_object(), "{said}");

    let host = quiet().launch();
    let good = fs::read(author.path().join(&module)).unwrap();
    host.drop_by_rename("hot.wasm", &good);
    wait_rule(&host, None, &built["sha256"]);

    // A version of which its author says something else than it does.
    let expected = author.path().join("hot/testcases/raised-and-cleared/expected.ndjson");
    let wrong = fs::read_to_string(&expected).unwrap().replace("91 is too high", "91 is fine");
    fs::write(&expected, wrong).unwrap();
    let (module, broken) = author.build("hot");
    assert_ne!(broken["sha256"], built["sha256"]);
    let (tested, passed) = author.json(&["rule", "test", &module, "--json"]);
    assert!(!passed && tested["cases"][0]["reason"] == "test_case_failed", "{tested}");
    let bytes = fs::read(author.path().join(&module)).unwrap();
    let upload = host.ask("POST", "/api/v1/modules").body("application/wasm", &bytes);
    upload.send().expect_problem(422, "test_case_failed");
    host.drop_by_rename("hot.wasm", &bytes);
    let rule = wait_rule(&host, Some("test_case_failed"), &built["sha256"]);
    let problem = rule["problem"].as_str().unwrap();
    for part in ["`raised-and-cleared`", "line 1", "91 is fine", "91 is too high"] {
        assert!(problem.contains(part), "{part} is not in: {problem}");
    }
    assert!(host.log().contains("reason=\"test_case_failed\""), "{}", host.tail());
    let metrics = host.get("/metrics").body;
    let counted = metrics.lines().any(|line| line.contains("rule_refused") && line.contains("test_case_failed"));
    assert!(counted, "{metrics}");

    let (module, built) = author.make("numbers", "decoder");
    let (tested, passed) = author.json(&["rule", "test", &module, "--json"]);
    assert!(passed && tested["passed"] == 1 && built["cases"] == 1, "{tested}");
    let (said, _) = author.json(&["rule", "inspect", &module, "--json"]);
    assert_eq!((&said["kind"], &said["imports"][0]), (&"decoder".into(), &"tidegate:rule/host@0.1.0".into()));
}

/// Guarantees: the rule library carries its test cases, and they pass in the host's engine as they do natively.
#[test]
fn the_library_carries_its_cases() {
    let author = Author::new();
    let folders = |at: &Path| -> Vec<_> {
        fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    };
    let rules: Vec<_> = folders(&root().join("rules")).iter().flat_map(|family| folders(family)).collect();
    assert!(rules.len() >= 5, "{rules:?}");
    for rule in rules {
        let rule = rule.file_name().unwrap().to_string_lossy().into_owned();
        let module = root().join(format!("target/rules/{rule}.wasm"));
        let (tested, passed) = author.json(&["rule", "test", module.to_str().unwrap(), "--json"]);
        assert!(passed && tested["passed"].as_u64().is_some_and(|passed| passed > 0), "{tested}");
    }
}

/// Guarantees: a mistake in a case is told with its place when the rule is built, and nothing is written over; so is a directory that is no rule.
#[test]
fn mistakes_are_told() {
    let author = Author::new();
    let sdk = root().join("guest-sdk");
    let tidegate = |args: &[&str]| {
        let output = author.tidegate(args);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let new = ["rule", "new", "cold", "--sdk", sdk.to_str().unwrap()];
    assert!(tidegate(&new).0);
    let (well, said) = tidegate(&new);
    assert!(!well && said.contains("there already"), "{said}");
    let (well, said) = tidegate(&["rule", "new", "other", "--sdk", "cold"]);
    assert!(!well && said.contains("guest-sdk") && !author.path().join("other").exists(), "{said}");
    let (well, said) = tidegate(&["rule", "build", "."]);
    assert!(!well && said.contains("no crate"), "{said}");
    let input = author.path().join("cold/testcases/raised-and-cleared/input.ndjson");
    fs::write(input, "{\"topic\":\"dev/a\",\"vlaue\":1}\n").unwrap();
    let (well, said) = tidegate(&["rule", "build", "cold", "--out", "cold.wasm"]);
    assert!(!well && said.contains("line 1 of input.ndjson") && said.contains("`vlaue`"), "{said}");
    assert!(!author.path().join("cold.wasm").exists());
}
