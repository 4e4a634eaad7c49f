//! What the host keeps of what a guest says in one call; in a process of its own, so that what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::RuleLimits;
use tidegate_engine::{Engine, FaultKind, Limits, LoadError, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, Points, SeriesId};

#[allow(dead_code, reason = "no traps are counted here")]
#[path = "../../../../tests/src/left_behind.rs"]
mod left_behind;
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// The most memory this process ever had resident, in MiB.
fn peak_mib() -> u64 {
    left_behind::memory_kib("self", "VmHWM") / 1_024
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

/// Guarantees: where a rule has no room left for labels, its batch goes on, the series is there with its unit, and what was left out is counted.
#[test]
fn labels_without_room_are_left_out() {
    let engine = Engine::new().unwrap();
    // Asks for the series "a" to "d", each with a unit and ten labels of a hundred bytes; traps if it is refused one.
    let process = "(i32.store (i32.const 512) (i32.const 640)) (i32.store (i32.const 516) (i32.const 1))
        (i32.store (i32.const 520) (i32.const 1))
        (i32.store (i32.const 524) (i32.const 1280)) (i32.store (i32.const 528) (i32.const 1))
        (i32.store (i32.const 532) (i32.const 704)) (i32.store (i32.const 536) (i32.const 10))
        (loop $labels
          (i32.store (i32.add (i32.const 704) (i32.mul (local.get $i) (i32.const 16))) (i32.const 1280))
          (i32.store (i32.add (i32.const 708) (i32.mul (local.get $i) (i32.const 16))) (i32.const 50))
          (i32.store (i32.add (i32.const 712) (i32.mul (local.get $i) (i32.const 16))) (i32.const 1280))
          (i32.store (i32.add (i32.const 716) (i32.mul (local.get $i) (i32.const 16))) (i32.const 50))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $labels (i32.lt_u (local.get $i) (i32.const 10))))
        (local.set $i (i32.const 97))
        (loop $series
          (i32.store8 (i32.const 640) (local.get $i))
          (call $resolve (i32.const 512) (i32.const 1) (i32.const 600))
          (if (i32.load8_u (i32.load (i32.const 600))) (then unreachable))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $series (i32.lt_u (local.get $i) (i32.const 101))))";
    let mut rule = Rule::clone(&rule(&engine, &wat_guest::wat_guest("labels", &[("process", process)])));
    rule.limits.label_bytes = 4_096;
    let books = Arc::new(Books::new(5));
    let partition = books.intern_partition("t").unwrap();
    let mut batch = Points::default();
    batch.push(books.intern_series("t", partition, Description::default()).unwrap(), 0, 1.0, 192);
    let outcome = Arc::new(rule.clone()).instantiate(&books).unwrap().process(0, &batch).unwrap();
    drop(outcome);
    let labels = ["a", "b", "c", "d"].map(|topic| {
        let series = books.series(SeriesId(books.all_series().find(topic).unwrap())).unwrap();
        let description = series.description.load();
        assert!(description.unit.is_some());
        description.labels.len()
    });
    assert_eq!(labels, [10, 10, 0, 0]);
    let totals = rule.stats.totals();
    assert_eq!((totals.labels_refused, totals.series_made), (2, 4));
    assert!((2_000..=4_096).contains(&totals.label_bytes), "{}", totals.label_bytes);
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

/// Guarantees: a rule that works long on its configuration is given the time that its file gives it, and no more; and by the wall several times that.
#[test]
fn a_configuration_may_take_what_the_file_says() {
    let engine = Engine::new().unwrap();
    // No machine takes a millisecond for so many rounds, nor ten seconds.
    let work = "(i32.store (i32.const 512) (i32.const 100000000))
        (loop $more
          (i32.store (i32.const 512) (i32.sub (i32.load (i32.const 512)) (i32.const 1)))
          (br_if $more (i32.load (i32.const 512))))";
    let any = rule(&engine, &wat_guest::wat_guest("slow", &[("configure", work)]));
    let with = |lifecycle_cpu_ms| {
        let limits = Limits::from(&RuleLimits { lifecycle_cpu_ms, ..RuleLimits::default() });
        assert!(limits.lifecycle_wall >= 4 * limits.lifecycle_cpu);
        Arc::new(Rule { limits, ..Rule::clone(&any) }).instantiate(&Arc::new(Books::new(10))).map(drop)
    };
    match with(1) {
        Err(LoadError::Fault(fault)) => assert_eq!(fault.kind, FaultKind::Timeout, "{fault}"),
        other => panic!("{other:?}"),
    }
    with(10_000).unwrap();
}
