#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::testing::{RuleTest, TestHost};
use crate::topics::PerTopic;

/// `a=1,b=2` to series `<topic>/a` and `<topic>/b`; `unit=K` before a field gives its unit; `hold`
/// holds; what is no number rejects.
struct Pairs {
    known: PerTopic<Vec<(String, SeriesHandle)>>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl Decoder for Pairs {
    type Config = Nothing;
    const ABOUT: About = crate::about!("Pairs");

    fn new(_: Nothing) -> Result<Self, String> {
        Ok(Self { known: PerTopic::default() })
    }

    fn decode(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<(), Reason> {
        let text = std::str::from_utf8(message.payload).map_err(|_| "not UTF-8")?;
        let known = self.known.of(message);
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            if pair == "hold" {
                out.hold();
                continue;
            }
            let (name, value) = pair.split_once('=').ok_or("no pair")?;
            let series = match known.iter().find(|(known, _)| known == name) {
                Some((_, series)) => *series,
                None => {
                    let series = out.series(&format!("{}/{name}", message.topic()), None, &[("field", name)]);
                    known.push((name.to_owned(), series));
                    series
                }
            };
            if name == "unit" {
                let own = out.series_of(message);
                out.unit(own, value);
                out.point(own, message.received_us, 0.0, Quality::GOOD);
                continue;
            }
            let value = value.parse().map_err(|_| "not a number")?;
            out.point(series, message.received_us, value, Quality::GOOD);
        }
        Ok(())
    }
}

fn pairs() -> RuleTest<EachMessage<Pairs>> {
    RuleTest::new("{}")
}

fn asked(host: &TestHost) -> (usize, usize) {
    host.resolves
}

/// Guarantees: all series a call meets first are asked for at once, and never again.
#[test]
fn names_cross_once_a_call() {
    let mut rule = pairs();
    let seen = rule.decode(1, &[("d", b"a=1,b=2"), ("e", b"a=3,b=4"), ("d", b"a=5")]);
    assert_eq!(
        seen.values(),
        [("d/a", Some(1.0)), ("d/b", Some(2.0)), ("e/a", Some(3.0)), ("e/b", Some(4.0)), ("d/a", Some(5.0))]
    );
    assert_eq!(seen.points[1].labels, [("field".to_owned(), "b".to_owned())]);
    assert_eq!(asked(rule.host()), (1, 4));
    let seen = rule.decode(2, &[("e", b"b=9")]);
    assert_eq!(seen.values(), [("e/b", Some(9.0))]);
    assert_eq!(asked(rule.host()), (1, 4));
}

/// Guarantees: of a rejected message nothing is kept, its neighbours are untouched.
#[test]
fn a_rejected_message_leaves_nothing() {
    let mut rule = pairs();
    let seen =
        rule.decode(1, &[("d", b"a=1"), ("d", b"a=2,new=3,hold,b=x"), ("d", b""), ("d", b"hold"), ("d", b"a=4")]);
    assert_eq!(seen.values(), [("d/a", Some(1.0)), ("d/a", Some(4.0))]);
    assert_eq!(seen.rejects, [(1, "not a number".to_owned())]);
    assert_eq!((seen.filtered, seen.held), (vec![2], vec![3]));
    let seen = rule.decode(2, &[("d", b"new=3")]);
    assert_eq!(seen.values(), [("d/new", Some(3.0))]);
}

/// Guarantees: a message of which one series is refused is rejected whole, with the reason; asking
/// again waits, so that a flood of refused names does not cross for every batch.
#[test]
fn a_refused_series_rejects_its_message() {
    let mut rule = pairs();
    rule.host().max_series = Some(2);
    let seen = rule.decode(1, &[("d", b"a=1"), ("d", b"a=2,b=2,c=2"), ("bad/+", b"a=1"), ("d", b"b=4"), ("e", b"x")]);
    assert_eq!(seen.values(), [("d/a", Some(1.0)), ("d/b", Some(4.0))]);
    let rows: Vec<usize> = seen.rejects.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [1, 2, 4]);
    assert_eq!(seen.rejects[0].1, Refusal::Limit.sentence());
    assert_eq!(seen.rejects[1].1, Refusal::BadTopic.sentence());
    let before = asked(rule.host());
    rule.decode(2, &[("d", b"c=1")]);
    assert_eq!(asked(rule.host()), before, "not asked again at once");
    rule.host().max_series = None;
    let seen = rule.decode(60_000_000, &[("d", b"c=1"), ("bad/+", b"a=1")]);
    assert_eq!(seen.values(), [("d/c", Some(1.0))]);
    assert_eq!(asked(rule.host()), (before.0 + 1, before.1 + 1), "a bad topic is never asked again");
}

