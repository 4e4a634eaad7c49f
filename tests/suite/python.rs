//! A rule written in Python: a component of 18 MB that imports WASI, made by componentize-py.

use std::process::Command;
use std::time::Duration;

use tidegate_tests::{Host, Mosquitto, Protocol, Publisher, Qos, Setup, componentize_py, plain, root, wait_for};

/// It takes some ten seconds of CPU time to compile; the machine may have much else to do, so the compiler itself is given two minutes.
const COMPILED: Duration = Duration::from_secs(240);

/// The component of `tests/python/warmer.py`.
fn warmer(program: &std::path::Path) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    // It leaves what it has compiled beside the source.
    std::fs::copy(root().join("tests/python/warmer.py"), directory.path().join("warmer.py")).unwrap();
    let component = directory.path().join("warmer.wasm");
    let made = Command::new(program)
        .arg("--wit-path")
        .arg(root().join("wit"))
        .args(["--world", "plain-processor", "componentize", "warmer", "--output"])
        .arg(&component)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(component).unwrap()
}

fn rule_file(wasi: &str, limit: f64) -> Vec<u8> {
    format!(
        "module = \"warmer.wasm\"\ntopics = [\"dev/#\"]\n{wasi}[limits]\nmemory_mib = 64\ncpu_ms = 5000\n[config]\nlimit = {limit:.1}\n"
    )
    .into_bytes()
}

fn wait_rule(host: &Host, what: &str, done: impl Fn(&tidegate_tests::RuleStatus) -> bool) {
    wait_for(what, COMPILED, || {
        let status = host.status();
        let rule = status.rules.iter().find(|rule| rule.name == "warm");
        if rule.is_some_and(&done) { Ok(()) } else { Err(format!("{rule:?}; {}", host.tail())) }
    });
}

/// Guarantees: a Python component is refused with a word on how to allow it; where its rule's file says `wasi = true` it serves, with clocks and
/// without files, environment and network; its points, alerts and refusals are as any rule's, and messages flow while it is compiled.
#[test]
fn a_rule_in_python() {
    let (Some(program), Some(broker)) = (componentize_py(), Mosquitto::start()) else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .toml("[rules]\ncompile_timeout_s = 120")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    host.drop_by_rename("warm.toml", &rule_file("", 100.0));
    host.drop_by_rename("warmer.wasm", &warmer(&program));
    wait_rule(&host, "the component to be refused", |rule| {
        rule.state == "failed" && rule.problem.as_ref().is_some_and(|why| why.contains("wasi = true"))
    });
    publisher.deliver([plain("dev/a", 1, 7.0)]);
    host.wait_settled(1);
    assert_eq!(host.rows()[0].number(), Some(7.0), "nobody but the decoder serves");

    host.drop_by_rename("warm.toml", &rule_file("wasi = true\n", 100.0));
    wait_rule(&host, "the component to serve", |rule| rule.state == "serving" && rule.problem.is_none());
    publisher.deliver([
        plain("dev/a", 2, 40.0),
        plain("dev/a", 3, 60.0),
        plain("dev/b", 4, 1.5),
        plain("dev/a", 5, 10.0),
    ]);
    let status = host.wait_settled(5);
    let values: Vec<_> = host.rows().iter().filter_map(|row| row.number()).collect();
    for doubled in [80.0, 120.0, 3.0, 20.0] {
        assert!(values.contains(&doubled), "{doubled} is not in {values:?}");
    }
    let alerts: Vec<_> = host.alerts().into_iter().map(|alert| (alert.topic, alert.transition)).collect();
    assert_eq!(alerts, [("dev/a".to_owned(), "raised".to_owned()), ("dev/a".to_owned(), "cleared".to_owned())]);
    status.assert_balanced("a rule in Python");

    host.drop_by_rename("warm.toml", &rule_file("wasi = true\n", -1.0));
    wait_rule(&host, "its own refusal of a configuration", |rule| {
        rule.state == "serving" && rule.problem.as_ref().is_some_and(|why| why.contains("it must be 0 or more"))
    });
}
