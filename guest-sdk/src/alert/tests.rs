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

/// Lets numbers below its limit pass once a series has been checked, counting them unmarked; notes what it checks.
struct Below {
    limit: f64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Limit {
    limit: f64,
}

impl Alert for Below {
    type Config = Limit;
    type State = u32;
    const ABOUT: About = crate::about!("Below").scope(crate::Scope::Series);

    fn new(config: Limit) -> Result<Self, String> {
        Ok(Self { limit: config.limit })
    }

    fn passes(&self, reading: &Reading<'_>, state: &mut Tracked<u32>, _: i64) -> bool {
        let passes = reading.value < self.limit;
        *state.unmarked() += u32::from(passes);
        passes
    }

    fn check(&mut self, reading: &Reading<'_>, state: &mut Tracked<u32>, out: &mut Alarms) {
        **state += 1;
        if reading.value >= self.limit {
            out.event(reading, Severity::Info, format_args!("{}", reading.row));
        }
    }
}

/// Guarantees: each reading of a batch either passes or is checked, once and in order, wherever the ones are that do not pass, and whether their series were
/// met before or not; none that is to be told of passes.
#[test]
fn each_passes_or_is_checked() {
    // A few of all patterns, of a generator with constants of Numerical Recipes.
    let mut seed = 1_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % below
    };
    for rows in [0, 1, 3, 4, 15, 16, 17, 18, 33, 100] {
        for one_in in [1, 2, 7, 50] {
            let mut rule = EachReading::<Below>::new(Limit { limit: 1.0 }).unwrap();
            let mut counts = [0_u32; 5];
            for now_us in 0..3 {
                let (mut batch, mut due) = (Points::default(), Vec::new());
                for row in 0..rows {
                    let (series, told) = (random(5), random(one_in) == 0);
                    counts[series as usize] += 1;
                    batch.push(series, now_us, f64::from(u32::from(told)), 192);
                    due.extend(told.then(|| row.to_string()));
                }
                let mut call = Call { now_us, host: &mut crate::testing::TestHost::default() };
                let told = rule.process(&mut call, batch).alerts;
                assert_eq!(told.message_bytes, due.concat().into_bytes(), "{rows} rows, one in {one_in}");
                assert_eq!(told.series.len(), due.len());
            }
            let mut seen: Vec<u32> = rule.states.iter_mut().map(|(_, count)| **count).collect();
            let mut due: Vec<u32> = counts.into_iter().filter(|&count| count > 0).collect();
            seen.sort_unstable();
            due.sort_unstable();
            assert_eq!(seen, due, "{rows} rows, one in {one_in}");
        }
    }
}
