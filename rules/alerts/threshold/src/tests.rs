use tidegate_rule::testing::{Input, RuleTest, run_cases};
use tidegate_rule::{Quality, Transition};

use crate::Exported;

fn above(config: &str) -> RuleTest<Exported> {
    RuleTest::new(&format!(r#"{{"above": 90{config}}}"#))
}

fn kinds(rule: &mut RuleTest<Exported>, now_s: i64, values: &[(i64, f64)]) -> Vec<Transition> {
    let readings: Vec<Input<'_>> = values.iter().map(|(seconds, value)| Input::at(*seconds, "t", *value)).collect();
    rule.process(now_s * 1_000_000, &readings).alerts.iter().map(|alert| alert.transition).collect()
}

use Transition::{Cleared, Raised};

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: the limit itself is within, and an alert is raised once and cleared once.
#[test]
fn raises_once_and_clears_once() {
    let mut rule = above("");
    assert_eq!(kinds(&mut rule, 9, &[(1, 90.0), (2, 90.1), (3, 99.0), (4, 90.0), (5, 10.0)]), [Raised, Cleared]);
}

/// Guarantees: within the hysteresis a raised alert stands.
#[test]
fn hysteresis_holds() {
    let mut rule = above(r#", "hysteresis": 5"#);
    assert_eq!(kinds(&mut rule, 9, &[(1, 91.0), (2, 86.0), (3, 91.0), (4, 85.0), (5, 86.0)]), [Raised, Cleared]);
}

/// Guarantees: what does not last is not raised; what lasts is, by the readings' own time.
#[test]
fn a_duration_must_be_lasted() {
    let mut rule = above(r#", "for_s": 10"#);
    assert_eq!(kinds(&mut rule, 100, &[(1, 91.0), (5, 89.0), (6, 91.0), (15, 92.0)]), []);
    assert_eq!(kinds(&mut rule, 100, &[(16, 91.0), (17, 1.0)]), [Raised, Cleared]);
}

/// Guarantees: a series that reports only changes is raised by the clock, also over a restart.
#[test]
fn a_duration_is_lasted_in_silence() {
    let mut rule = above(r#", "for_s": 10"#);
    assert_eq!(kinds(&mut rule, 100, &[(1, 91.0)]), []);
    assert!(rule.tick(109_000_000).alerts.is_empty());
    rule.restart(1);
    let seen = rule.tick(110_000_000);
    assert_eq!(seen.transitions(), [("t", Raised)]);
    assert_eq!((seen.alerts[0].time_us, seen.alerts[0].value), (11_000_000, Some(91.0)));
    assert!(rule.tick(120_000_000).alerts.is_empty());
}

/// Guarantees: what was raised is cleared by the instance that comes after, and not raised again.
#[test]
fn a_raised_alert_survives_a_restart() {
    let mut rule = above("");
    assert_eq!(kinds(&mut rule, 9, &[(1, 91.0)]), [Raised]);
    rule.restart(1 << 20);
    assert_eq!(kinds(&mut rule, 9, &[(2, 92.0), (3, 89.0)]), [Cleared]);
}

/// Guarantees: readings with no bearing on the present raise and clear nothing.
#[test]
fn what_is_not_judged() {
    let mut rule = above("");
    let judged =
        |reading: Input<'_>, rule: &mut RuleTest<Exported>| rule.process(99_000_000, &[reading]).alerts.len();
    assert_eq!(judged(Input::at(1, "t", 95.0).quality(Quality::BAD), &mut rule), 0);
    assert_eq!(judged(Input::at(1, "t", 95.0).quality(Quality::GOOD.historical()), &mut rule), 0);
    assert_eq!(judged(Input::at(1, "t", f64::NAN), &mut rule), 0);
    assert_eq!(judged(Input::at(5, "t", 95.0).quality(Quality::UNCERTAIN), &mut rule), 1);
    assert_eq!(judged(Input::at(4, "t", 10.0), &mut rule), 0, "older than the last judged");
    assert_eq!(judged(Input::at(6, "t", 10.0), &mut rule), 1);
    let mut rule = above(r#", "quality": "any""#);
    assert_eq!(judged(Input::at(1, "t", 95.0).quality(Quality::BAD), &mut rule), 1);
    let mut rule = above(r#", "quality": "good""#);
    assert_eq!(judged(Input::at(1, "t", 95.0).quality(Quality::UNCERTAIN), &mut rule), 0);
}

/// Guarantees: one reading from a clock that runs years ahead does not silence the series.
#[test]
fn a_time_in_the_future_does_not_silence() {
    let mut rule = above("");
    assert_eq!(kinds(&mut rule, 10, &[(9_000_000_000, 1.0)]), []);
    assert_eq!(kinds(&mut rule, 12, &[(11, 95.0)]), [Raised]);
}

/// Guarantees: with two limits each has its own alert, and from one to the other both are told.
#[test]
fn two_limits_are_two_alerts() {
    let mut rule = RuleTest::<Exported>::new(r#"{"above": 10, "below": -10}"#);
    let readings = [Input::at(1, "t", 11.0), Input::at(2, "t", -11.0), Input::at(3, "t", 0.0)];
    let alerts = rule.process(9_000_000, &readings).alerts;
    let told: Vec<_> = alerts.iter().map(|alert| (alert.transition, alert.key.as_str())).collect();
    assert_eq!(told, [(Raised, "above"), (Cleared, "above"), (Raised, "below"), (Cleared, "below")]);
}

/// Guarantees: a series that is gone leaves no state to the next that gets its id.
#[test]
fn a_retired_series_is_forgotten() {
    let mut rule = above("");
    assert_eq!(kinds(&mut rule, 9, &[(1, 91.0)]), [Raised]);
    rule.retire("t");
    assert_eq!(kinds(&mut rule, 9, &[(1, 91.0)]), [Raised]);
}

/// Guarantees: configurations that cannot be are refused by the name of the key.
#[test]
fn refusals_name_the_key() {
    let refusal = RuleTest::<Exported>::refusal;
    assert!(refusal("{}").contains("above"));
    assert!(refusal(r#"{"above": 1, "below": 2}"#).contains("below (2)"));
    assert!(refusal(r#"{"above": 1, "hysteresis": -1}"#).contains("hysteresis"));
    assert!(refusal(r#"{"above": 1, "for_s": -1}"#).contains("for_s"));
    assert!(refusal(r#"{"above": 1, "sevrity": "info"}"#).contains("`sevrity`"));
    assert!(refusal(r#"{"above": 1, "severity": "bad"}"#).contains("critical"));
    assert!(refusal(r#"{"above": 1, "message": "{vlaue}"}"#).contains("{vlaue}"));
    assert!(refusal(r#"{"above": 1, "message": "{value"}"#).contains("closed"));
}