/// Guarantees: a unit is told when it changes and only then, in the call where it does.
#[test]
fn units_are_told_when_they_change() {
    let mut rule = pairs();
    let unit = |seen: &crate::testing::Seen| seen.points[0].unit.clone();
    assert_eq!(unit(&rule.decode(1, &[("d", b"unit=K")])).as_deref(), Some("K"));
    assert_eq!(unit(&rule.decode(2, &[("d", b"unit=K")])).as_deref(), Some("K"));
    assert_eq!(asked(rule.host()), (1, 1));
    assert_eq!(unit(&rule.decode(3, &[("d", b"unit=F"), ("d", b"unit=C")])).as_deref(), Some("C"));
    assert_eq!(asked(rule.host()), (2, 2));
}

/// Guarantees: a topic that was retired and whose id means another topic gets the other's series.
#[test]
fn ids_given_anew_start_afresh() {
    let mut rule = crate::testing::Native::<EachMessage<Pairs>>::configured("{}").unwrap();
    let mut name = |topic: &str, at: i64| {
        rule.retire(&[0], &[0]);
        rule.declare_topics(vec![Topic { id: 0, name: topic.to_owned(), partition: 0 }]);
        let mut batch = Messages::default();
        batch.push(0, at, 0, b"a=1");
        let decoded = rule.decode(at, batch);
        let id = decoded.made.points.series[0];
        rule.host.series(id).unwrap().topic.clone()
    };
    assert_eq!(name("first", 1), "first/a");
    assert_eq!(name("second", 2), "second/a");
    assert_eq!(name("first", 3), "first/a");
}

/// Guarantees: names that stand idle do not pile up without bound, and what lives goes on.
#[test]
fn idle_names_are_forgotten() {
    let mut rule = pairs();
    rule.host().max_series = Some(1);
    rule.decode(1, &[("d", b"a=1")]);
    for batch in 0..20 {
        let payload: String = (0..1_000).map(|field| format!("f{}=1,", batch * 1_000 + field)).collect();
        let seen = rule.decode(2 + batch, &[("d", payload.as_bytes()), ("d", b"a=2")]);
        assert_eq!(seen.values(), [("d/a", Some(2.0))]);
        assert_eq!(seen.rejects.len(), 1);
    }
}

/// Guarantees: properties come out by row.
#[test]
fn properties_belong_to_their_row() {
    let mut topics = Topics::default();
    topics.declare(vec![Topic { id: 0, name: "a/b".to_owned(), partition: 0 }]);
    let mut batch = Messages::default();
    for _ in 0..3 {
        batch.push(0, 5, 2, b"x");
    }
    batch.properties = crate::columns::Properties {
        row: vec![0, 2, 2],
        key: vec![0, 1, 0],
        value_ends: vec![1, 3, 3],
        value_bytes: b"abc".to_vec(),
        keys: vec!["k".to_owned(), "l".to_owned()],
    };
    let rows: Vec<Vec<(&str, &[u8])>> =
        batch.messages(&topics).map(|message| message.properties().collect()).collect();
    assert_eq!(rows, [vec![("k", &b"a"[..])], vec![], vec![("l", &b"bc"[..]), ("k", &b""[..])]]);
    let message = batch.messages(&topics).next().unwrap();
    assert_eq!((message.topic(), message.levels().count()), ("a/b", 2));
    assert!(message.marks().redelivered() && !message.marks().retained());
}
