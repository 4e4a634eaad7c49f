use tidegate_rule::testing::{Input, RuleTest, Seen, run_cases};
use tidegate_rule::{Quality, Transition};

use crate::Exported;

const S: i64 = 1_000_000;

fn rule() -> RuleTest<Exported> {
    RuleTest::new(r#"{"k": 2, "topic": "hall/hot", "above": 80, "hysteresis": 5, "fresh_s": 10}"#)
}

fn read(rule: &mut RuleTest<Exported>, now_s: i64, readings: &[(&str, f64)]) -> Seen {
    let readings: Vec<Input<'_>> = readings.iter().map(|(topic, value)| Input::at(now_s, topic, *value)).collect();
    rule.process(now_s * S, &readings)
}

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: one alert for so many, none for fewer, and none again while it stands; it is cleared by the value, not by the hysteresis.
#[test]
fn one_alert_for_two() {
    let mut rule = rule();
    assert!(read(&mut rule, 1, &[("a", 90.0), ("b", 20.0), ("a", 91.0)]).alerts.is_empty());
    let seen = read(&mut rule, 2, &[("b", 81.0), ("c", 99.0)]);
    assert!(seen.unchanged);
    assert_eq!(seen.transitions(), [("hall/hot", Transition::Raised)]);
    assert_eq!((seen.alerts[0].value, seen.alerts[0].time_us), (Some(2.0), 2 * S));
    assert!(read(&mut rule, 3, &[("a", 10.0), ("b", 78.0)]).alerts.is_empty(), "b and c are left");
    assert_eq!(read(&mut rule, 4, &[("c", 75.0)]).transitions(), [("hall/hot", Transition::Cleared)]);
    assert_eq!(read(&mut rule, 5, &[("c", 81.0)]).transitions(), [("hall/hot", Transition::Raised)]);
}

/// Guarantees: a series whose last reading is old counts no more, whoever reports the same value over and over still does.
#[test]
fn a_silent_series_counts_no_more() {
    let mut rule = rule();
    read(&mut rule, 100, &[("a", 90.0), ("b", 90.0)]);
    read(&mut rule, 109, &[("a", 90.0)]);
    assert!(rule.tick(109 * S).alerts.is_empty());
    assert_eq!(rule.tick(110 * S).transitions(), [("hall/hot", Transition::Cleared)]);
    assert_eq!(read(&mut rule, 111, &[("b", 90.0)]).transitions(), [("hall/hot", Transition::Raised)]);
}

/// Guarantees: what is no word on the present counts nothing: bad and historical readings, texts, late ones.
#[test]
fn not_judged() {
    let mut rule = rule();
    read(&mut rule, 50, &[("a", 90.0), ("b", 10.0)]);
    let late = Input::at(49, "b", 99.0);
    let bad = Input::at(51, "b", 99.0).quality(Quality::BAD);
    let historical = Input::at(51, "b", 99.0).quality(Quality::GOOD.historical());
    let text = Input { text: Some("hot"), ..Input::at(51, "b", f64::NAN) };
    assert!(rule.process(51 * S, &[late, bad, historical, text]).alerts.is_empty());
}

/// Guarantees: an instance that begins with what another left knows who counted, and that the alert stands.
#[test]
fn carried_over() {
    let mut rule = rule();
    read(&mut rule, 1, &[("a", 90.0), ("b", 90.0)]);
    rule.restart(16);
    assert!(read(&mut rule, 2, &[("c", 90.0)]).alerts.is_empty());
    assert!(read(&mut rule, 3, &[("a", 1.0)]).alerts.is_empty());
    assert_eq!(read(&mut rule, 4, &[("b", 1.0)]).transitions(), [("hall/hot", Transition::Cleared)]);
}

/// Guarantees: a configuration that cannot be is refused with the key's name.
#[test]
fn refused() {
    for (config, key) in [
        (r#"{"k": 0, "topic": "t", "above": 1}"#, "k is 0"),
        (r#"{"k": 1, "topic": "t/#", "above": 1}"#, "topic"),
        (r#"{"k": 1, "topic": "t"}"#, "neither above nor below"),
        (r#"{"k": 1, "topic": "t", "above": 1, "below": 0}"#, "both"),
        (r#"{"k": 1, "topic": "t", "above": 1, "fresh_s": 0}"#, "fresh_s"),
        (r#"{"k": 1, "topic": "t", "above": 1, "hysteresis": -1}"#, "hysteresis"),
    ] {
        let refusal = RuleTest::<Exported>::refusal(config);
        assert!(refusal.contains(key), "{config}: {refusal}");
    }
}
