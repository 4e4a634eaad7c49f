//! Rules of the whole node, on their own lane: what they see, what becomes of it, and that nothing is lost on the way.

use tidegate_pipeline::LaneKind;

use super::*;

const HOT: &str = r#"{"k":3,"topic":"plant/hot","above":90.0}"#;

/// So many readings, over thirty topics and so over all lanes; `poison` says which are 666.
fn mixed(from: u32, count: u32, poison: impl Fn(u32) -> bool) -> Vec<(String, Vec<u8>)> {
    let value = |i: u32| if poison(i) { 666.0 } else { f64::from(i % 600) };
    (from..from + count).map(|i| reading(&format!("dev/t{}", i % 30), value(i))).collect()
}

/// Every number that `tally` gave, sorted; those of one topic must ascend.
fn tallied(house: &House) -> Vec<u64> {
    let mut by_topic = BTreeMap::<String, Vec<f64>>::new();
    for (topic, number) in house.stored() {
        by_topic.entry(topic).or_default().push(number);
    }
    assert!(by_topic.values().all(|numbers| numbers.is_sorted()), "{by_topic:?}");
    let mut all: Vec<u64> = by_topic.into_values().flatten().map(|number| number as u64).collect();
    all.sort_unstable();
    all
}

fn assert_balanced(house: &House) {
    let (messages, points) = (house.inlet.ledger().totals(), house.pipeline.status().points);
    assert!(messages.balances() && messages.in_flight == 0, "{messages:?}");
    assert_eq!(points.in_flight, 0, "{points:?}");
    assert_eq!(
        points.produced + points.generated,
        points.stored + points.filtered + points.dead_lettered + points.held + points.returned,
        "{points:?}"
    );
}

/// Guarantees: one instance sees the rows of all lanes, each once, in the order of its series; over traps, swaps and a shadow that takes over its
/// state is exact; the poison stands alone in the dead letters with its bytes; messages are settled when what came of them is stored.
#[test]
fn one_instance_for_all_lanes() {
    let mut house = House::new(3);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    assert!(house.pipeline.status().lanes.iter().all(|lane| lane.kind == LaneKind::Partitions));
    let rule = house.install_so("tally", "tally", 10, "dev/#", "{}", |_| {});
    let mut shadow = None;
    let poison = |i: u32| i % 400 == 123;
    for round in 0..20 {
        house.send(&mixed(round * 200, 200, poison));
        if round % 6 == 5 {
            house.install("tally", "tally", 10, "dev/#", "{}");
        }
        if round == 6 {
            shadow = Some(house.shadow(&rule, "{}", ShadowStart::Copied));
        }
        if let (9, Some((candidate, report))) = (round, &shadow) {
            assert!(report.lanes() == 1, "one for the node");
            house.deploy.promote(candidate).unwrap();
        }
    }
    let poisons = (0..4_000).filter(|&i| poison(i)).count();
    assert_eq!(tallied(&house), (1..=4_000 - poisons as u64).collect::<Vec<_>>());
    let kept = house.letters.kept.lock().unwrap();
    let letters: Vec<_> = kept.iter().flat_map(|d| &d.dead_letters).collect();
    assert_eq!(letters.len(), poisons);
    for letter in letters {
        assert!(letter.payload.starts_with(br#"{"v":666"#) && letter.topic.starts_with("dev/t"), "{letter:?}");
        assert_eq!((&*letter.source, letter.rule.as_deref()), ("test", Some("tally")));
    }
    drop(kept);
    let totals = rule.stats.totals();
    assert!(totals.replayed > 0 && totals.state_lost == 0, "{totals:?}");
    assert_balanced(&house);
    let lanes = house.pipeline.status().lanes;
    let node: Vec<_> = lanes.iter().filter(|lane| lane.kind == LaneKind::Node).collect();
    assert_eq!((lanes.len(), node.len(), node[0].rows, node[0].rules), (4, 1, 4_000, 1), "{lanes:?}");
}

/// Guarantees: what the other rules let through is what the node's rules get, in their order among themselves; rows that none of them matches go
/// their own way.
#[test]
fn after_the_rules_of_the_lanes() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    // Though its order comes first, a rule of the node is called after all of a lane's.
    house.install("hot", "k-of-n", -5, "dev/hot/#", HOT);
    house.install("double", "scale", 50, "dev/#", r#"{"factor":2.0}"#);
    house.send(&[reading("dev/hot/a", 46.0), reading("dev/hot/b", 47.0), reading("dev/cold/a", 48.0)]);
    assert!(house.alerts().is_empty());
    house.send(&[reading("dev/hot/c", 48.0)]);
    assert_eq!(house.alerts(), [("plant/hot".into(), Transition::Raised)]);
    let mut values: Vec<f64> = house.stored().into_iter().map(|(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [92.0, 94.0, 96.0, 96.0]);
    // Two of the node: the second judges what the first makes.
    house.install("tally", "tally", -6, "dev/hot/#", "{}");
    house.send(&[reading("dev/hot/c", 99.0)]);
    assert_eq!(
        house.alerts().last(),
        Some(&("plant/hot".into(), Transition::Cleared)),
        "the first reading is number 1"
    );
    assert_balanced(&house);
}

/// Guarantees: rules of the node that come, change what they match and go, while messages flow, change no series' order and lose no row.
#[test]
fn a_series_never_overtakes_itself() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let (topics, mut sent) = (30, 0);
    let mut stretch = |house: &House| {
        for _ in 0..20 {
            let rows: Vec<_> = (0..50).map(|i| (sent + i) as f64).collect();
            let rows: Vec<_> = rows.into_iter().map(|v| reading(&format!("dev/t{}", v as u32 % topics), v)).collect();
            sent += 50;
            house.hand_over(&rows);
        }
    };
    for round in 0..6 {
        stretch(&house);
        house.install("hot", "k-of-n", 10, if round % 2 == 0 { "dev/#" } else { "dev/t1" }, HOT);
        stretch(&house);
        if round % 3 == 2 {
            house.deploy.remove("hot", "the rule was removed").unwrap();
        }
    }
    house.wait("all messages to be settled", |totals| totals.in_flight == 0);
    let mut by_topic = BTreeMap::<String, Vec<f64>>::new();
    for (topic, value) in house.stored() {
        by_topic.entry(topic).or_default().push(value);
    }
    assert_eq!(by_topic.values().map(Vec::len).sum::<usize>(), sent as usize);
    for (topic, values) in by_topic {
        assert!(values.is_sorted(), "{topic}: {values:?}");
    }
    assert_balanced(&house);
}

/// Guarantees: while a sink is down the queue to the node's lane fills and its lanes wait; when it works again all are stored, none twice, and a
/// shutdown drains that lane after the others.
#[test]
fn a_sink_down_holds_the_lanes_back() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("tally", "tally", 10, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    for at in 0..40 {
        house.hand_over(&mixed(at * 30, 30, |_| false));
    }
    house.wait_down();
    assert_eq!(house.inlet.ledger().totals().in_flight, 1_200);
    *house.points.down.lock().unwrap() = false;
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(180)));
    assert_eq!(drained, Drained::Completely);
    assert_eq!(tallied(&house), (1..=1_200).collect::<Vec<_>>());
    assert_balanced(&house);
}

