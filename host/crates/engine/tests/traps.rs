//! Traps by the thousand in one process, which is this test's own: what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use tidegate_engine::{Engine, FaultKind, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, PartitionId, Points};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// `TIDEGATE_TRAPS` in the environment sets how many; the default keeps the suite short.
fn traps() -> usize {
    std::env::var("TIDEGATE_TRAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Guarantees: a trap, with a new instance after each, leaves nothing behind: resident memory stays as it is.
#[test]
fn traps_leave_nothing_behind() {
    let engine = Engine::new().unwrap();
    let module = wat_guest::wat_guest("trap", &[("process", "(drop (memory.grow (i32.const 4))) unreachable")]);
    let rule = Arc::new(Rule {
        name: "trap".into(),
        generation: 1,
        module: Arc::new(Module::load(&engine, &module).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        signature_expires: None,
        limits: Limits::default(),
        stats: Arc::default(),
    });
    let books = Arc::new(Books::new(10));
    let series = books.intern_series("a", PartitionId(0), Description::default()).unwrap();
    let mut points = Points::default();
    (0..100).for_each(|i| points.push(series, i, 0.0, 192));
    let trap = || {
        let mut instance = rule.instantiate(&books).unwrap();
        let fault = instance.process(0, &points).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap);
        assert!(fault.backtrace.is_some());
    };
    let many = traps();
    (0..many / 10).for_each(|_| trap());
    let before = resident_kib();
    (0..many).for_each(|_| trap());
    let after = resident_kib();
    println!("{many} traps: {before} KiB before, {after} KiB after");
    assert!(after < before + 8 * 1024, "{many} traps: from {before} KiB to {after} KiB");
}
