//! What a call may take by a rule's own limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use tidegate_model::Description;

use super::*;
use crate::engine::Engine;
use crate::fault::FaultKind;
use crate::module::Module;
use crate::rule::Limits;
use crate::wat_guest::wat_guest;

/// What a call of a guest comes to that has these instructions at the beginning of `process`; and how long the thread worked for it.
fn processed(limits: Limits, process: &str) -> (Option<FaultKind>, Duration) {
    let engine = Engine::new().unwrap();
    let rule = Arc::new(Rule {
        name: "bounded".into(),
        generation: 1,
        module: Arc::new(Module::load(&engine, &wat_guest("bounded", &[("process", process)])).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: Default::default(),
        on_refused_state: Default::default(),
        limits,
        signature_expires: None,
        stats: Arc::default(),
    });
    let books = Arc::new(Books::new(10));
    let mut points = Points::default();
    points.push(books.intern_series("a", PartitionId(0), Description::default()).unwrap(), 0, 0.0, 192);
    let mut instance = rule.instantiate(&books).unwrap();
    let began = crate::context::thread_cpu();
    let outcome = instance.process(0, &points);
    (outcome.err().map(|fault| fault.kind), crate::context::thread_cpu() - began)
}

const FOR_EVER: &str = "(loop $for_ever (br $for_ever))";

/// Guarantees: a call ends when its time of the processor is over, and not before; or its time by the wall, whatever is left of the other.
#[test]
fn either_clock_ends_a_call() {
    let (short, long) = (Duration::from_millis(80), Duration::from_secs(60));
    let by_cpu = Limits { batch_cpu: short, batch_wall: long * 60, ..Limits::default() };
    let (fault, took) = processed(by_cpu, FOR_EVER);
    assert_eq!(fault, Some(FaultKind::Timeout));
    assert!(took >= short, "{took:?}");
    let by_wall = Limits { batch_cpu: long, batch_wall: short, ..Limits::default() };
    let (fault, took) = processed(by_wall, FOR_EVER);
    assert_eq!(fault, Some(FaultKind::Timeout));
    assert!(took < long, "{took:?}");
}

/// Guarantees: what a guest hands over in one call, as its result or to a function of the host, has as many bytes as it may, and no more.
#[test]
fn a_call_hands_over_so_much() {
    let with = |call_bytes: usize| Limits { call_bytes, ..Limits::default() };
    // A line of 100,000 bytes, of the zeros before what the host hands over; then the batch as it is.
    let says = "(drop (memory.grow (i32.const 4))) (call $log (i32.const 2) (i32.const 131072) (i32.const 100000))";
    assert_eq!(processed(with(200_000), says).0, None);
    assert_eq!(processed(with(50_000), says).0, Some(FaultKind::Trap));
    // `keep`, of 25,000 rows that are not there: found out only where it is read at all.
    let returns = "(drop (memory.grow (i32.const 4))) (i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 131072))
        (i32.store (i32.const 24) (i32.const 25000)) (return (i32.const 16))";
    assert_eq!(processed(with(200_000), returns).0, Some(FaultKind::BadOutput));
    assert_eq!(processed(with(50_000), returns).0, Some(FaultKind::Trap));
}
