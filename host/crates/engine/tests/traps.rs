//! Traps by the thousand in one process, which is this test's own: what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use tidegate_engine::{Engine, FaultKind, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, PartitionId, Points};

#[path = "../../../../tests/src/left_behind.rs"]
mod left_behind;
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

use left_behind::{memory_kib, traps};

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
    let many = traps(5_000);
    (0..many / 10).for_each(|_| trap());
    let before = memory_kib("self", "VmRSS");
    (0..many).for_each(|_| trap());
    let after = memory_kib("self", "VmRSS");
    println!("{many} traps: {before} KiB before, {after} KiB after");
    // None was seen to be left of 50,000: this is what an allocator may round up, and 200 bytes a trap.
    assert!(after < before + 1024, "{many} traps: from {before} KiB to {after} KiB");
}
