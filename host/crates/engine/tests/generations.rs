//! Rules that come back after a restart: with their numbers, and from disk where their files are broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use tidegate_engine::{Admission, Engine, Generations, LoadError, Registry, RegistryHandle, Rule, RuleState};

#[path = "stub/lanes.rs"]
mod lanes;
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

use lanes::StubLanes;

/// Why the lanes take no rule, one after the other: the next is the last.
type Not = Arc<Mutex<Vec<LoadError>>>;

/// A registry as a host that is started has it.
fn start(directory: &Path) -> (RegistryHandle, Receiver<Arc<Rule>>) {
    start_with(directory, &Not::default())
}

/// The same, with lanes that do not take what comes first.
fn start_with(directory: &Path, not: &Not) -> (RegistryHandle, Receiver<Arc<Rule>>) {
    let (send, installed) = channel();
    let generations = Generations::open(&directory.join("generations")).unwrap();
    let admission = Admission::in_process(Engine::new().unwrap());
    let rules = directory.join("rules.d");
    let not = not.clone();
    let lanes = StubLanes(move |rule: &Arc<Rule>| {
        if let Some(error) = not.lock().unwrap().pop() {
            return Err(error);
        }
        rule.stats.release(rule.generation);
        // Not every test listens.
        let _ = send.send(rule.clone());
        Ok(())
    });
    let registry = Registry::start(admission, &rules, Some(generations), Box::new(lanes)).unwrap();
    (registry, installed)
}

fn put(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join("rules.d").join(name), bytes).unwrap();
}

fn rule_file(order: u32) -> Vec<u8> {
    format!("module = \"watch.wasm\"\norder = {order}\ntopics = [\"dev/#\"]\n").into_bytes()
}

/// Guarantees: numbers go on over a restart, and what has not changed keeps its own; a file or a module that is broken when the host
/// starts lets the generation that served last serve, and says what is wrong; mended, it serves again. A rule that was switched off stays off.
#[test]
fn what_served_last_serves_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("rules.d")).unwrap();
    put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[]));
    put(path, "hot.toml", &rule_file(1));
    let (registry, _) = start(path);
    assert_eq!(registry.rule("hot").unwrap().generation, 1);
    put(path, "hot.toml", &rule_file(2));
    registry.rescan().unwrap();
    let second = registry.rule("hot").unwrap();
    assert_eq!((second.generation, second.order), (2, 2));
    registry.stop();

    let (registry, _) = start(path);
    assert_eq!(registry.rule("hot").unwrap().generation, 2, "nothing has changed");
    registry.stop();

    let mut last = 2;
    for (name, bytes, code) in [("hot.toml", &b"module ="[..], "file"), ("watch.wasm", b"no module", "not_wasm")] {
        let sound = std::fs::read(path.join("rules.d").join(name)).unwrap();
        put(path, name, bytes);
        let (registry, installed) = start(path);
        let rule = registry.rule("hot").unwrap();
        assert_eq!((rule.state, rule.generation, rule.order), (RuleState::Serving, last, 2), "{name}: {rule:?}");
        assert_eq!(rule.problem_code, Some(code), "{rule:?}");
        assert_eq!((installed.try_iter().count(), registry.rules().len()), (1, 1), "{name}");
        put(path, name, &sound);
        registry.rescan().unwrap();
        let mended = registry.rule("hot").unwrap();
        assert_eq!((mended.problem, mended.state), (None, RuleState::Serving), "{name}");
        last = mended.generation;
        registry.stop();
    }

    let (registry, _) = start(path);
    put(path, "hot.toml", &[&rule_file(1)[..], b"enabled = false\n"].concat());
    registry.rescan().unwrap();
    registry.stop();
    put(path, "hot.toml", b"module =");
    let (registry, installed) = start(path);
    assert_eq!((registry.rule("hot").unwrap().state, installed.try_iter().count()), (RuleState::Failed, 0));
    registry.stop();
}

