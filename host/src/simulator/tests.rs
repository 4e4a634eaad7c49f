#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! What the simulator promises, seen from outside.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Faults, Plan, Simulator};

/// 2023-12-23, the time of the payloads in the docs.
const BEGIN_US: i64 = 1_703_289_600_000_000;
const STEP_US: i64 = 1_000;

fn plan() -> Plan {
    Plan { users: 3, devices_per_user: 2, plant: (1, 2, 8), garbage_share: 0.0, faults: Faults::Planted, seed: 7 }
}

/// Each message of `seconds` seconds at 1,000 a second: seconds from the begin, topic, payload.
fn run(plan: &Plan, seconds: i64) -> Vec<(f64, String, Vec<u8>)> {
    let mut simulator = Simulator::new(plan.clone());
    (0..seconds * 1_000_000 / STEP_US)
        .map(|i| {
            let (topic, payload) = simulator.next(BEGIN_US + i * STEP_US);
            ((i * STEP_US) as f64 / 1e6, topic.to_owned(), payload.to_vec())
        })
        .collect()
}

/// The field `path` of each message on `topic`, with its time.
fn series(messages: &[(f64, String, Vec<u8>)], topic: &str, path: &str) -> Vec<(f64, Value)> {
    let of_topic = messages.iter().filter(|(_, t, _)| t == topic);
    of_topic
        .map(|(s, _, p)| (*s, serde_json::from_slice::<Value>(p).unwrap().pointer(path).unwrap().clone()))
        .collect()
}

fn numbers(messages: &[(f64, String, Vec<u8>)], topic: &str, path: &str) -> Vec<(f64, f64)> {
    series(messages, topic, path).into_iter().map(|(s, v)| (s, v.as_f64().unwrap())).collect()
}

/// Guarantees: the same plan gives the same bytes, another seed gives others.
#[test]
fn the_seed_decides() {
    let plan = Plan { garbage_share: 0.05, ..plan() };
    let first = run(&plan, 5);
    assert_eq!(first, run(&plan, 5));
    assert_ne!(first, run(&Plan { seed: 8, ..plan }, 5));
}

/// Guarantees: every message is a JSON object with its time; a reading has a value of its tag's type; each device sends.
#[test]
fn all_is_json() {
    let messages = run(&Plan { faults: Faults::None, ..plan() }, 3);
    let mut topics = HashSet::new();
    for (at_s, topic, payload) in &messages {
        let value: Value = serde_json::from_slice(payload).unwrap_or_else(|e| panic!("{e}: {payload:?}"));
        let ts = value["ts"].as_i64().unwrap();
        assert_eq!(ts, BEGIN_US / 1000 + (at_s * 1000.0).round() as i64);
        if topic.starts_with("dev/") {
            assert_eq!(value["q"], "good");
            let fits = match topic.rsplit('/').next().unwrap() {
                "running" => value["v"].is_boolean(),
                "mode" => value["v"].is_string(),
                "count" => value["v"].is_u64(),
                _ => value["v"].is_f64(),
            };
            assert!(fits, "{topic}: {value}");
        }
        topics.insert(topic.as_str());
    }
    assert_eq!(topics.len(), 3 * 2 + 2 * 8);
    assert!(topics.contains("users/u3/devices/d2/telemetry") && topics.contains("dev/line1/plc2/temp"));
}

/// Guarantees: sound devices stay below every limit that faulty ones cross, for longer than any swing takes.
#[test]
fn sound_devices_raise_nothing() {
    let messages = run(&Plan { faults: Faults::None, ..plan() }, 150);
    for (_, v) in numbers(&messages, "dev/line1/plc1/temp", "/v") {
        assert!((40.0..75.0).contains(&v), "{v}");
    }
    for (_, v) in numbers(&messages, "users/u1/devices/d1/telemetry", "/motor/temp") {
        assert!((25.0..75.0).contains(&v), "{v}");
    }
    for (_, v) in numbers(&messages, "users/u2/devices/d1/telemetry", "/battery") {
        assert!(v > 30.0, "{v}");
    }
}

