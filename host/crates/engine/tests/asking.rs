//! What the host keeps of what a guest says in one call; in a process of its own, so that what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_engine::{Engine, FaultKind, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, Points};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// The most memory this process ever had resident, in MiB.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() / 1_024
}

fn rule(engine: &Engine, module: &[u8]) -> Arc<Rule> {
    // How fast this machine is is not the question.
    let (cpu, wall) = (Duration::from_secs(60), Duration::from_secs(600));
    Arc::new(Rule {
        name: "asks".into(),
        generation: 1,
        module: Arc::new(Module::load(engine, module).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        limits: Limits { lifecycle_cpu: cpu, lifecycle_wall: wall, ..Limits::default() },
        signature_expires: None,
        stats: Arc::default(),
    })
}

/// Guarantees: of a call that returns what breaks the contract nothing takes effect, neither what it counted nor what it logged; of the same call
/// with a sound result it does.
#[test]
fn bad_output_has_no_effect() {
    let engine = Engine::new().unwrap();
    // Counts under "n", and logs twice as many lines as it may; then `replaced` with one series and nothing in the other columns, for a value
    // below zero.
    let process = "(i32.store8 (i32.const 512) (i32.const 110))
        (call $count (i32.const 512) (i32.const 1) (i64.const 1))
        (loop $more
          (call $log (i32.const 2) (i32.const 512) (i32.const 1))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))
        (if (f64.lt (f64.load (local.get $values)) (f64.const 0)) (then
          (i32.store8 (i32.const 16) (i32.const 3))
          (i32.store (i32.const 20) (i32.const 8))
          (i32.store (i32.const 24) (i32.const 1))
          (return (i32.const 16))))";
    let rule = rule(&engine, &wat_guest::wat_guest("asks", &[("process", process)]));
    let books = Arc::new(Books::new(10));
    let partition = books.intern_partition("t").unwrap();
    let series = books.intern_series("t", partition, Description::default()).unwrap();
    let asked = |value: f64| {
        let mut batch = Points::default();
        batch.push(series, 0, value, 192);
        let outcome = rule.instantiate(&books).unwrap().process(0, &batch);
        let totals = rule.stats.totals();
        (outcome.map(drop).map_err(|fault| fault.kind), totals.counts.get("n").copied(), totals.log_lines_dropped > 0)
    };
    assert_eq!(asked(-1.0), (Err(FaultKind::BadOutput), None, false));
    assert_eq!(asked(1.0), (Ok(()), Some(1), true));
}

/// Guarantees: a guest that logs, counts and gauges under texts of 15 MiB, a hundred of each in a call, costs the host the one that is crossing,
/// not all of them; it is only cut short.
#[test]
fn long_words_are_not_kept() {
    let engine = Engine::new().unwrap();
    let say = "(drop (memory.grow (i32.const 240)))
        (i32.store (i32.const 512) (i32.const 100))
        (loop $more
          (call $log (i32.const 2) (i32.const 131072) (i32.const 15728640))
          (call $count (i32.const 131072) (i32.const 15728640) (i64.const 1))
          (call $gauge (i32.const 131072) (i32.const 15728640) (f64.const 1))
          (i32.store (i32.const 512) (i32.sub (i32.load (i32.const 512)) (i32.const 1)))
          (br_if $more (i32.load (i32.const 512))))";
    let rule = rule(&engine, &wat_guest::wat_guest("wordy", &[("configure", say)]));
    let before = peak_mib();
    drop(rule.instantiate(&Arc::new(Books::new(10))).unwrap());
    let after = peak_mib();
    println!("{before} MiB before, {after} MiB after");
    assert!(after < before + 64, "from {before} MiB to {after} MiB");
    let totals = rule.stats.totals();
    assert!(totals.counts.is_empty() && totals.gauges.is_empty(), "{totals:?}");
    assert_eq!(totals.log_lines_dropped, 100 - rule.limits.log_lines_per_s);
}
