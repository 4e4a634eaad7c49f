//! What the host keeps of what a guest says in one call; in a process of its own, so that what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_engine::{Engine, Limits, Module, OnQuarantine, Rule};
use tidegate_model::Books;

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// The most memory this process ever had resident, in MiB.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() / 1_024
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
    let module = wat_guest::wat_guest("wordy", &[("configure", say)]);
    // How fast this machine is is not the question.
    let (cpu, wall) = (Duration::from_secs(60), Duration::from_secs(600));
    let rule = Arc::new(Rule {
        name: "wordy".into(),
        generation: 1,
        module: Arc::new(Module::load(&engine, &module).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        limits: Limits { lifecycle_cpu: cpu, lifecycle_wall: wall, ..Limits::default() },
        stats: Arc::default(),
    });
    let before = peak_mib();
    drop(rule.instantiate(&Arc::new(Books::new(10))).unwrap());
    let after = peak_mib();
    println!("{before} MiB before, {after} MiB after");
    assert!(after < before + 64, "from {before} MiB to {after} MiB");
    let totals = rule.stats.totals();
    assert!(totals.counts.is_empty() && totals.gauges.is_empty(), "{totals:?}");
    assert_eq!(totals.log_lines_dropped, 100 - rule.limits.log_lines_per_s);
}