/// Guarantees: where a rule's files are broken when the host starts, what served last does so once lanes that are busy can take it; where that is damaged on
/// disk, the good one before it does.
#[test]
fn what_is_kept_serves_once_it_can() {
    let busy = || LoadError::Busy("a sink".into());
    for (damaged, generation) in [(false, 2), (true, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("rules.d")).unwrap();
        put(path, "hot.toml", &rule_file(0));
        for words in ["nop", "nop nop"] {
            put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[("tick", words)]));
            start(path).0.stop();
        }
        put(path, "watch.wasm", b"no module");
        let not: Not = Arc::new(Mutex::new(vec![busy(), busy()]));
        if damaged {
            let kept = Generations::open(&path.join("generations")).unwrap();
            let last = kept.versions("hot")[0].sha256.clone();
            std::fs::write(path.join(format!("generations/{last}.wasm")), b"not it").unwrap();
        }
        let (registry, installed) = start_with(path, &not);
        // The first try was that of the start.
        for _ in 0..2 {
            registry.rescan().unwrap();
        }
        assert_eq!(shown(&registry), (generation, 0, RuleState::Serving, Some("not_wasm")));
        registry.rescan().unwrap();
        assert_eq!(installed.try_iter().count(), 1, "it serves, and nothing is tried again");
        registry.stop();
    }
}

/// Guarantees: where the one that serves is quarantined after a restart, the good one before it returns from disk, once, and not one
/// after another; the bad one is marked.
#[test]
fn a_retreat_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("rules.d")).unwrap();
    put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[]));
    put(path, "hot.toml", &rule_file(0));
    let (registry, _) = start(path);
    for order in 1..3 {
        put(path, "hot.toml", &rule_file(order));
        registry.rescan().unwrap();
    }
    registry.stop();
    let (registry, installed) = start(path);
    let third = installed.recv().unwrap();
    assert_eq!((third.generation, third.order), (3, 2));
    third.stats.quarantine(3, "it failed again and again");
    registry.rescan().unwrap();
    let fourth = installed.recv().unwrap();
    assert_eq!((fourth.generation, fourth.order), (4, 1));
    let rule = registry.rule("hot").unwrap();
    assert_eq!((rule.generation, rule.problem_code), (4, Some("quarantined")), "{rule:?}");
    let versions = registry.versions("hot");
    let shown: Vec<_> = versions.iter().map(|it| (it.generation, it.serving, it.fault.is_some())).collect();
    assert_eq!(shown, [(4, true, false), (3, false, true), (1, false, false)]);
    fourth.stats.quarantine(4, "so does this one");
    registry.rescan().unwrap();
    assert_eq!(installed.try_iter().count(), 0, "no further back");
    registry.stop();
}

/// Guarantees: a generation that was quarantined, and in whose place the good one before it served when the host ended, does not serve again because
/// the host is started: the good one does, and it is said why. Somebody who says so, or another module, has the files tried again; and one that is
/// the only one there is serves.
#[test]
fn what_was_quarantined_stays_so_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("rules.d")).unwrap();
    put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[]));
    put(path, "hot.toml", &rule_file(0));
    let shown = |registry: &RegistryHandle| {
        let rule = registry.rule("hot").unwrap();
        (rule.generation, rule.order, rule.state, rule.problem_code)
    };
    let (registry, installed) = start(path);
    let only = installed.recv().unwrap();
    only.stats.quarantine(1, "it failed again and again");
    registry.rescan().unwrap();
    registry.stop();
    let (registry, _) = start(path);
    assert_eq!(shown(&registry), (1, 0, RuleState::Serving, None), "there is no other");

    put(path, "hot.toml", &rule_file(1));
    registry.rescan().unwrap();
    put(path, "hot.toml", &rule_file(2));
    registry.rescan().unwrap();
    registry.stop();
    let (registry, installed) = start(path);
    let bad = installed.recv().unwrap();
    assert_eq!((bad.generation, bad.order), (3, 2));
    bad.stats.quarantine(3, "it fails on Mondays");
    registry.rescan().unwrap();
    assert_eq!(shown(&registry), (4, 1, RuleState::Serving, Some("quarantined")));
    registry.stop();

    for round in ["once", "and once more"] {
        let (registry, installed) = start(path);
        assert_eq!(shown(&registry), (4, 1, RuleState::Serving, Some("quarantined")), "{round}");
        let said = registry.rule("hot").unwrap().problem.unwrap();
        assert!(said.contains("generation 3") && said.contains("it fails on Mondays"), "{said}");
        registry.rescan().unwrap();
        assert_eq!(installed.try_iter().map(|rule| rule.order).collect::<Vec<_>>(), [1], "{round}");
        registry.stop();
    }
    let (registry, _) = start(path);
    registry.retry("hot").unwrap();
    assert_eq!(shown(&registry), (5, 2, RuleState::Serving, None), "somebody says that it is to be tried again");
    registry.stop();
    let (registry, _) = start(path);
    assert_eq!(shown(&registry), (5, 2, RuleState::Serving, None), "nothing is known against that");
    registry.stop();
}

