//! Modules with test cases: sound ones, wrong ones, and hostile ones.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use serde_json::json;
use tempfile::TempDir;
use tidegate_cases::{MAX_BYTES, MAX_CASES, embed};

use super::*;
use crate::admission::tests::wat_guest;
use crate::admission::{Admission, Cache, InProcess};
use crate::engine::Engine;
use crate::terms::Wasi;

/// Readings as a processor gets them, a tick, and its state restored: of a guest that lets everything pass nothing is listed.
fn sound() -> Value {
    json!({ "name": "sound", "input": [
        { "topic": "a", "time_us": 1_000_000, "value": 1 },
        { "topic": "b", "time_us": 1_000_000, "text": "on", "unit": "m" },
        null,
        { "topic": "a", "time_us": 2_000_000, "value": 2 },
        { "tick_us": 3_000_000 },
        { "restart": 64 },
        { "topic": "a", "time_us": 4_000_000 },
    ], "expected": [] })
}

fn document(cases: &[Value]) -> Vec<u8> {
    json!({ "version": 1, "cases": cases }).to_string().into_bytes()
}

fn fate(admission: &Admission, module: &[u8], section: &[u8]) -> (&'static str, String) {
    match admission.admit(&embed(module, section), None, Wasi::Refused) {
        Ok(_) => ("serves", String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

/// Guarantees: a module whose cases pass is let in, and one whose cases do not is refused with the case, the line, what was expected and what came,
/// wherever the rule fails; nothing else happens to this process.
#[test]
fn cases_decide() {
    let admission = Admission::in_process(Engine::new().unwrap());
    let reading = json!({ "topic": "a", "time_us": 1, "value": 1 });
    let case = |input: &[Value], expected: &[Value]| json!({ "name": "c", "input": input, "expected": expected });
    let filtered = case(std::slice::from_ref(&reading), &[json!({ "filtered": 0 })]);
    let message = case(&[json!({ "topic": "a", "payload": "1" })], &[]);
    let keep_none = "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))";
    let refuse = "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))";
    let plain = case(&[reading.clone(), json!({ "tick_us": 2 }), json!({ "restart": 1 })], &[]);
    for (place, words, case, code, said) in [
        ("process", "", sound(), "serves", ""),
        (
            "process",
            "",
            filtered.clone(),
            "test_case_failed",
            r#"at line 1 of expected.ndjson: expected {"filtered":0}, and nothing more"#,
        ),
        ("process", keep_none, filtered, "serves", ""),
        (
            "process",
            keep_none,
            plain.clone(),
            "test_case_failed",
            r#"expected nothing more, and {"filtered":0} came out"#,
        ),
        ("process", "unreachable", plain.clone(), "test_case_failed", "the rule trapped"),
        ("process", "(loop $for_ever (br $for_ever))", plain.clone(), "test_case_failed", "CPU time"),
        ("declare-series", "unreachable", plain.clone(), "test_case_failed", "the rule trapped"),
        ("tick", "unreachable", plain.clone(), "test_case_failed", "`tick` returns"),
        ("save", "unreachable", plain.clone(), "test_case_failed", "`save` returns"),
        (
            "save",
            "(i32.store8 (i32.const 64) (i32.const 1)) (return (i32.const 0))",
            plain.clone(),
            "test_case_failed",
            "`save`",
        ),
        ("configure", refuse, plain, "test_case_failed", "it takes its configuration"),
        ("process", "", message, "test_case_failed", "a processor came out"),
    ] {
        let (got, sentence) = fate(&admission, &wat_guest("cased", &[(place, words)]), &document(&[case]));
        assert_eq!(got, code, "{place}: {words}: {sentence}");
        assert!(sentence.contains(said), "{place}: {words}: {sentence:?} does not say {said:?}");
    }
    // The second of two.
    let second = json!({ "name": "second", "input": [], "expected": [{ "held": 0 }] });
    let (code, sentence) = fate(&admission, &wat_guest("cased", &[]), &document(&[sound(), second]));
    assert!(code == "test_case_failed" && sentence.contains("`second`"), "{code}: {sentence}");
}

/// Guarantees: whatever stands in the section, the module is refused with a reason that people can read, before anybody compiles it.
#[test]
fn hostile_sections_are_refused() {
    let admission = Admission::in_process(Engine::new().unwrap());
    let module = wat_guest("cased", &[]);
    let deep = [vec![b'['; MAX_BYTES / 2], vec![b']'; MAX_BYTES / 2]].concat();
    let named = |n: usize| json!({ "name": format!("c{n}"), "input": [], "expected": [] });
    let many: Vec<Value> = (0..=MAX_CASES).map(named).collect();
    for (section, said) in [
        (Vec::new(), "not what a build writes"),
        (b"\xff\xfe\x00garbage".to_vec(), "not what a build writes"),
        (deep, "not what a build writes"),
        (vec![b' '; MAX_BYTES + 1], "262145 bytes"),
        (document(&many), "there are 65"),
        (document(&[named(1), named(1)]), "there twice"),
        (document(&[json!({ "name": "c", "input": [{ "topic": "a" }], "expected": [] })]), "without `time_us`"),
        (br#"{"version":9,"cases":[]}"#.to_vec(), "format 9"),
    ] {
        let (code, sentence) = fate(&admission, &module, &section);
        assert!(code == "test_cases" && sentence.contains(said), "{said}: {code}: {sentence}");
        assert!(sentence.len() < 700, "{sentence}");
    }
    let (code, sentence) = fate(&admission, &embed(&module, &document(&[])), &document(&[]));
    assert!(code == "test_cases" && sentence.contains("there twice"), "{code}: {sentence}");
    // More topics than a case may know.
    let topic = |n: usize| json!({ "topic": format!("{n}"), "time_us": 1 });
    let fleet = json!({ "name": "c", "input": (0..=SERIES).map(topic).collect::<Vec<_>>(), "expected": [] });
    let (code, sentence) = fate(&admission, &module, &document(&[fleet]));
    assert!(code == "test_case_failed" && sentence.contains("fewer topics"), "{code}: {sentence}");
}

/// Guarantees: the time that all cases have together ends them, whichever of them is at it.
#[test]
fn together_they_have_so_much_time() {
    let engine = Engine::new().unwrap();
    let module = Arc::new(Module::load(&engine, &wat_guest("cased", &[])).unwrap());
    let suite = Suite::read(&document(&[sound()])).unwrap();
    for (cpu, wall) in [(Duration::ZERO, ALL_WALL), (ALL_CPU, Duration::ZERO)] {
        let refused = run(&module, &suite.cases[0], &Allowance::of(cpu, wall)).unwrap_err();
        assert_eq!(refused.code(), "test_cases_time", "{refused}");
    }
    run(&module, &suite.cases[0], &Allowance::of_a_module()).unwrap();
}

/// Guarantees: cases that have passed are not run again, also after a restart, and those that have not passed are; another module's note counts for
/// nothing.
#[test]
fn what_has_passed_is_not_run_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cache");
    let engine = Engine::new().unwrap();
    let start = || Admission::new(engine.clone(), Box::new(InProcess), Some(Cache::open(&path).unwrap()));
    let notes = || {
        fs::read_dir(&path).unwrap().flatten().filter(|file| file.path().extension().is_some_and(|e| e == "passed"))
    };
    let module = wat_guest("cased", &[]);
    let wrong = document(&[json!({ "name": "wrong", "input": [], "expected": [{ "held": 0 }] })]);
    for _ in 0..2 {
        assert_eq!(fate(&start(), &module, &wrong).0, "test_case_failed");
        assert_eq!(notes().count(), 0, "it has not passed");
    }
    assert_eq!(fate(&start(), &module, &document(&[sound()])).0, "serves");
    assert_eq!(notes().count(), 1);
    // Were it run, it would fail: so the note is why it is let in.
    let admission = start();
    let sha256 = crate::module::hex(&<sha2::Sha256 as sha2::Digest>::digest(embed(&module, &wrong)));
    admission.cache.as_ref().unwrap().note_passed(&admission.key(&sha256)).unwrap();
    assert_eq!(fate(&start(), &module, &wrong).0, "serves");
}

/// Guarantees: who looks into a module is told how each of its cases ends.
#[test]
fn each_case_is_told() {
    let admission = Admission::in_process(Engine::new().unwrap());
    let wrong = json!({ "name": "wrong", "input": [], "expected": [{ "held": 0 }] });
    let module = embed(&wat_guest("cased", &[]), &document(&[wrong, sound()]));
    let examined = admission.examine(&module, Wasi::Refused).unwrap();
    let told: Vec<_> = examined.try_cases().into_iter().map(|(name, end)| (name, end.is_ok())).collect();
    assert_eq!(told, [("wrong", false), ("sound", true)]);
    assert_eq!(examined.imports, ["tidegate:rule/host@0.1.0"]);
    assert!(examined.sections.iter().any(|(name, _)| name == tidegate_cases::SECTION), "{:?}", examined.sections);
    assert!(admission.examine(&wat_guest("cased", &[]), Wasi::Refused).unwrap().cases.cases.is_empty());
}

/// Guarantees: a machine without time for a module's cases is told from a module whose cases take too much of it.
#[test]
fn a_busy_machine_is_no_fault_of_the_module() {
    let starved = Allowance::of(ALL_CPU, Duration::ZERO);
    assert!(starved.is_starved() && matches!(starved.busy(), LoadError::Busy(_)));
    assert!(!Allowance::of(Duration::ZERO, Duration::ZERO).is_starved());
    assert!(!Allowance::of_a_module().is_starved());
}
