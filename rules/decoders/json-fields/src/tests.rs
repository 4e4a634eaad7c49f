#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::PathBuf;

use serde_json::Value as Tree;
use tidegate_rule::testing::{RuleTest, Seen, run_cases};

use crate::Exported;

const TOPIC: &str = "users/u1/devices/d1/telemetry";

fn decode(payload: &[u8]) -> Seen {
    RuleTest::<Exported>::new("{}").decode(5_000, &[(TOPIC, payload)])
}

fn rejected(payload: &[u8]) -> String {
    let seen = decode(payload);
    assert!(seen.points.is_empty(), "{seen:?}");
    seen.rejects.into_iter().next().map(|(_, reason)| reason).unwrap_or_default()
}

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: fields may come in another order, go and come back, and each keeps its series; a name
/// crosses to the host once.
#[test]
fn fields_keep_their_series_in_any_order() {
    let mut rule = RuleTest::<Exported>::new("{}");
    let seen = rule.decode(
        1,
        &[
            (TOPIC, br#"{"a":1,"b":2,"c":3}"#),
            (TOPIC, br#"{"c":4,"a":5}"#),
            (TOPIC, br#"{"b":6,"x":7,"c":8,"a":9}"#),
            (TOPIC, br#"{"a":1,"b":2,"c":3}"#),
        ],
    );
    let leaf = |point: &tidegate_rule::testing::SeenPoint| {
        (point.topic.rsplit('/').next().unwrap().to_owned(), point.value.unwrap())
    };
    let values: String = seen.points.iter().map(leaf).map(|(name, value)| format!("{name}{value} ")).collect();
    assert_eq!(values, "a1 b2 c3 c4 a5 b6 x7 c8 a9 a1 b2 c3 ");
    assert_eq!(rule.host().resolves, (1, 4));
}

/// Guarantees: the time may stand anywhere at the top, and the first configured key counts.
#[test]
fn the_time_counts_wherever_it_stands() {
    let time = |payload: &[u8]| decode(payload).points[0].time_us;
    assert_eq!(time(br#"{"a":1}"#), 5_000);
    assert_eq!(time(br#"{"a":1,"ts":7}"#), 7_000);
    assert_eq!(time(br#"{"ts":7.5,"a":1}"#), 7_500);
    assert_eq!(time(br#"{"timestamp":9,"a":1,"ts":7}"#), 7_000);
    assert_eq!(time(br#"{"ts":7,"a":1,"timestamp":9}"#), 7_000);
    assert_eq!(time(br#"{"ts":null,"a":1}"#), 5_000);
    let nested = decode(br#"{"a":{"ts":7}}"#);
    assert_eq!((nested.points[0].time_us, nested.points[0].value), (5_000, Some(7.0)));
}

/// Guarantees: what cannot be is rejected with its reason, whole, and never traps.
#[test]
fn what_cannot_be_is_rejected() {
    for (payload, part) in [
        (&b""[..], "ends in the middle"),
        (b"[1]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"{\"a\":1", "ends in the middle"),
        (b"{\"a\":1} x", "follows"),
        (b"\xff\xfe", "cannot stand"),
        (b"{\"\xff\":1}", "UTF-8"),
        (b"{\"a\":NaN}", "cannot stand"),
        (b"{\"a\":1,\"a\":2}", "twice"),
        (b"{\"b\":{\"a\":1,\"a\":2}}", "twice"),
        (b"{\"a\":1,\"ts\":\"x\"}", "time is not a number"),
        (b"{\"a\":1,\"ts\":-5}", "before 1970"),
        (b"{\"a\":1e999}", "too large"),
    ] {
        let reason = rejected(payload);
        assert!(reason.contains(part), "{}: {reason}", String::from_utf8_lossy(payload));
    }
    let bomb = format!("{{\"a\":{}", "[".repeat(50_000));
    assert!(rejected(bomb.as_bytes()).contains("max_depth"));
    let bomb = "{\"a\":".repeat(50_000);
    assert!(rejected(bomb.as_bytes()).contains("max_depth"));
    let wide: String = (0..2_000).map(|field| format!("\"f{field}\":1,")).collect();
    assert!(rejected(format!("{{{wide}\"z\":1}}").as_bytes()).contains("max_fields"));
    assert_eq!(decode(b"{}").filtered, [0]);
    assert_eq!(decode(b"{\"a\":null,\"b\":[],\"c\":{}}").filtered, [0]);
}

/// Guarantees: keys that are no level of a topic are written so that two leaves never share a series.
#[test]
fn keys_are_escaped_reversibly() {
    let seen = decode(br#"{"a/b":1,"a":{"b":2,"":3},"+#%":4,"\u0041\u0000":5}"#);
    let names: Vec<&str> = seen.points.iter().map(|point| &point.topic[TOPIC.len()..]).collect();
    assert_eq!(names, ["/a%2Fb", "/a/b", "/a/", "/%2B%23%25", "/A%00"]);
}

/// Guarantees: keys used as data are bounded: past it messages are rejected, those known go on.
#[test]
fn keys_used_as_data_are_bounded() {
    let mut rule = RuleTest::<Exported>::new(r#"{"max_fields": 10000}"#);
    rule.decode(1, &[(TOPIC, b"{\"known\":1}")]);
    let mut rejects = 0;
    for round in 0..7 {
        let fields: Vec<String> = (0..9_999).map(|field| format!("\"{round}x{field}\":1")).collect();
        let topic = format!("users/u/devices/{round}/telemetry");
        let seen = rule.decode(2, &[(&topic, format!("{{{}}}", fields.join(",")).as_bytes())]);
        rejects += seen.rejects.len();
    }
    assert_eq!(rejects, 1);
    assert_eq!(rule.decode(3, &[(TOPIC, b"{\"known\":1}")]).points.len(), 1);
}

fn leaves(tree: &Tree) -> usize {
    match tree {
        Tree::Null => 0,
        Tree::Array(elements) => elements.iter().map(leaves).sum(),
        Tree::Object(members) => members.values().map(leaves).sum(),
        _ => 1,
    }
}

fn objects(tree: &Tree, into: &mut Vec<Tree>) {
    match tree {
        Tree::Object(_) => into.push(tree.clone()),
        Tree::Array(elements) => elements.iter().for_each(|element| objects(element, into)),
        _ => {}
    }
}

/// Guarantees: real payloads of ChirpStack, The Things Stack, Shelly and Tasmota come out with every
/// leaf, where their vectors are at hand (`TIDEGATE_VECTORS`).
#[test]
fn real_payloads_come_out_whole() {
    let vectors = std::env::var_os("TIDEGATE_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/vectors"), PathBuf::from);
    let Ok(files) = std::fs::read_dir(vectors.join("mqtt-json-shapes")) else {
        eprintln!("no vectors at {}: nothing was compared", vectors.display());
        return;
    };
    let mut payloads = Vec::new();
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "json")) {
        let tree: Tree = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        objects(&tree, &mut payloads);
    }
    assert!(!payloads.is_empty());
    for payload in payloads {
        let seen =
            RuleTest::<Exported>::new(r#"{"time_keys": []}"#).decode(1, &[(TOPIC, payload.to_string().as_bytes())]);
        assert_eq!(seen.rejects, [], "{payload}");
        assert_eq!(seen.points.len(), leaves(&payload), "{payload}");
    }
}

/// Guarantees: configurations that cannot be are refused by the name of the key.
#[test]
fn refusals_name_the_key() {
    let refusal = RuleTest::<Exported>::refusal;
    assert!(refusal(r#"{"max_depth": 0}"#).contains("max_depth"));
    assert!(refusal(r#"{"labels": {"x": "{a}"}}"#).contains("labels.x"));
    assert!(refusal(r#"{"array": "skip"}"#).contains("`array`"));
}

/// Guarantees: a text as long as a point may have is taken, and one byte more rejects its message only, with the reason: the sender cannot have
/// the call fail.
#[test]
fn a_text_has_a_limit() {
    let message = |len: usize| format!("{{\"v\":\"{}\"}}", "x".repeat(len)).into_bytes();
    let (most, more) = (message(1 << 20), message((1 << 20) + 1));
    let seen =
        RuleTest::<Exported>::new("{}").decode(5_000, &[(TOPIC, &most), (TOPIC, &more), (TOPIC, b"{\"v\":1}")]);
    assert_eq!(seen.points.len(), 2);
    assert_eq!(seen.rejects.len(), 1);
    assert!(seen.rejects[0].0 == 1 && seen.rejects[0].1.contains("more than 1 MiB"), "{:?}", seen.rejects);
}