/// A rules directory whose third generation was quarantined, so that the second serves as the fourth; then the host was stopped.
fn returned(path: &Path) {
    std::fs::create_dir(path.join("rules.d")).unwrap();
    put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[]));
    put(path, "hot.toml", &rule_file(0));
    let (registry, installed) = start(path);
    for order in 1..3 {
        put(path, "hot.toml", &rule_file(order));
        registry.rescan().unwrap();
    }
    let bad = installed.try_iter().last().unwrap();
    bad.stats.quarantine(3, "it fails on Mondays");
    registry.rescan().unwrap();
    assert_eq!(shown(&registry), (4, 1, RuleState::Serving, Some("quarantined")));
    registry.stop();
}

fn shown(registry: &RegistryHandle) -> (u64, i32, RuleState, Option<&'static str>) {
    let rule = registry.rule("hot").unwrap();
    (rule.generation, rule.order, rule.state, rule.problem_code)
}

/// Guarantees: the one that stands in for a quarantined generation does so after a restart too where it refuses the state that is kept, which is that of
/// the quarantined one: it begins without. Where the lanes cannot take it yet, the quarantined one does not serve meanwhile.
#[test]
fn it_stands_in_whatever_the_lanes_say_at_first() {
    for error in [LoadError::State("no such layout".into()), LoadError::Busy("a sink holds the lane back".into())] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        returned(path);
        let waits = matches!(error, LoadError::Busy(_));
        let not = Not::default();
        if waits {
            not.lock().unwrap().push(LoadError::Busy("once more".into()));
        }
        not.lock().unwrap().push(error);
        let (registry, installed) = start_with(path, &not);
        while !not.lock().unwrap().is_empty() {
            registry.rescan().unwrap();
        }
        registry.rescan().unwrap();
        assert_eq!(shown(&registry), (4, 1, RuleState::Serving, Some("quarantined")));
        let said = registry.rule("hot").unwrap().problem.unwrap();
        assert_eq!((said.contains("without state"), said.contains("Mondays")), (!waits, true), "{said}");
        assert_eq!(installed.try_iter().map(|rule| rule.order).collect::<Vec<_>>(), [1]);
        registry.stop();
        let (registry, _) = start(path);
        assert_eq!(shown(&registry), (4, 1, RuleState::Serving, Some("quarantined")), "its mark is there still");
        registry.stop();
    }
}

/// Guarantees: once another generation has served for its files, what stood in before stands in no more: files that change to those of the quarantined
/// one while the host is stopped are tried. That holds also where it was the one that stood in which served for its files.
#[test]
fn files_that_change_are_tried() {
    for between in [3, 1] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        returned(path);
        put(path, "hot.toml", &rule_file(between));
        let (registry, _) = start(path);
        let (generation, order, _, problem) = shown(&registry);
        assert_eq!((generation, order, problem), (if between == 3 { 5 } else { 4 }, between as i32, None));
        registry.stop();
        put(path, "hot.toml", &rule_file(2));
        let (registry, _) = start(path);
        let (_, order, state, problem) = shown(&registry);
        assert_eq!((order, state, problem), (2, RuleState::Serving, None));
        registry.stop();
    }
}

/// Guarantees: a change that is refused, so that the files are put back to those of the quarantined generation, does not have that one tried again,
/// before a restart or after it; somebody who says so does.
#[test]
fn a_refused_change_does_not_bring_it_back() {
    for restart in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        returned(path);
        if !restart {
            put(path, "hot.toml", &rule_file(3));
        }
        let not = Not::default();
        let (registry, installed) = start_with(path, &not);
        let mut serves = 4;
        if !restart {
            let bad = installed.recv().unwrap();
            put(path, "hot.toml", &rule_file(4));
            not.lock().unwrap().push(LoadError::State("no such layout".into()));
            registry.rescan().unwrap();
            // Quarantined while the files are others, which could not serve.
            bad.stats.quarantine(bad.generation, "it fails on Mondays");
            registry.rescan().unwrap();
            serves = shown(&registry).0;
            put(path, "hot.toml", &rule_file(3));
            registry.rescan().unwrap();
            assert_eq!(shown(&registry), (serves, 1, RuleState::Serving, Some("quarantined")));
        }
        let files = std::fs::read(path.join("rules.d/hot.toml")).unwrap();
        let before = registry.rule("hot").unwrap().problem;
        for error in [LoadError::State("no such layout".into()), LoadError::Busy("a sink holds the lane back".into())]
        {
            put(path, "hot.toml", &rule_file(5));
            not.lock().unwrap().push(error);
            registry.rescan().unwrap();
            assert_ne!(registry.rule("hot").unwrap().problem, before, "it is refused");
            put(path, "hot.toml", &files);
            registry.rescan().unwrap();
            assert_eq!(shown(&registry), (serves, 1, RuleState::Serving, Some("quarantined")));
            assert_eq!(registry.rule("hot").unwrap().problem, before);
        }
        registry.retry("hot").unwrap();
        assert_eq!(shown(&registry).3, None, "somebody says that it is to be tried again");
        registry.stop();
    }
}