/// Guarantees: a shutdown whose sink never works ends in time, and returns what the node's lane had as well.
#[test]
fn a_shutdown_in_vain() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("tally", "tally", 10, "dev/even/#", "{}");
    *house.points.down.lock().unwrap() = true;
    let mut parcels = house.inlet.parcels(|_: Vec<()>| Ack::new(|o| assert_eq!(o, Outcome::Returned)));
    for i in 0..100 {
        let topic = if i % 2 == 0 { format!("dev/even/{i}") } else { format!("dev/odd/{i}") };
        let place = house.inlet.topic(&topic, &topic).unwrap();
        parcels.push(place, 0, Marks::default(), br#"{"v":1}"#, ());
    }
    house.runtime.block_on(parcels.send()).unwrap();
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(1)));
    assert_eq!(drained, Drained::InPart);
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.returned, totals.in_flight), (100, 0));
    assert_balanced(&house);
}

/// Guarantees: a rule whose state belongs to something else from now on is refused while the old one serves on, and with `discard_state` it begins
/// afresh where it belongs, one of the two for each row; either way round.
#[test]
fn another_scope() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let number = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/a", 7.0), reading("dev/b", 7.0)]);
    let next = |house: &mut House, of: &str, choice| {
        house.next(&number, |next| (next.module, next.on_refused_state) = (module(of), choice))
    };
    let refused = next(&mut house, "tally", OnRefusedState::Refuse);
    let error = house.deploy.install(&refused).unwrap_err();
    let report = Arc::new(ShadowReport::new(100));
    let shadow = house.deploy.shadow(&refused, &report, ShadowStart::Copied).unwrap_err();
    assert!(shadow.code() == "unsupported" && report.lanes() == 0, "{shadow}");
    assert!(error.code() == "state" && error.to_string().contains("discard_state"), "{error}");
    house.send(&[reading("dev/b", 7.0)]);
    assert_eq!(numbers(&house)["dev/b"], [1.0, 2.0]);
    for (module, expected) in [("tally", [1.0, 2.0]), ("brittle", [1.0, 1.0])] {
        let rule = next(&mut house, module, OnRefusedState::Discard);
        house.deploy.install(&rule).unwrap();
        house.send(&[reading("dev/a", 7.0)]);
        house.send(&[reading("dev/b", 7.0)]);
        let numbers = numbers(&house);
        let last = |topic: &str| numbers[topic].last().copied().unwrap();
        assert_eq!([last("dev/a"), last("dev/b")], expected, "{module}");
    }
    assert_balanced(&house);
}
