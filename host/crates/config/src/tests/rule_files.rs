//! `<rule>.toml`.

use serde_json::json;

use crate::{RuleFile, RuleLimits};

fn rule(text: &str) -> RuleFile {
    RuleFile::parse(text, "hot.toml").unwrap_or_else(|e| panic!("{e}"))
}

/// Guarantees: a module alone is a rule with the documented defaults.
#[test]
fn defaults() {
    let file = rule("module = \"threshold.wasm\"");
    assert_eq!((file.module.as_str(), file.enabled, file.order), ("threshold.wasm", true, 100));
    assert_eq!((file.topics, file.commands.len(), file.config), (None, 0, json!({})));
    assert_eq!(file.limits, RuleLimits::default());
}

/// Guarantees: everything written arrives, and the configuration as JSON.
#[test]
fn in_full() {
    let file = rule(
        r#"
        module = "threshold.wasm"
        enabled = false
        order = -5
        topics = ["dev/+/temp", "users/#"]
        commands = ["cmd/#"]
        wasi = true
        [config]
        above = 85.5
        for_s = 10
        tags = ["a", { b = true }]
        since = 2024-01-02T03:04:05Z
        [limits]
        memory_mib = 64
        cpu_ms = 20
        wall_ms = 300
        lifecycle_cpu_ms = 10000
        stack_kib = 4096
        call_mib = 1
        log_lines_per_s = 0
        metric_names = 3
        series = 500
        rows_out_per_row = 9
        "#,
    );
    assert_eq!((file.enabled, file.order), (false, -5));
    let topics: Vec<String> = file.topics.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!((topics.join(" "), file.commands[0].as_str()), ("dev/+/temp users/#".to_owned(), "cmd/#"));
    assert_eq!(
        file.config,
        json!({"above": 85.5, "for_s": 10, "tags": ["a", {"b": true}], "since": "2024-01-02T03:04:05Z"})
    );
    assert_eq!(
        file.limits,
        RuleLimits {
            memory_mib: 64,
            cpu_ms: 20,
            wall_ms: 300,
            lifecycle_cpu_ms: 10_000,
            stack_kib: 4_096,
            call_mib: 1,
            log_lines_per_s: 0,
            metric_names: 3,
            series: 500,
            rows_out_per_row: 9
        }
    );
    assert!(file.wasi && !rule("module = \"threshold.wasm\"").wasi);
    let patient = rule("module = \"threshold.wasm\"\n[limits]\ncpu_ms = 10000").limits;
    assert_eq!(patient.wall_ms, 40_000, "more CPU time needs more time to have it");
}

/// Guarantees: mistakes are told with their places; a module outside of the directory is refused.
#[test]
fn mistakes() {
    for (text, expected) in [
        ("", "hot.toml:1:1: `module` is missing; add module = \"<module>.wasm\""),
        (
            "module = \"../x.wasm\"",
            "hot.toml:1:10: `../x.wasm` is no file name of a module; name a `.wasm` file in this very directory, without a path, as in \"threshold.wasm\"",
        ),
        (
            "module = \".wasm\"",
            "hot.toml:1:10: `.wasm` is no file name of a module; name a `.wasm` file in this very directory, without a path, as in \"threshold.wasm\"",
        ),
        (
            "modul = \"x.wasm\"\n[limits]\ncpu = 3",
            "hot.toml:1:1: unknown key `modul` at the top of the file; did you mean `module`?\nhot.toml:3:1: unknown key `cpu` in [limits]; did you mean `cpu_ms`?",
        ),
        (
            "module = \"x.wasm\"\n[limits]\nmemory_mib = 65",
            "hot.toml:3:14: `memory_mib` cannot be 65; choose from 1 to 64; the default is 16",
        ),
        (
            "module = \"x.wasm\"\n[limits]\nstack_kib = 500",
            "hot.toml:3:13: `stack_kib` cannot be 500; choose from 64, 128, 256, 512, 1024, 2048, 4096; the default is 512",
        ),
        (
            "module = \"x.wasm\"\n[limits]\ncpu_ms = 90\nwall_ms = 50",
            "hot.toml:4:11: `wall_ms` = 50 is less than `cpu_ms` = 90; a call needs more time by the wall than of the CPU: set it to several times `cpu_ms`",
        ),
        (
            "module = \"x.wasm\"\ntopics = []",
            "hot.toml:2:10: `topics` names no filter, so the rule would get nothing; name one, remove the line for the module's own, or write enabled = false",
        ),
        (
            "module = \"x.wasm\"\ntopics = [\"a\", \"b#\"]",
            "hot.toml:2:16: in \"b#\", `#` must stand alone in the last level, as in `plant/#`; correct the filter",
        ),
        (
            "module = \"x.wasm\"\n[config]\na = [1.0, inf]",
            "hot.toml:3:11: inf cannot be passed to a rule; write a finite number",
        ),
    ] {
        assert_eq!(RuleFile::parse(text, "hot.toml").unwrap_err().to_string(), expected);
    }
}

/// Guarantees: switching a rule changes one value, and keeps order, comments and everything else.
#[test]
fn switching_keeps_the_rest() {
    let text =
        "# hot motors\nmodule = \"t.wasm\" # the module\nenabled = true  # since May\n\n[config]\nabove = 85 # °C\n";
    let off = RuleFile::with_enabled(Some(text), "t.wasm", false).unwrap();
    assert_eq!(off, text.replace("enabled = true", "enabled = false"));
    assert_eq!(RuleFile::with_enabled(Some(&off), "t.wasm", true).unwrap(), text);

    let without = "module = \"t.wasm\"\n[config]\nabove = 85 # °C\n";
    let off = RuleFile::with_enabled(Some(without), "t.wasm", false).unwrap();
    assert_eq!(off, "module = \"t.wasm\"\nenabled = false\n[config]\nabove = 85 # °C\n");
    assert!(!rule(&off).enabled);
}

/// Guarantees: a rule without a file gets one that says only what it must; text that is no TOML is left alone.
#[test]
fn switching_without_a_file() {
    let text = RuleFile::with_enabled(None, "t.wasm", false).unwrap();
    assert_eq!(text, "module = \"t.wasm\"\nenabled = false\n");
    assert!(!rule(&text).enabled);
    let error = RuleFile::with_enabled(Some("module = "), "t.wasm", false).unwrap_err().to_string();
    assert!(error.starts_with("the rule file of t.wasm: not TOML: "), "{error}");
}
