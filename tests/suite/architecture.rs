//! The arrows between our crates point one way. This is the table; a new arrow is a decision, made here.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use tidegate_tests::root;

/// What each crate may name. A crate that is not here may name none of ours.
///
/// `config` stands below everything that is configured: its settings are pure data, without I/O once loaded, and so
/// sources, sinks, engine and admin take them as they are instead of each translating its own copy. What must never be is
/// an arrow between two of engine, sources and sinks, or from any of them up to the pipeline.
///
/// `cases` is a leaf because the modules that the binary brings along get their test cases before there is a binary.
///
/// `telemetry` is a leaf that knows none of ours: whoever starts a task or a thread starts it there, so that it has a name and
/// its panic a log line.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tidegate-model", &[]),
    ("tidegate-telemetry", &[]),
    ("tidegate-config", &["tidegate-model"]),
    ("tidegate-cases", &[]),
    ("tidegate-engine", &["tidegate-cases", "tidegate-config", "tidegate-model", "tidegate-telemetry"]),
    ("tidegate-pipeline", &["tidegate-engine", "tidegate-model", "tidegate-telemetry"]),
    // The wall around what is unsafe of librdkafka.
    ("tidegate-kafka-batch", &[]),
    ("tidegate-sources", &["tidegate-config", "tidegate-kafka-batch", "tidegate-model", "tidegate-telemetry"]),
    // What all of our SQLite files promise.
    ("tidegate-sqlite", &[]),
    ("tidegate-spool", &["tidegate-config", "tidegate-model", "tidegate-sqlite", "tidegate-telemetry"]),
    ("tidegate-sinks", &["tidegate-config", "tidegate-model", "tidegate-sqlite", "tidegate-telemetry"]),
    ("tidegate-state", &["tidegate-model", "tidegate-sqlite", "tidegate-telemetry"]),
    (
        "tidegate-admin",
        &["tidegate-pipeline", "tidegate-engine", "tidegate-config", "tidegate-model", "tidegate-telemetry"],
    ),
    // Rules are guests: they know the contract, by way of their SDK, and no part of the host.
    ("tidegate-rule", &[]),
    ("rule-*", &["tidegate-rule"]),
    // It gives what takes bytes from outside other bytes.
    ("tidegate-fuzz", &["tidegate-cases", "tidegate-engine", "tidegate-model", "tidegate-rule"]),
    // The suite drives the binary from outside.
    ("tidegate-tests", &[]),
];

/// These wire or measure everything, and may name all.
const EVERYTHING: &[&str] = &["tidegate", "tidegate-bench"];

type Arrows = BTreeMap<String, Vec<String>>;

/// Guarantees: no crate names another of ours that the table does not allow it, not even in its tests.
#[test]
fn arrows_point_one_way() {
    let arrows = arrows();
    assert!(arrows.len() >= 14, "cargo metadata shows too few crates: {arrows:?}");
    let forbidden = forbidden(&arrows);
    assert!(forbidden.is_empty(), "forbidden arrows:\n{}", forbidden.join("\n"));
}

/// Guarantees: the check above can fail: each arrow that would undo the architecture is found.
#[test]
fn forbidden_arrows_are_found() {
    for (from, to) in [
        ("tidegate-model", "tidegate-config"),
        ("tidegate-engine", "tidegate-sinks"),
        ("tidegate-sources", "tidegate-pipeline"),
        ("tidegate-sinks", "tidegate-sources"),
        ("tidegate-pipeline", "tidegate-sinks"),
        ("tidegate-telemetry", "tidegate-model"),
        ("tidegate-engine", "tidegate-rule"),
        ("tidegate-admin", "rule-threshold"),
        ("tidegate-rule", "tidegate-model"),
        ("rule-threshold", "tidegate-engine"),
        ("rule-threshold", "rule-scale"),
        ("tidegate-new", "tidegate-model"),
        ("tidegate-config", "tidegate"),
    ] {
        let found = forbidden(&Arrows::from([(from.to_owned(), vec![to.to_owned()])]));
        assert_eq!(found, [format!("{from} → {to}")]);
    }
    let sound = Arrows::from([("tidegate".to_owned(), vec!["tidegate-engine".to_owned(), "rule-scale".to_owned()])]);
    assert!(forbidden(&sound).is_empty());
}

fn forbidden(arrows: &Arrows) -> Vec<String> {
    let each = arrows.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
    each.filter(|(from, to)| !allowed(from, to)).map(|(from, to)| format!("{from} → {to}")).collect()
}

fn allowed(from: &str, to: &str) -> bool {
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => from.starts_with(start),
        None => from == pattern,
    };
    EVERYTHING.contains(&from) || ALLOWED.iter().any(|(crates, may)| is(crates) && may.contains(&to))
}

/// Our crates, and which of ours each depends on, for whatever purpose.
fn arrows() -> Arrows {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    let all = packages.iter().map(|package| {
        let dependencies = package["dependencies"].as_array().unwrap();
        (name(package), dependencies.iter().map(name).filter(|dependency| ours.contains(dependency)).collect())
    });
    all.collect()
}
