#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::testing::{Input, RuleTest};

/// Does to a reading what its topic says.
struct Does;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl Transform for Does {
    type Config = Nothing;
    type State = u32;
    const ABOUT: About = crate::about!("Does what the value says").scope(crate::Scope::Series);

    fn new(_: Nothing) -> Result<Self, String> {
        Ok(Self)
    }

    fn declared(&mut self, series: &Series) -> Option<String> {
        (series.topic == "unit").then(|| "bar".to_owned())
    }

    fn transform(&mut self, reading: &Reading<'_>, state: &mut Tracked<u32>) -> Change {
        **state += 1;
        match reading.value as i64 {
            1 => Change::Drop,
            2 => Change::Value(20.0),
            3 => Change::Reject(Reason::from("three")),
            4 => Change::Point { time_us: 44, value: f64::from(**state), quality: Quality::BAD },
            _ => Change::Keep,
        }
    }
}

fn run(values: &[f64]) -> crate::testing::Seen {
    let readings: Vec<Input<'_>> = values.iter().map(|value| Input::at(1, "s", *value)).collect();
    RuleTest::<EachPoint<Does>>::new("{}").process(9, &readings)
}

fn passage_of(values: &[f64]) -> Passage {
    let mut rule = crate::testing::Native::<EachPoint<Does>>::configured("{}").unwrap();
    rule.host.know("s", None);
    let mut batch = Points::default();
    for value in values {
        batch.push(0, 1, *value, 192);
    }
    rule.process(9, batch).passage
}

/// Guarantees: a batch takes the cheapest passage that says what happened.
#[test]
fn the_cheapest_passage_is_taken() {
    assert_eq!(passage_of(&[0.0, 0.0]), Passage::Unchanged);
    assert_eq!(passage_of(&[0.0, 1.0, 0.0]), Passage::Keep(vec![0, 2]));
    assert_eq!(passage_of(&[0.0, 2.0]), Passage::Values(vec![0.0, 20.0]));
    assert!(matches!(passage_of(&[2.0, 1.0, 0.0]), Passage::Replaced(made) if made.from_row == [0, 2]));
    assert!(matches!(passage_of(&[4.0]), Passage::Replaced(_)));
}

/// Guarantees: each change does to its row what it says, and only to its row.
#[test]
fn changes_stay_on_their_rows() {
    let seen = run(&[5.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(seen.values(), [("s", Some(5.0)), ("s", Some(20.0)), ("s", Some(5.0)), ("s", Some(5.0))]);
    assert_eq!((seen.points[2].time_us, seen.points[2].quality), (44, 0));
    assert_eq!(seen.rejects, [(3, "three".to_owned())]);
    assert_eq!(seen.filtered, [1]);
}

/// Guarantees: a text stays with its row through a replaced batch, and goes where the value changed.
#[test]
fn texts_keep_to_their_rows() {
    let text = |value, text| Input { text: Some(text), ..Input::at(1, "s", value) };
    let mut rule = RuleTest::<EachPoint<Does>>::new("{}");
    let seen =
        rule.process(9, &[text(1.0, "dropped"), text(2.0, "changed"), text(5.0, "kept"), Input::at(1, "s", 5.0)]);
    let texts: Vec<Option<&str>> = seen.points.iter().map(|point| point.text.as_deref()).collect();
    assert_eq!(texts, [None, Some("kept"), None]);
}

/// Guarantees: a unit is told once, in the batch where the series comes up, and again after another rule changed it.
#[test]
fn units_are_told_once() {
    let mut rule = RuleTest::<EachPoint<Does>>::new("{}");
    rule.process(1, &[Input::at(1, "s", 0.0)]);
    assert_eq!(rule.host().resolves, (0, 0));
    for _ in 0..3 {
        rule.process(2, &[Input::at(1, "s", 0.0), Input::at(1, "unit", 0.0)]);
    }
    assert_eq!(rule.host().resolves, (1, 1));
    let id = rule.host().id_of("unit").unwrap();
    assert_eq!(rule.host().series(id).unwrap().unit.as_deref(), Some("bar"));
}

/// Guarantees: state goes on through a restart.
#[test]
fn state_survives() {
    let mut rule = RuleTest::<EachPoint<Does>>::new("{}");
    rule.process(1, &[Input::at(1, "s", 0.0), Input::at(1, "s", 0.0)]);
    rule.restart(16);
    let seen = rule.process(2, &[Input::at(1, "s", 4.0)]);
    assert_eq!(seen.values(), [("s", Some(3.0))]);
}
