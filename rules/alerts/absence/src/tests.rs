use tidegate_rule::testing::{Input, RuleTest, Seen, run_cases};
use tidegate_rule::{Quality, Transition};

use crate::Exported;

const S: i64 = 1_000_000;

fn watch() -> RuleTest<Exported> {
    RuleTest::new(r#"{"after_s": 10}"#)
}

fn read(rule: &mut RuleTest<Exported>, now_s: i64, topics: &[&str]) -> Seen {
    let readings: Vec<Input<'_>> = topics.iter().map(|topic| Input::at(1, topic, 1.0)).collect();
    rule.process(now_s * S, &readings)
}

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: silence is told once, and its end once, both by the host's clock.
#[test]
fn silence_is_told_once() {
    let mut rule = watch();
    read(&mut rule, 100, &["a", "b"]);
    read(&mut rule, 105, &["b"]);
    assert!(rule.tick(109 * S).alerts.is_empty());
    let seen = rule.tick(110 * S);
    assert_eq!(seen.transitions(), [("a", Transition::Raised)]);
    assert_eq!((seen.alerts[0].time_us, seen.alerts[0].value), (110 * S, Some(10.0)));
    assert!(rule.tick(111 * S).alerts.is_empty());
    let seen = read(&mut rule, 112, &["b", "a", "a"]);
    assert!(seen.unchanged);
    assert_eq!(seen.transitions(), [("a", Transition::Cleared)]);
    assert_eq!(seen.alerts[0].message, "back after 12 s without a reading");
}

/// Guarantees: where the clock is set back by an hour, who falls silent is told of after as long as ever, and who is read is not.
#[test]
fn a_clock_that_is_set_back() {
    let mut rule = watch();
    read(&mut rule, 3_700, &["a", "b"]);
    assert!(rule.tick(100 * S).alerts.is_empty());
    read(&mut rule, 109, &["b"]);
    assert_eq!(rule.tick(110 * S).transitions(), [("a", Transition::Raised)]);
    assert!(rule.tick(118 * S).alerts.is_empty());
}

/// Guarantees: a historical reading, and where configured one that is not good, breaks no silence.
#[test]
fn some_readings_break_no_silence() {
    let mut rule = RuleTest::<Exported>::new(r#"{"after_s": 10, "quality": "good"}"#);
    read(&mut rule, 100, &["a"]);
    let stale =
        [Input::at(1, "a", 1.0).quality(Quality::BAD), Input::at(1, "a", 1.0).quality(Quality::GOOD.historical())];
    rule.process(109 * S, &stale);
    assert_eq!(rule.tick(110 * S).transitions(), [("a", Transition::Raised)]);
    let mut rule = watch();
    read(&mut rule, 100, &["a"]);
    rule.process(109 * S, &stale[..1]);
    assert!(rule.tick(110 * S).alerts.is_empty());
}

/// Guarantees: over a swap, where time does not stand still, silence goes on being counted and what was told is not told again.
#[test]
fn silence_goes_on_over_a_swap() {
    let mut rule = watch();
    read(&mut rule, 100, &["a", "b", "c"]);
    read(&mut rule, 108, &["b", "c"]);
    rule.restart(1);
    assert_eq!(read(&mut rule, 109, &["c"]).transitions(), []);
    assert_eq!(rule.tick(112 * S).transitions(), [("a", Transition::Raised)]);
    rule.restart(1);
    assert!(rule.tick(113 * S).alerts.is_empty());
    assert_eq!(read(&mut rule, 114, &["a"]).transitions(), [("a", Transition::Cleared)]);
}

/// Guarantees: after an hour in which the host was away nobody is called silent at once, and who stays silent is in time.
#[test]
fn the_hosts_absence_is_nobodys() {
    let mut rule = watch();
    read(&mut rule, 100, &["a", "b"]);
    rule.restart(1 << 20);
    assert!(rule.tick(3_700 * S).alerts.is_empty());
    read(&mut rule, 3_701, &["b"]);
    assert!(rule.tick(3_709 * S).alerts.is_empty());
    assert_eq!(rule.tick(3_710 * S).transitions(), [("a", Transition::Raised)]);
}

/// Guarantees: where all have fallen silent, swaps in the middle of it postpone no alert, however many there are; the host's own absence in such
/// a silence counts against nobody still.
#[test]
fn swaps_postpone_nothing() {
    // As far from 1970 as clocks are: what never was noted is noted then.
    let began_s = 1_000_000;
    for after_s in [10, 60, 3_600] {
        let mut rule = RuleTest::<Exported>::new(&format!(r#"{{"after_s": {after_s}}}"#));
        read(&mut rule, began_s, &["a", "b"]);
        for second in 1..after_s {
            if second % 7 == 0 {
                rule.restart(1);
            }
            assert!(rule.tick((began_s + second) * S).alerts.is_empty(), "{second} of {after_s}");
        }
        let raised = rule.tick((began_s + after_s) * S);
        assert_eq!(raised.transitions(), [("a", Transition::Raised), ("b", Transition::Raised)], "{after_s}");
    }
    let mut rule = RuleTest::<Exported>::new(r#"{"after_s": 60}"#);
    read(&mut rule, began_s, &["a"]);
    (1..=50).for_each(|second| assert!(rule.tick((began_s + second) * S).alerts.is_empty()));
    rule.restart(1);
    // Away for a thousand seconds, and what was noted last is some seconds old.
    let due = (51..1_000).find(|second| !rule.tick((began_s + 1_000 + second) * S).alerts.is_empty());
    assert!(due.is_some_and(|due| (60..=68).contains(&due)), "{due:?}");
}

/// Guarantees: a retired series is no longer watched.
#[test]
fn a_retired_series_is_not_watched() {
    let mut rule = watch();
    read(&mut rule, 100, &["a"]);
    rule.retire("a");
    assert!(rule.tick(200 * S).alerts.is_empty());
}

/// Guarantees: configurations that cannot be are refused by the name of the key.
#[test]
fn refusals_name_the_key() {
    let refusal = RuleTest::<Exported>::refusal;
    assert!(refusal("{}").contains("after_s"));
    assert!(refusal(r#"{"after_s": 0}"#).contains("after_s is 0"));
    assert!(refusal(r#"{"after_s": 5, "afterr": 1}"#).contains("`afterr`"));
}
