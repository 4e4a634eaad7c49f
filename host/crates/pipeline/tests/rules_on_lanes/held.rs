//! Lanes that a sink holds back: who wants something of them is told so in time, and nothing of it is done behind their back.

use tidegate_model::{Description, PartitionId};
use tidegate_pipeline::{Reset, ResetError};

use super::*;

/// Gives the lanes more than their sinks take in, until one of them does not come to the end of its batch.
fn hold(house: &House) {
    *house.points.down.lock().unwrap() = true;
    let deadline = Instant::now() + Duration::from_secs(180);
    while house.pipeline.reset_state("nobody", Reset::Everything) != Err(ResetError::Busy) {
        assert!(Instant::now() < deadline, "no lane is held back");
        house.hand_over(&[reading("dev/a", 1.0), reading("dev/b", 1.0)]);
    }
}

/// Guarantees: while a sink holds a lane back, rules that are to go, shadows that are to end and state that is to be forgotten are refused while it is
/// away still, more often than a lane's queue has room; nothing of that is done later; and once the sink works it can be.
#[test]
fn refused_meanwhile_and_not_done() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("tally", "tally", 5, "dev/node/#", "{}");
    house.install("number", "brittle", 10, "dev/#", "{}");
    house.send(&[reading("dev/a", 1.0), reading("dev/b", 1.0)]);
    hold(&house);
    // The sink works again only below: what waited for it would never come to that.
    for _ in 0..40 {
        for rule in ["number", "tally"] {
            assert!(matches!(house.deploy.remove(rule, "the rule was removed"), Err(LoadError::Busy(_))));
            assert!(matches!(house.deploy.end_shadow(rule), Err(LoadError::Busy(_))));
            assert_eq!(house.pipeline.reset_state(rule, Reset::Everything), Err(ResetError::Busy));
        }
    }
    *house.points.down.lock().unwrap() = false;
    house.send(&[reading("dev/a", 1.0), reading("dev/b", 1.0)]);
    for (topic, numbers) in numbers(&house) {
        let all: Vec<f64> = (1..=numbers.len()).map(|number| number as f64).collect();
        assert_eq!(numbers, all, "{topic}: its state was forgotten, or its rule not called");
    }

    house.deploy.remove("number", "the rule was removed").unwrap();
    house.deploy.remove("tally", "the rule was removed").unwrap();
    house.send(&[reading("dev/a", -7.0)]);
    assert_eq!(house.stored().last(), Some(&("dev/a".to_owned(), -7.0)));
}

/// Guarantees: what waits for a sink says in what unit it was measured, though the series is described as something else meanwhile.
#[test]
fn described_as_it_was_decoded() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    house.hand_over(&[(String::from("dev/a"), r#"{"v":1.0,"ts":1703289600000,"u":"°F"}"#.into())]);
    house.wait_down();
    let celsius = Description { unit: Some("°C".into()), labels: Vec::new() };
    let series = house.books.intern_series("dev/a", PartitionId(0), celsius).unwrap();
    *house.points.down.lock().unwrap() = false;
    house.wait("the message to be settled", |totals| totals.in_flight == 0);
    let kept = house.points.kept.lock().unwrap();
    let units: Vec<_> = kept
        .iter()
        .filter(|delivery| !delivery.points.is_empty())
        .map(|delivery| delivery.described.other(&house.books, series).unwrap().unit.clone())
        .collect();
    assert_eq!(units, [Some("°F".into())]);
}
