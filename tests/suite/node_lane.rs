//! Rules of the whole node: they need the series of several lanes, and see each row once, whatever happens to the host meanwhile.

use tidegate_tests::{House, Mosquitto, Setup, built_module, guest_module, variant};

const TOPICS: u64 = 24;
const TALLY: &str = "module = \"tally.wasm\"\ntopics = [\"dev/count/#\"]\n";
/// Fresh for long: the machine may be slow.
const HOT: &str = "module = \"k-of-n.wasm\"\ntopics = [\"dev/+/temp\"]\n\
                   [config]\nk = 3\ntopic = \"plant/hot\"\nabove = 90.0\nfresh_s = 3600.0\n";

fn house(broker: &Mosquitto) -> House {
    let setup = Setup::new().bytes("tally", &guest_module("tally")).bytes("k-of-n", &built_module("k-of-n"));
    House::start(broker, setup.rule("tally", TALLY).rule("hot", HOT))
}

fn measure(house: &mut House, device: &str, value: f64) {
    house.measure(&[(&format!("dev/{device}/temp"), value)]);
}

fn transitions(house: &House) -> Vec<(String, String)> {
    house.host.alerts().into_iter().map(|alert| (alert.topic, alert.transition)).collect()
}

/// Each sound reading has a number of its own, from 1 on without a gap; both accounts balance; each poison is a dead letter.
fn assert_exact(house: &House, after: &str) {
    let rows = house.host.rows();
    let counted = rows.iter().filter(|row| row.topic.starts_with("dev/count/"));
    let mut numbers: Vec<u64> = counted.filter_map(|row| row.number()).map(|number| number as u64).collect();
    numbers.sort_unstable();
    let sound = house.sound();
    assert_eq!(numbers, (1..=sound).collect::<Vec<_>>(), "after {after}");
    assert_eq!(house.host.dead_letters().len() as u64, house.sent() - sound, "after {after}");
    house.host.status().assert_balanced(after);
}

/// Guarantees: a rule of the node that numbers all readings leaves out none and gives none twice, over many lanes, traps, swaps of its module under
/// load, restarts and other numbers of lanes; the ledger balances at each stop, and the API shows its lane.
#[test]
fn nothing_is_lost_on_the_way_to_it() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    house.restart_with(3);
    let module = guest_module("tally");
    house.count(600, TOPICS);
    assert_exact(&house, "traps");
    for swap in 0..4 {
        let before = house.host.status().rule("tally").generation;
        house.host.drop_by_rename("tally.wasm", &variant(&module, swap));
        house.count(200, TOPICS);
        house.host.wait_status("the swap", |status| (status.rule("tally").generation > before).then_some(()));
        house.count(100, TOPICS);
    }
    assert_exact(&house, "swaps");
    for lanes in [4, 1, 2] {
        house.restart_with(lanes);
        house.count(200, TOPICS);
        assert_exact(&house, "a restart with another number of lanes");
        let lanes_shown = house.host.ask("GET", "/api/v1/lanes").send().expect(200);
        let lanes_shown = lanes_shown.as_array().unwrap();
        assert_eq!(lanes_shown.len() as u32, lanes + 1, "{lanes_shown:?}");
        let node = &lanes_shown[lanes as usize];
        assert!(node["kind"] == "node" && node["rules"] == 2 && node["rows"] == 200, "{node}");
        let metrics = house.host.get("/metrics").body;
        assert!(metrics.contains("tidegate_lane_rows_total{lane=\"node\"} 200"), "{metrics}");
    }
}

/// Guarantees: an alert that needs the series of several lanes is raised once when so many are beyond the limit, stands over a swap and a restart
/// with another number of lanes, and is cleared once.
#[test]
fn k_of_n_over_several_lanes() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    house.restart_with(4);
    let raised = ("plant/hot".to_owned(), "raised".to_owned());
    let cleared = ("plant/hot".to_owned(), "cleared".to_owned());
    // Topics go to lanes one after the other, so the first four are on as many lanes.
    for (device, value) in [("a", 95.0), ("b", 20.0), ("c", 96.0), ("d", 20.0)] {
        measure(&mut house, device, value);
    }
    assert!(transitions(&house).is_empty(), "two of four: {:?}", transitions(&house));
    let lanes = house.host.ask("GET", "/api/v1/lanes").send().expect(200);
    let busy = lanes.as_array().unwrap().iter().filter(|lane| lane["kind"] == "partitions" && lane["rows"] != 0);
    assert!(busy.count() > 1, "{lanes}");
    measure(&mut house, "d", 97.0);
    assert_eq!(transitions(&house), std::slice::from_ref(&raised));
    let generation = house.host.status().rule("hot").generation;
    house.host.drop_by_rename("k-of-n.wasm", &variant(&built_module("k-of-n"), 1));
    house.host.wait_status("the swap", |status| (status.rule("hot").generation > generation).then_some(()));
    measure(&mut house, "b", 98.0);
    house.restart_with(3);
    assert_eq!(house.host.status().alerts_standing, 1);
    measure(&mut house, "a", 20.0);
    assert_eq!(transitions(&house), std::slice::from_ref(&raised), "three are left");
    measure(&mut house, "c", 20.0);
    assert_eq!(transitions(&house), [raised, cleared]);
    assert_eq!(house.host.status().alerts_standing, 0);
    house.host.status().assert_balanced("k of n");
}
