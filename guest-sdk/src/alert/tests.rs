#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::testing::{Input, RuleTest};

/// Counts readings; tells of every third, and at ticks of each count with a key.
struct Third;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl Alert for Third {
    type Config = Nothing;
    type State = u32;
    const ABOUT: About = crate::about!("Third").scope(crate::Scope::Series);

    fn new(_: Nothing) -> Result<Self, String> {
        Ok(Self)
    }

    fn check(&mut self, reading: &Reading<'_>, state: &mut Tracked<u32>, out: &mut Alarms) {
        **state += 1;
        if state.is_multiple_of(3) {
            out.event(reading, Severity::Info, format_args!("{} readings", **state));
        }
        out.wake_at(reading.time_us + 10);
    }

    fn tick(&mut self, states: &mut BySeries<u32>, out: &mut Alarms) {
        for (series, count) in states.iter_mut() {
            let alarm = Alarm {
                series,
                time_us: out.now_us(),
                transition: Transition::Raised,
                severity: Severity::Critical,
                value: f64::from(**count),
                key: if **count > 3 { "many" } else { "few" },
            };
            out.push(alarm, format_args!(""));
        }
    }
}

/// Guarantees: the batch passes unchanged, alerts carry the reading's series, time and value, and state survives.
#[test]
fn alerts_are_of_their_reading() {
    let mut rule = RuleTest::<EachReading<Third>>::new("{}");
    let seen = rule.process(1, &[Input::at(1, "a", 1.0), Input::at(2, "b", 2.0), Input::at(3, "a", 3.0)]);
    assert!(seen.unchanged && seen.alerts.is_empty());
    rule.restart(1);
    let seen = rule.process(2, &[Input::at(4, "b", 4.0), Input::at(5, "a", 5.0)]);
    assert_eq!(seen.transitions(), [("a", Transition::Event)]);
    assert_eq!((seen.alerts[0].time_us, seen.alerts[0].value), (5_000_000, Some(5.0)));
    assert_eq!(seen.alerts[0].message, "3 readings");
}

/// Guarantees: the earliest wake-up asked for stands until a tick has passed it; keys are listed once each.
#[test]
fn the_earliest_wake_up_stands() {
    let mut rule = RuleTest::<EachReading<Third>>::new("{}");
    let seen = rule.process(1, &[Input::at(5, "a", 0.0), Input::at(2, "b", 0.0)]);
    assert_eq!(seen.wake_us, Some(2_000_010));
    assert_eq!(rule.tick(2_000_000).wake_us, Some(2_000_010));
    let seen = rule.tick(2_000_010);
    assert_eq!(seen.wake_us, None);
    assert_eq!(seen.alerts.iter().map(|alert| alert.key.as_str()).collect::<Vec<_>>(), ["few", "few"]);
}

/// Keeps nothing, and tells of every text.
struct Texts;

impl Alert for Texts {
    type Config = Nothing;
    type State = ();
    const ABOUT: About = crate::about!("Texts");

    fn new(_: Nothing) -> Result<Self, String> {
        Ok(Self)
    }

    fn check(&mut self, reading: &Reading<'_>, _state: &mut Tracked<()>, out: &mut Alarms) {
        if let Some(text) = reading.text {
            out.event(reading, Severity::Info, format_args!("{text}"));
        }
    }
}

/// Guarantees: a rule without state has no table, with texts as without.
#[test]
fn without_state_nothing_grows() {
    let mut rule = EachReading::<Texts>::new(Nothing {}).unwrap();
    let mut host = crate::testing::TestHost::default();
    let mut call = Call { now_us: 1, host: &mut host };
    let mut batch = Points::default();
    batch.push_with_text(99_999, 1, 1.0, 192, None);
    batch.push_with_text(99_999, 1, 1.0, 192, Some("on"));
    assert_eq!(rule.process(&mut call, batch).alerts.message_bytes, b"on");
    let mut batch = Points::default();
    batch.push(99_999, 1, 1.0, 192);
    assert!(rule.process(&mut call, batch).alerts.series.is_empty());
    assert!(rule.states.get(99_999).is_none() && rule.states.lent().get(99_999).is_none());
}
