//! What a `save` that would not come to an end is stopped by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_engine::{Cells, Engine, Fault, FaultKind, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, PartitionId, Points};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// How a guest fares that has had one reading and has these instructions at the beginning of `save`.
fn saved(instructions: &str) -> Fault {
    let engine = Engine::new().unwrap();
    let module = wat_guest::wat_guest("endless", &[("save", instructions)]);
    let limits = Limits { lifecycle_cpu: Duration::from_millis(60), ..Limits::default() };
    let rule = Arc::new(Rule {
        name: "endless".into(),
        generation: 1,
        module: Arc::new(Module::load(&engine, &module).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        limits,
        stats: Arc::default(),
    });
    let books = Arc::new(Books::new(10));
    let series = books.intern_series("a", PartitionId(0), Description::default()).unwrap();
    let mut points = Points::default();
    points.push(series, 0, 0.0, 192);
    let mut instance = rule.instantiate(&books).unwrap();
    instance.process(0, &points).unwrap();
    instance.save(Cells::All).expect_err("it never ends")
}

/// `saved` at 512: nothing but `more`.
const MORE: &str = "(i32.store8 (i32.const 576) (i32.const 1))";

/// Guarantees: a part that gives nothing and promises more is a breach of the contract, not a reason to ask again.
#[test]
fn nothing_and_more() {
    let fault = saved(&format!("{MORE} (return (i32.const 512))"));
    assert_eq!(fault.kind, FaultKind::BadOutput);
    assert!(fault.message.contains("gave nothing"), "{fault}");
}

/// Guarantees: parts share the time of one call: a guest that takes a little for each part of many runs into its limit.
#[test]
fn parts_share_their_time() {
    // One series removed in each part, the one at the zeros in 0, after some millions of steps; 130 parts are asked for at most.
    let removed = "(i32.store (i32.const 560) (i32.const 0)) (i32.store (i32.const 564) (i32.const 1))";
    let busy = "(i32.store (i32.const 568) (i32.const 5000000))
        (loop $on
          (i32.store (i32.const 568) (i32.sub (i32.load (i32.const 568)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 568))))";
    let fault = saved(&format!("{MORE} {removed} {busy} (return (i32.const 512))"));
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
}

/// Guarantees: as many cells as one likes of one series, which cost a guest nothing where all are the same zeros, are a breach of the contract before they
/// are taken apart; and so are as many removals.
#[test]
fn one_series_again_and_again() {
    let zeros = "(drop (memory.grow (i32.const 200)))";
    let many = |at: u32, words: u32| {
        format!(
            "(i32.store (i32.const {at}) (i32.const 1048576)) (i32.store (i32.const {}) (i32.const {words}))",
            at + 4
        )
    };
    let cells = format!("{} {}", many(512, 2_000_000), many(520, 2_000_000));
    for what in [cells, many(560, 2_000_000)] {
        let fault = saved(&format!("{zeros} {what} {MORE} (return (i32.const 512))"));
        assert_eq!(fault.kind, FaultKind::BadOutput, "{fault}");
    }
}
