//! What a `save` that would not come to an end is stopped by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_engine::{Cells, Engine, Fault, FaultKind, Instance, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, PartitionId, Points, SavedState};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// A guest that has had a reading of so many series and has these instructions at the beginning of `save`; and its last reading.
fn guest(series: usize, instructions: &str, limits: Limits) -> (Instance, Points) {
    let engine = Engine::new().unwrap();
    let module = wat_guest::wat_guest("endless", &[("save", instructions)]);
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
        signature_expires: None,
        limits,
        stats: Arc::default(),
    });
    let books = Arc::new(Books::new(series));
    let mut points = Points::default();
    for number in 0..series {
        let id = books.intern_series(&number.to_string(), PartitionId(0), Description::default()).unwrap();
        points.push(id, 0, 0.0, 192);
    }
    let mut instance = rule.instantiate(&books).unwrap();
    for rows in (0..series as u32).collect::<Vec<_>>().chunks(10_000) {
        instance.process(0, &points.gather(rows)).unwrap();
    }
    let last = points.gather(&[points.len() as u32 - 1]);
    (instance, last)
}

/// What such a guest saves.
fn save(series: usize, instructions: &str) -> Result<SavedState, Fault> {
    let limits = Limits { lifecycle_cpu: Duration::from_millis(60), ..Limits::default() };
    guest(series, instructions, limits).0.save(Cells::All)
}

/// How it fares where that never ends.
fn saved(series: usize, instructions: &str) -> Fault {
    save(series, instructions).expect_err("it never ends")
}

/// `saved` at 512: nothing but `more`.
const MORE: &str = "(i32.store8 (i32.const 576) (i32.const 1))";

/// Guarantees: a part that gives nothing and promises more is a breach of the contract, not a reason to ask again.
#[test]
fn nothing_and_more() {
    let fault = saved(1, &format!("{MORE} (return (i32.const 512))"));
    assert_eq!(fault.kind, FaultKind::BadOutput);
    assert!(fault.message.contains("gave nothing"), "{fault}");
}

/// Guarantees: parts share the time of one call: a guest that takes a little for each part of many runs into its limit.
#[test]
fn parts_share_their_time() {
    // One series removed in each part, the one at the zeros in 0, after so many steps that a part takes a small share of the time on any
    // machine, and the 130 parts that are asked for at most take several times as long as there is.
    let removed = "(i32.store (i32.const 560) (i32.const 0)) (i32.store (i32.const 564) (i32.const 1))";
    let busy = "(i32.store (i32.const 568) (i32.const 50000000))
        (loop $on
          (i32.store (i32.const 568) (i32.sub (i32.load (i32.const 568)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 568))))";
    let fault = saved(200, &format!("{MORE} {removed} {busy} (return (i32.const 512))"));
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
}

/// Fresh memory, all zeros, from 131072 on: so many pages of it.
fn zeros(pages: u32) -> String {
    format!("(if (i32.lt_u (memory.size) (i32.const {})) (then (drop (memory.grow (i32.const {pages})))))", 2 + pages)
}

/// A list of `len` entries at the zeros, as the part of `saved` at `at`.
fn list(at: u32, len: u32) -> String {
    format!("(i32.store (i32.const {at}) (i32.const 131072)) (i32.store (i32.const {}) (i32.const {len}))", at + 4)
}

/// Guarantees: the same zeros of a guest's memory, given as millions of cells, or as millions of names that are gone, are refused before the host
/// makes anything of them: a guest has no more of either than it was told names.
#[test]
fn zeros_are_no_cells() {
    let many = 1_000_000;
    let cells = |at: u32| format!("{} {}", list(at, many), list(at + 8, many));
    for part in [cells(512), cells(536), list(560, many), list(568, many)] {
        let fault = saved(3, &format!("{} {part} (return (i32.const 512))", zeros(62)));
        assert_eq!(fault.kind, FaultKind::BadOutput);
        assert!(fault.message.contains("more cells than it knows names"), "{fault}");
    }
}

/// Guarantees: a guest may save as much as it may have memory, what it has for the names that it was told included; and not more.
#[test]
fn names_pay_for_their_state() {
    // One cell of 18 MiB; by default there are 16, and 256 bytes for each name.
    let bytes = 18 << 20;
    let end = format!("(i32.store (i32.const 700) (i32.const {bytes}))");
    let ids = "(i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 1))";
    let ends = "(i32.store (i32.const 520) (i32.const 700)) (i32.store (i32.const 524) (i32.const 1))";
    let cell = format!("{} {end} {ids} {ends} {} (return (i32.const 512))", zeros(288), list(528, bytes));
    let state = save(20_000, &cell).unwrap();
    assert_eq!(state.series.iter().map(|(_, cell)| cell.len()).collect::<Vec<_>>(), [bytes as usize]);
    assert_eq!(saved(10, &cell).kind, FaultKind::Memory, "its memory does not even grow so far");
}

/// Guarantees: a save has time for as many cells as can have changed, and not for all that a rule may know of: one that says of each of its series that it is
/// gone, and takes its time for that, is heard after a row of each, and has failed after a single one.
#[test]
fn time_for_what_can_have_changed() {
    const SERIES: usize = 100_000;
    // At three steps in memory each, this takes 20 ms on no machine, and the second that so many cells may take on none; then series 0, again and again.
    let give = format!(
        "(if (i32.lt_u (memory.size) (i32.const 180)) (then (drop (memory.grow (i32.const 180)))))
        (i32.store (i32.const 700) (i32.const 60000000))
        (loop $on
          (i32.store (i32.const 700) (i32.sub (i32.load (i32.const 700)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 700))))
        (i32.store (i32.const 560) (i32.const 10485760)) (i32.store (i32.const 564) (i32.const {SERIES}))
        (return (i32.const 512))"
    );
    let batch_cpu = Duration::from_millis(10);
    // So that nothing else stops it.
    let lifecycle_cpu = Duration::from_secs(60);
    let limits = Limits { batch_cpu, lifecycle_cpu, ..Limits::default() };
    let (mut instance, one) = guest(SERIES, &give, limits);
    assert_eq!(instance.save(Cells::Changed).unwrap().removed_series.len(), SERIES);
    instance.process(0, &one).unwrap();
    let fault = instance.save(Cells::Changed).map(|saved| saved.removed_series.len()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout);
}
