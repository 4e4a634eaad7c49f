//! `check`, from a directory to a report.

use std::fs;

use tidegate_config::Signatures;

use super::*;

const CONFIG: &str = "node = \"n\"\n[sources.mqtt.plant]\nurl = \"mqtt://u:hunter2@broker\"\ntopics = [\"dev/#\"]\n";

/// A module is right if its bytes begin with `good`, and the whole node's if they end so.
fn inspect(_: &Signatures, module: &Path, _: Option<&RuleFile>) -> anyhow::Result<Inspected> {
    let what = fs::read_to_string(module)?;
    anyhow::ensure!(what.starts_with("good"), "not a module");
    let runs = if what.ends_with("node") { Runs::OncePerNode } else { Runs::OnLanes };
    Ok(Inspected { what, runs })
}

/// The report on a directory with these files.
fn check_files(files: &[(&str, &str)]) -> Report {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("rules.d")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let mut report = check(&directory.path().join("tidegate.toml"), &inspect);
    let here = format!("{}/", directory.path().display());
    let lines = report.errors.iter_mut().chain(&mut report.warnings).chain([&mut report.summary]);
    lines.for_each(|line| *line = line.replace(&here, ""));
    report
}

/// Guarantees: the summary says what would run, in the order it would run in, and shows no secret.
#[test]
fn what_would_run() {
    let report = check_files(&[
        ("tidegate.toml", CONFIG),
        ("rules.d/t.wasm", "good threshold"),
        ("rules.d/hot.toml", "module = \"t.wasm\"\norder = 200\ntopics = [\"dev/+/temp\"]"),
        ("rules.d/cold.toml", "module = \"t.wasm\"\nenabled = false"),
        ("rules.d/json.wasm", "good decoder"),
        ("rules.d/.hot.toml.swp", "half written"),
    ]);
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.code, ExitCode::SUCCESS);
    let names = ["cold ", "json ", "hot "];
    let at: Vec<usize> = names.iter().map(|name| report.summary.find(&format!("\n  {name}")).unwrap()).collect();
    assert!(at.is_sorted(), "{}", report.summary);
    for part in ["mqtt://broker:1883", "dev/# (QoS 1)", "data/store.db", "on dev/+/temp", "(off)", "valid, 1 warning"]
    {
        assert!(report.summary.contains(part), "{part} in\n{}", report.summary);
    }
    assert!(!report.summary.contains("hunter2") && !report.warnings.concat().contains("hunter2"));
}

/// Guarantees: mistakes in rule files and modules are told, all of them, and fail the check.
#[test]
fn mistakes_in_rules() {
    let report = check_files(&[
        ("tidegate.toml", CONFIG),
        ("rules.d/a.toml", "modul = \"t.wasm\""),
        ("rules.d/b.toml", "module = \"gone.wasm\""),
        ("rules.d/broken.wasm", "bad"),
        ("rules.d/Big_Name.wasm", "good"),
    ]);
    assert_eq!(report.code, ExitCode::FAILURE);
    let errors = report.errors.join("\n");
    assert_eq!(report.errors.len(), 4, "{errors}");
    for part in [
        "rules.d/a.toml:1:1: unknown key `modul` at the top of the file; did you mean `module`?",
        "rules.d/gone.wasm: No such file or directory",
        "rules.d/broken.wasm: not a module; put a working module there",
        "\"Big_Name\" is no name",
    ] {
        assert!(errors.contains(part), "{part} in\n{errors}");
    }
}

/// Guarantees: a wrong configuration is one exit code, one that cannot be read another.
#[test]
fn exit_codes() {
    let report = check_files(&[("tidegate.toml", &CONFIG.replace("topics", "topicz"))]);
    assert_eq!(report.code, ExitCode::FAILURE);
    assert_eq!(
        report.errors,
        ["tidegate.toml:4:1: unknown key `topicz` in [sources.mqtt.plant]; did you mean `topics`?"]
    );
    assert_eq!(check_files(&[]).code, ExitCode::from(2));
}

/// Guarantees: a directory without rules is said to be so, and is no mistake.
#[test]
fn no_rules() {
    let report = check_files(&[("tidegate.toml", CONFIG)]);
    assert_eq!(report.code, ExitCode::SUCCESS);
    assert!(report.warnings.iter().any(|w| w.contains("rules.d holds no rules")), "{:?}", report.warnings);
}

/// Guarantees: of a rule of the whole node it is told that it is one, and what it cannot do where hosts share a topic, or where points are to be
/// stored exactly once; of one that is switched off, and of others, nothing.
#[test]
fn rules_of_the_node() {
    let shared = format!("{CONFIG}share = \"group\"\n");
    let once = "[sources.kafka.fleet]\nbrokers = \"k:9092\"\ngroup = \"g\"\ntopics = [\"t\"]\ntopic_from = \"key\"\n\
                [sinks.timescale.db]\nurl = \"postgres://u@db/p\"\nexactly_once = \"kafka\"\n";
    for (config, word) in [(shared.as_str(), "shares its messages"), (once, "exactly_once")] {
        let report = check_files(&[
            ("tidegate.toml", config),
            ("rules.d/k.wasm", "good for the node"),
            ("rules.d/other.wasm", "good"),
            ("rules.d/off.toml", "module = \"k.wasm\"\nenabled = false"),
            ("rules.d/on.toml", "module = \"k.wasm\""),
        ]);
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        let told: Vec<_> = report.warnings.iter().filter(|warning| warning.contains(word)).collect();
        assert!(told.len() == 1 && told[0].starts_with("on: "), "{:?}", report.warnings);
        assert_eq!(report.summary.matches("once for the whole node").count(), 2, "{}", report.summary);
    }
}
