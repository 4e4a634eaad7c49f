//! Traps by the thousand on the lanes of one process, which is this test's own: what it takes up can be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_engine::{
    Deploy, Engine, Limits, Module, OnQuarantine, OnRefusedState, Rule, ShadowReport, ShadowStart,
};
use tidegate_model::{
    Ack, Books, Clock, Delivery, Inlet, Marks, MessageTotals, Outcome, ParcelLimits, Sink, SinkError, StateStore,
    SystemClock, Transition, Wants, Written,
};
use tidegate_pipeline::{LaneDeploy, Pipeline, PipelineSettings, SinkSetup};
use tokio::runtime::Runtime;

#[allow(dead_code, reason = "it is that of many tests")]
#[path = "rules_on_lanes/house.rs"]
mod house;
#[path = "../../../../tests/src/left_behind.rs"]
mod left_behind;

use house::{House, numbers, reading};
use left_behind::{memory_kib, traps};

/// Topics, and batches a generation gets: no topic has so many poisons of one generation that it is set apart, and no rule so many that it is.
const TOPICS: usize = 16;
const BATCHES: usize = 4;
const READINGS_A_TOPIC: usize = 6;

/// Guarantees: traps by the thousand, each with the state made exact again, the batch halved and the poison in the dead letters, generation after generation,
/// leave nothing behind: resident memory stays as it is, no reading is lost or counted twice, and each poison is one letter.
#[test]
fn traps_leave_nothing_behind() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let trapped = || rule.stats.totals().faults["trap"];
    let mut sound = 0;
    // The numbers that each topic's readings have been given so far.
    let mut given = BTreeMap::<String, usize>::new();
    let mut generation = |house: &mut House| {
        let next = house.next(&rule, |_| {});
        house.deploy.install(&next).unwrap();
        for _ in 0..BATCHES {
            // In each batch the second reading of every topic is poison.
            let messages: Vec<_> = (0..TOPICS * READINGS_A_TOPIC)
                .map(|i| reading(&format!("dev/t{}", i % TOPICS), if i / TOPICS == 1 { 666.0 } else { 1.0 }))
                .collect();
            house.send(&messages);
            sound += TOPICS * (READINGS_A_TOPIC - 1);
        }
        for (topic, numbers) in numbers(house) {
            let before = given.entry(topic.clone()).or_default();
            let due: Vec<f64> = (*before + 1..=*before + numbers.len()).map(|number| number as f64).collect();
            assert_eq!(numbers, due, "{topic}");
            *before += numbers.len();
        }
        house.points.kept.lock().unwrap().clear();
        let letters = std::mem::take(&mut *house.letters.kept.lock().unwrap());
        let poison = letters.iter().map(|delivery| delivery.dead_letters.len()).sum::<usize>();
        assert_eq!(poison, TOPICS * BATCHES, "{:?}", rule.stats.totals());
        assert_eq!(given.values().sum::<usize>(), sound);
    };
    let many = traps(2_000) as u64;
    let mut until = |house: &mut House, traps: u64| {
        while trapped() < traps {
            generation(house);
        }
    };
    until(&mut house, (many / 10).max(500));
    let before = memory_kib("self", "VmRSS");
    until(&mut house, many);
    let (after, totals) = (memory_kib("self", "VmRSS"), rule.stats.totals());
    println!("{} traps: {before} KiB before, {after} KiB after", totals.faults["trap"]);
    // Less than 100 were seen to be left of 30,000. What threads and allocators may touch anew is allowed, which is 0.7 KiB a trap where there are fewest.
    assert!(after < before + 1024, "{many} traps: from {before} KiB to {after} KiB");
    assert!(totals.replayed > 0 && totals.state_lost == 0 && totals.quarantined_partitions.is_empty(), "{totals:?}");
}
