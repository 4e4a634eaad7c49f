//! A pipeline with the real rule library on it, fed by hand and watched at its end.
//!
//! Needs the modules in `target/rules` (`make rules`); says so when they are absent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_engine::{
    Cells, Deploy, Engine, Limits, LoadError, Module, OnQuarantine, OnRefusedState, Rule, ShadowReport, ShadowStart,
    thread_cpu,
};
use tidegate_model::{
    Ack, Books, Clock, Delivery, Inlet, Marks, MessageTotals, Outcome, ParcelLimits, Sink, SinkError, StateStore,
    SystemClock, Transition, Wants, Written,
};
use tidegate_pipeline::{Drained, LaneDeploy, Pipeline, PipelineSettings, Reset, ResetError, SinkSetup};
use tokio::runtime::Runtime;

#[path = "../../../../../tests/src/wat_guest.rs"]
mod wat_guest;

mod alerts;
mod bounds;
mod faults;
mod held;
mod house;
mod node;
mod promotes;
mod resets;
mod state;
mod store;
mod swaps;

use house::{ENGINE, House, module, numbers, reading, wait_until};

/// Guarantees: messages of a thousand topics over two lanes are decoded, each value once, and the ledgers balance.
#[test]
fn a_thousand_topics_over_two_lanes() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let messages: Vec<_> = (0..5_000).map(|i| reading(&format!("dev/t{}", i % 1_000), f64::from(i))).collect();
    house.send(&messages);
    let mut values: Vec<f64> = house.stored().iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, (0..5_000).map(f64::from).collect::<Vec<_>>());
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.received, totals.decoded, totals.in_flight), (5_000, 5_000, 0));
    let points = house.pipeline.status().points;
    assert_eq!((points.produced, points.stored, points.in_flight), (5_000, 5_000, 0));
}

/// Guarantees: garbage and messages nobody decodes are dead letters, whole and with a reason; their neighbours are stored.
#[test]
fn bad_messages_beside_good_ones() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let bad = (String::from("dev/a"), b"\xff\x00 not json".to_vec());
    let lost = (String::from("elsewhere/x"), b"{}".to_vec());
    house.send(&[reading("dev/a", 1.0), bad.clone(), reading("dev/b", 2.0), lost.clone()]);
    assert_eq!(house.stored(), [("dev/a".into(), 1.0), ("dev/b".into(), 2.0)]);
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.received, totals.decoded, totals.dead_lettered), (4, 2, 2));
    let kept = house.letters.kept.lock().unwrap();
    let mut letters: Vec<_> = kept.iter().flat_map(|d| &d.dead_letters).collect();
    letters.sort_by_key(|letter| letter.topic.clone());
    assert_eq!(letters.iter().map(|l| &l.payload).collect::<Vec<_>>(), [&bad.1, &lost.1]);
    assert_eq!(letters[0].rule.as_deref(), Some("read"));
    assert!(!letters[0].reason.is_empty() && letters[1].reason.contains("elsewhere/x"), "{letters:?}");
}

/// Guarantees: bad messages that are the same to the byte, of one topic and one moment, are a letter each.
#[test]
fn twins_have_a_letter_each() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let bad = (String::from("dev/a"), Vec::new());
    house.send(&[bad.clone(), bad.clone(), bad]);
    assert_eq!(house.inlet.ledger().totals().dead_lettered, 3);
    let kept = house.letters.kept.lock().unwrap();
    assert_eq!(kept.iter().map(|delivery| delivery.dead_letters.len()).sum::<usize>(), 3);
}

/// Guarantees: a narrow rule changes only its own rows, in place, and the chain runs in order.
#[test]
fn narrow_rules_and_order() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("double", "scale", 10, "dev/+/hot", r#"{"factor":2.0}"#);
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a/hot", 50.0), reading("dev/a/cold", 80.0), reading("dev/b/hot", 10.0)]);
    assert_eq!(
        house.stored(),
        [("dev/a/hot".into(), 100.0), ("dev/a/cold".into(), 80.0), ("dev/b/hot".into(), 20.0)]
    );
    assert_eq!(house.alerts(), [("dev/a/hot".into(), Transition::Raised)]);
}

/// Guarantees: a swap carries the state over: what stands is neither raised again nor forgotten.
#[test]
fn a_swap_keeps_state() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a", 95.0)]);
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0,"severity":"critical"}"#);
    house.send(&[reading("dev/a", 96.0)]);
    house.send(&[reading("dev/a", 20.0)]);
    assert_eq!(house.alerts(), [("dev/a".into(), Transition::Raised), ("dev/a".into(), Transition::Cleared)]);
}

/// Guarantees: a rule that is removed clears what it raised.
#[test]
fn a_removed_rule_clears() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a", 95.0)]);
    house.deploy.remove("watch", "the rule was removed").unwrap();
    wait_until("an alert that it is cleared", || house.alerts().len() == 2);
    assert_eq!(house.alerts()[1].1, Transition::Cleared);
    assert_eq!(house.pipeline.status().alerts_standing, 0);
}

/// Guarantees: a sink that is down holds messages in flight; when it works again all are stored, none twice; and a shutdown drains.
#[test]
fn a_sink_down_loses_nothing() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    let messages: Vec<_> = (0..100).map(|i| reading("dev/a", f64::from(i))).collect();
    house.hand_over(&messages);
    house.wait_down();
    assert_eq!(house.inlet.ledger().totals().in_flight, 100);
    *house.points.down.lock().unwrap() = false;
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(180)));
    assert_eq!(drained, Drained::Completely);
    assert_eq!(house.stored().len(), 100);
    assert_eq!(house.inlet.ledger().totals().decoded, 100);
}

/// Guarantees: a shutdown whose sink never works ends in time, with the messages returned, not lost.
#[test]
fn a_shutdown_in_vain_returns_messages() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    let mut parcels = house.inlet.parcels(|_: Vec<()>| Ack::new(|o| assert_eq!(o, Outcome::Returned)));
    let place = house.inlet.topic("dev/a", "dev/a").unwrap();
    parcels.push(place, 0, Marks::default(), br#"{"v":1}"#, ());
    house.runtime.block_on(parcels.send()).unwrap();
    let began = Instant::now();
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(1)));
    assert_eq!(drained, Drained::InPart);
    assert!(began.elapsed() < Duration::from_secs(180));
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.returned, totals.in_flight), (1, 0));
}

/// Guarantees: lanes whose sinks' runtime is gone before them do as they are told still.
#[test]
fn lanes_outlive_the_runtime_of_the_sinks() {
    let house = House::new(2);
    let House { runtime, pipeline, .. } = house;
    drop(runtime);
    // Each time they have waited before for what comes or is due.
    for _ in 0..100 {
        let nobody = pipeline.reset_state("nobody", Reset::Everything);
        assert_eq!(nobody, Err(ResetError::NotServing("nobody".into())));
    }
}