/// Guarantees: where the one that stands in for a quarantined generation cannot be loaded when the host is started, because its module or what is known of
/// it is damaged, the good one before that stands in from then on; where none can, none serves, until somebody says that the quarantined one is to be tried.
#[test]
fn the_next_older_good_one_stands_in() {
    for damaged in ["the module", "the record", "all modules"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("rules.d")).unwrap();
        let modules = [&[][..], &[("tick", "nop")], &[("save", "nop")]].map(|w| wat_guest::wat_guest("watch", w));
        put(path, "watch.wasm", &modules[0]);
        put(path, "hot.toml", &rule_file(0));
        let (registry, installed) = start(path);
        for module in &modules[1..] {
            put(path, "watch.wasm", module);
            registry.rescan().unwrap();
        }
        let served: Vec<_> = installed.try_iter().collect();
        served[2].stats.quarantine(3, "it fails on Mondays");
        registry.rescan().unwrap();
        assert_eq!(shown(&registry), (4, 0, RuleState::Serving, Some("quarantined")));
        registry.stop();

        let kept = |name: &str| path.join("generations").join(name);
        let module = |at: usize| kept(&format!("{}.wasm", served[at].module.sha256()));
        match damaged {
            "the record" => std::fs::write(kept("hot.4.generation"), b"not one").unwrap(),
            "the module" => std::fs::write(module(1), b"not it").unwrap(),
            _ => [0, 1].iter().for_each(|at| std::fs::write(module(*at), b"not it").unwrap()),
        }
        let older = served[0].module.sha256();
        for round in ["once", "and once more"] {
            let (registry, installed) = start(path);
            registry.rescan().unwrap();
            let rule = registry.rule("hot").unwrap();
            let said = rule.problem.unwrap();
            assert!(
                rule.problem_code == Some("quarantined") && said.contains("Mondays"),
                "{damaged}, {round}: {said}"
            );
            let came: Vec<_> = installed.try_iter().map(|rule| rule.module.sha256().clone()).collect();
            if damaged == "all modules" {
                assert_eq!((rule.state, came.len()), (RuleState::Failed, 0), "{round}: {said}");
                assert!(said.contains("generation 4 could not return") && said.contains("generation 1"), "{said}");
            } else {
                // Of a record that cannot be read nobody knows the number.
                let number = if damaged == "the record" { 4 } else { 5 };
                assert_eq!((rule.state, rule.generation), (RuleState::Serving, number), "{damaged}, {round}: {said}");
                assert_eq!(came, std::slice::from_ref(older), "{damaged}, {round}");
            }
            registry.stop();
        }
        let (registry, installed) = start(path);
        registry.retry("hot").unwrap();
        assert_eq!(installed.try_iter().last().unwrap().module.sha256(), served[2].module.sha256());
        registry.stop();
    }
}

/// Guarantees: a quarantined generation after which those on disk are to return gives way to the newest of them that the lanes take, and waits for lanes that
/// are busy.
#[test]
fn a_retreat_from_disk_goes_on() {
    let (state, busy) = (|| LoadError::Unsupported("no such thing".into()), || LoadError::Busy("a sink".into()));
    for (not, order) in [(vec![state()], 0), (vec![busy()], 1), (vec![busy(), state()], 0)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("rules.d")).unwrap();
        put(path, "watch.wasm", &wat_guest::wat_guest("watch", &[]));
        for order in 0..3 {
            put(path, "hot.toml", &rule_file(order));
            start(path).0.stop();
        }
        let lanes = Not::default();
        let (registry, installed) = start_with(path, &lanes);
        *lanes.lock().unwrap() = not;
        installed.recv().unwrap().stats.quarantine(3, "it fails on Mondays");
        while !lanes.lock().unwrap().is_empty() {
            registry.rescan().unwrap();
        }
        registry.rescan().unwrap();
        let (_, came, state, code) = shown(&registry);
        assert_eq!((came, state, code), (order, RuleState::Serving, Some("quarantined")));
        assert_eq!(installed.try_iter().count(), 1, "it serves, and nothing is tried again");
        registry.stop();
    }
}
