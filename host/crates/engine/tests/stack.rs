//! How deep a guest may recurse is its rule's own limit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use tidegate_config::STACKS_KIB;
use tidegate_engine::{Admission, Engine, Fault, Limits, OnQuarantine, Rule, Stack, Terms, Wasi};
use tidegate_model::{Books, Description, Points};

// The harness is above these crates, so the template's text is shared and the code is not.
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// Recurses as deep as the first value of a batch says.
fn deep() -> Vec<u8> {
    let deep = "(i32.store (i32.const 512) (i32.sub (i32.load (i32.const 512)) (i32.const 1)))
        (if (i32.gt_s (i32.load (i32.const 512)) (i32.const 0)) (then (call $deep)))
        (i32.store (i32.const 516) (i32.add (i32.load (i32.const 516)) (i32.const 1)))";
    let process = "(i32.store (i32.const 512) (i32.trunc_f64_s (f64.load (local.get $values)))) (call $deep)";
    wat_guest::wat_guest("deep", &[("deep", deep), ("process", process)])
}

/// What becomes of a batch that has a rule's guest recurse `depth` times.
fn recurse(rule: &Arc<Rule>, depth: u32) -> Result<(), Fault> {
    let books = Arc::new(Books::new(1));
    let partition = books.intern_partition("t").unwrap();
    let mut batch = Points::default();
    batch.push(books.intern_series("t", partition, Description::default()).unwrap(), 0, depth.into(), 192);
    rule.instantiate(&books).unwrap().process(0, &batch).map(drop)
}

fn rule(admission: &Admission, stack: Stack) -> Arc<Rule> {
    Arc::new(Rule {
        name: "deep".into(),
        generation: 1,
        module: admission.admit(&deep(), None, Terms { wasi: Wasi::Refused, stack }).unwrap(),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::Bypass,
        on_refused_state: Default::default(),
        limits: Limits::default(),
        signature_expires: None,
        stats: Arc::default(),
    })
}

/// Guarantees: on a thread as lanes have, a guest may recurse twice as deep with twice the stack, from the smallest to the largest that a rule's file gives
/// it; what recurses deeper traps, says how much it had and where more is to be had, and the process lives. Rules with different stacks run beside each
/// other.
#[test]
fn as_deep_as_its_stack() {
    let work = || {
        let admission = Admission::in_process(Engine::new().unwrap());
        let rules = STACKS_KIB.map(|kib| rule(&admission, Stack::of_kib(kib)));
        let deepest = rules.each_ref().map(|rule| {
            let (mut fits, mut traps) = (0, 1 << 20);
            while traps - fits > 1 {
                let middle = (fits + traps) / 2;
                if recurse(rule, middle).is_ok() { fits = middle } else { traps = middle }
            }
            fits
        });
        for (two, kib) in deepest.windows(2).zip(STACKS_KIB) {
            let ratio = f64::from(two[1]) / f64::from(two[0]);
            assert!((1.9..2.1).contains(&ratio), "{kib} KiB: {deepest:?}");
        }
        for ((rule, depth), kib) in rules.iter().zip(deepest).zip(STACKS_KIB) {
            let fault = recurse(rule, depth + 1).unwrap_err();
            let said = format!("call stack exhausted: {kib} KiB (`stack_kib` in the `[limits]` of its file)");
            assert!(fault.message.ends_with(&said), "{fault}");
            assert!(fault.backtrace.is_some());
        }
    };
    tidegate_telemetry::thread("lane-0", work).unwrap().join().unwrap();
}
