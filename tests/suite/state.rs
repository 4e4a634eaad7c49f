//! State over restarts, swaps, traps and another number of lanes: a rule that numbers the readings of each series forgets none and counts
//! none twice, whatever happens to the host meanwhile.

use std::collections::BTreeMap;

use tidegate_tests::{DEADLINE, House, Mosquitto, Setup, guest_module, variant, wait_for};

const TOPICS: u64 = 20;
const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\n";
const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\n[config]\nabove = 90.0\n";

/// After so short a silence that one waits for it, and so long that the host is restarted within it.
const SILENT: &str = "module = \"absence.wasm\"\ntopics = [\"dev/heart/#\"]\n[config]\nafter_s = 3.0\n";

fn house(broker: &Mosquitto) -> House {
    let setup = Setup::new().module("threshold").bytes("brittle", &guest_module("brittle"));
    House::start(broker, setup.rule("number", NUMBER).rule("threshold", HOT))
}

/// Waits until all that the rules have saved is on disk: it was handed over at least once after the last message, and written.
fn wait_kept(house: &House) {
    wait_for("the state to be kept", DEADLINE, || {
        let kept = kept(house);
        if kept == TOPICS { Ok(()) } else { Err(format!("{kept} series are as they should; {}", house.host.tail())) }
    });
}

/// For how many topics the file says what was counted last. The guest's form: one byte of layout, then the number as a varint.
fn kept(house: &House) -> u64 {
    let file = house.host.data_dir().join("state/state.db");
    let Ok(file) = rusqlite::Connection::open(file) else { return 0 };
    let ask = "SELECT n.name, c.cell FROM cells c JOIN names n ON n.id = c.name JOIN rules r ON r.id = c.rule WHERE r.name = 'number'";
    let Ok(mut statement) = file.prepare(ask) else { return 0 };
    let cells = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let counted = counted(house);
    cells
        .unwrap()
        .flatten()
        .filter(|(topic, cell)| counted.get(topic).is_some_and(|last| varint(&cell[1..]) == last.len() as u64))
        .count() as u64
}

/// What each topic's readings were numbered, in the order in which they were sent.
fn counted(house: &House) -> BTreeMap<String, Vec<u64>> {
    let mut rows = house.host.rows();
    rows.sort_by_key(|row| row.time_us);
    let mut counted = BTreeMap::<String, Vec<u64>>::new();
    for row in rows {
        if let (true, Some(value)) = (row.topic.starts_with("dev/count/"), row.value) {
            counted.entry(row.topic).or_default().push(f64::from_bits(value) as u64);
        }
    }
    counted
}

/// All that was sent, but for the poison, is numbered without a gap and without a repeat.
fn assert_exact(house: &House, after: &str) {
    let counted = counted(house);
    let sound = house.sound() as usize;
    assert_eq!(counted.values().map(Vec::len).sum::<usize>(), sound, "after {after}");
    for (topic, numbers) in counted {
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{topic}, after {after}");
    }
}

fn varint(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at)).sum()
}

/// Guarantees: a rule with state gives the same output as one that nothing happens to: over swaps, traps, restarts and other numbers of lanes.
#[test]
fn the_same_output_whatever_happens() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    let module = guest_module("brittle");
    house.count(400, TOPICS);
    assert_exact(&house, "traps");
    for swap in 0..6 {
        let before = house.host.status().rule("number").generation;
        house.host.drop_by_rename("brittle.wasm", &variant(&module, swap));
        if swap % 2 == 0 {
            house.count(200, TOPICS);
        }
        house.host.wait_status("the swap", |status| (status.rule("number").generation > before).then_some(()));
        house.count(100, TOPICS);
    }
    assert_exact(&house, "swaps");
    for lanes in [3, 1, 2] {
        house.restart_with(lanes);
        house.count(300, TOPICS);
        assert_exact(&house, "a restart with another number of lanes");
    }
    let status = house.host.status();
    assert!(status.rule("number").stats.faults.values().sum::<u64>() > 0, "there was no trap");
}

/// Guarantees: a host that is killed goes on where its state was last on disk, which is within seconds of the last message.
#[test]
fn killed() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    house.count(500, TOPICS);
    wait_kept(&house);
    house.host.kill();
    house.host.set_lanes(3);
    house.start_again();
    house.count(300, TOPICS);
    assert_exact(&house, "a kill");
}

/// Guarantees: an alert that stands over a restart is not raised again while it lasts, is shown as standing, and is cleared once.
#[test]
fn an_alert_stands_over_a_restart() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = house(&broker);
    let transitions =
        |house: &House| -> Vec<String> { house.host.alerts().iter().map(|alert| alert.transition.clone()).collect() };
    house.measure(&[("dev/oven/temp", 95.0)]);
    assert_eq!((house.host.status().alerts_standing, transitions(&house)), (1, vec!["raised".to_owned()]));
    house.restart_with(3);
    assert_eq!(house.host.status().alerts_standing, 1);
    house.measure(&[("dev/oven/temp", 96.0)]);
    assert_eq!(transitions(&house), ["raised"]);
    house.measure(&[("dev/oven/temp", 20.0)]);
    assert_eq!(
        (house.host.status().alerts_standing, transitions(&house)),
        (0, vec!["raised".into(), "cleared".into()])
    );
}

/// Guarantees: a sensor that was silent before the host ended, in order or killed, and is silent after it, is told of, though no message of anybody comes to remind
/// the rule; one that was told of before is not told of again, and is when it is back.
#[test]
fn silence_goes_on_over_a_restart() {
    let Some(broker) = Mosquitto::start() else { return };
    for killed in [false, true] {
        let setup = Setup::new().module("absence").rule("absence", SILENT);
        let mut house = House::start(&broker, setup);
        let told = |house: &House| -> Vec<String> {
            house.host.alerts().iter().map(|alert| format!("{} {}", alert.transition, alert.topic)).collect()
        };
        let wait_told = |house: &House, expected: &[&str]| {
            wait_for("what is told of silence", DEADLINE, || {
                let told = told(house);
                if told == expected { Ok(()) } else { Err(format!("{told:?}; {}", house.host.tail())) }
            });
        };
        house.measure(&[("dev/heart/a", 1.0)]);
        wait_told(&house, &["raised dev/heart/a"]);
        house.measure(&[("dev/heart/b", 1.0)]);
        wait_for("the state to be kept", DEADLINE, || {
            let file = rusqlite::Connection::open(house.host.data_dir().join("state/state.db")).unwrap();
            let ask = "SELECT count(*) FROM cells c JOIN rules r ON r.id = c.rule WHERE r.name = 'absence'";
            let cells = file.query_row(ask, [], |row| row.get::<_, u64>(0)).unwrap_or(0);
            if cells == 2 { Ok(()) } else { Err(format!("{cells} cells; {}", house.host.tail())) }
        });
        if killed {
            house.host.kill();
            house.start_again();
        } else {
            house.restart();
        }
        wait_told(&house, &["raised dev/heart/a", "raised dev/heart/b"]);
        house.measure(&[("dev/heart/a", 1.0)]);
        wait_told(&house, &["raised dev/heart/a", "raised dev/heart/b", "cleared dev/heart/a"]);
    }
}