/// Guarantees: an overheating device climbs above 90 °C and recovers, within 20 seconds; so does a flat battery.
#[test]
fn overheat_and_recovery() {
    let messages = run(&plan(), 20);
    for (topic, path) in [("dev/line1/plc1/temp", "/v"), ("users/u1/devices/d1/telemetry", "/motor/temp")] {
        let values = numbers(&messages, topic, path);
        let hottest = values.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert!(hottest.1 > 90.0 && (6.0..=10.1).contains(&hottest.0), "{topic}: {hottest:?}");
        assert!(values.iter().all(|(s, v)| *s > 4.0 || *v < 75.0), "{topic}");
        assert!(values.iter().all(|(s, v)| *s < 17.0 || *v < 80.0), "{topic}");
    }
    let battery = numbers(&messages, "users/u2/devices/d1/telemetry", "/battery");
    assert!(battery.iter().any(|(_, v)| *v < 15.0) && battery.last().unwrap().1 > 30.0, "{battery:?}");
}

/// Guarantees: the stuck, the silent and the untrusted sensor are as the schedule says, and right again after it.
#[test]
fn stuck_silent_and_untrusted() {
    let messages = run(&plan(), 20);
    let vibration = numbers(&messages, "dev/line1/plc1/vibration", "/v");
    let distinct = |from: f64, to: f64| {
        let bits = vibration.iter().filter(|(s, _)| (from..to).contains(s)).map(|(_, v)| v.to_bits());
        bits.collect::<HashSet<_>>().len()
    };
    assert_eq!(distinct(5.1, 16.9), 1);
    assert!(distinct(0.0, 5.0) > 20 && distinct(17.1, 20.0) > 20);

    for topic in ["dev/line1/plc1/pressure", "users/u1/devices/d2/telemetry"] {
        let times: Vec<f64> = messages.iter().filter(|(_, t, _)| t == topic).map(|(s, _, _)| *s).collect();
        let gap = times.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
        assert!((8.9..9.2).contains(&gap), "{topic}: {gap}");
    }

    let quality = series(&messages, "dev/line1/plc1/current", "/q");
    let bad: Vec<f64> = quality.iter().filter(|(_, q)| q == "bad").map(|(s, _)| *s).collect();
    assert!(bad.len() > 100 && bad.iter().all(|s| (6.0..11.0).contains(s)), "{bad:?}");
}

/// Guarantees: the share of garbage is kept, is counted, and is never JSON.
#[test]
fn garbage() {
    let plan = Plan { garbage_share: 0.1, ..plan() };
    let mut simulator = Simulator::new(plan);
    let mut bad = 0;
    for i in 0..20_000 {
        let (_, payload) = simulator.next(BEGIN_US + i * STEP_US);
        assert!(!payload.is_empty());
        bad += u64::from(serde_json::from_slice::<Value>(payload).is_err());
    }
    assert_eq!(bad, simulator.garbage());
    assert!((1_700..2_300).contains(&bad), "{bad}");
}

/// Guarantees: counters never go back, and heat has inertia: no jump from one reading to the next.
#[test]
fn believable() {
    let messages = run(&plan(), 30);
    let counts = numbers(&messages, "dev/line1/plc2/count", "/v");
    assert!(counts.windows(2).all(|w| w[1].1 >= w[0].1));
    let temperatures = numbers(&messages, "dev/line1/plc1/temp", "/v");
    assert!(temperatures.windows(2).all(|w| (w[1].1 - w[0].1).abs() < 3.0));
}

/// Guarantees: each device of a large plan gets its turn; a plan with nothing in it is one tag.
#[test]
fn turns() {
    let none = Plan { users: 0, devices_per_user: 0, plant: (0, 0, 0), ..plan() };
    assert_eq!(Simulator::new(none).next(BEGIN_US).0, "dev/line1/plc1/temp");
    let mut many = Simulator::new(Plan { users: 100, plant: (10, 10, 10), ..plan() });
    assert_eq!(many.devices(), 200 + 1000);
    let mut sent: HashMap<String, u32> = HashMap::new();
    for i in 0..1200 {
        *sent.entry(many.next(BEGIN_US + i).0.to_owned()).or_default() += 1;
    }
    assert!(sent.values().all(|n| *n == 1));
}
