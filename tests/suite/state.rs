//! State over restarts, swaps, traps and another number of lanes: a rule that numbers the readings of each series forgets none and counts
//! none twice, whatever happens to the host meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_tests::{
    DEADLINE, Host, Mosquitto, Protocol, Publisher, Qos, Setup, guest_module, plain, variant, wait_for,
};

const TOPICS: u64 = 20;
/// Long enough for a shutdown on a machine with much to do.
const STOP: Duration = Duration::from_secs(70);

const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\n";
const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\n[config]\nabove = 90.0\n";

struct House {
    host: Host,
    publisher: Publisher,
    /// Readings sent so far.
    sent: u64,
    /// Readings sent since the host was last started.
    of_this_run: u64,
}

impl House {
    fn start(broker: &Mosquitto) -> Self {
        let host = Setup::new()
            .mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "")
            .module("json-reading")
            .module("threshold")
            .bytes("brittle", &guest_module("brittle"))
            .rule("number", NUMBER)
            .rule("threshold", HOT)
            .start();
        Self { host, publisher: Publisher::connect(broker, Qos::One), sent: 0, of_this_run: 0 }
    }

    /// So many readings, one topic after the other, with poison among them; waits until all are settled.
    fn count(&mut self, readings: u64) {
        let first = self.sent;
        let messages = (first..first + readings).map(|number| {
            // No topic has so many that it is quarantined, and each a few.
            let value = if is_poison(number) { 666.0 } else { 1.0 };
            plain(&format!("dev/count/t{}", number % TOPICS), number, value)
        });
        self.publisher.deliver(messages);
        self.sent += readings;
        self.of_this_run += readings;
        self.host.wait_settled(self.of_this_run);
    }

    fn restart(&mut self, lanes: u32) {
        assert!(self.host.stop(STOP).success(), "{}", self.host.log());
        self.again(lanes);
    }

    fn again(&mut self, lanes: u32) {
        self.host.set_lanes(lanes);
        self.host.start_again();
        self.of_this_run = 0;
    }

    /// Waits until all that the rules have saved is on disk: it was handed over at least once after the last message, and written.
    fn wait_kept(&self) {
        wait_for("the state to be kept", DEADLINE, || {
            let kept = self.kept();
            if kept == TOPICS {
                Ok(())
            } else {
                Err(format!("{kept} series are as they should; {}", self.host.tail()))
            }
        });
    }

    /// For how many topics the file says what was counted last. The guest's form: one byte of layout, then the number as a varint.
    fn kept(&self) -> u64 {
        let file = self.host.data_dir().join("state/state.db");
        let Ok(file) = rusqlite::Connection::open(file) else { return 0 };
        let ask = "SELECT n.name, c.cell FROM cells c JOIN names n ON n.id = c.name JOIN rules r ON r.id = c.rule WHERE r.name = 'number'";
        let Ok(mut statement) = file.prepare(ask) else { return 0 };
        let cells = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let counted = self.counted();
        cells
            .unwrap()
            .flatten()
            .filter(|(topic, cell)| counted.get(topic).is_some_and(|last| varint(&cell[1..]) == last.len() as u64))
            .count() as u64
    }

    /// What each topic's readings were numbered, in the order in which they were sent.
    fn counted(&self) -> BTreeMap<String, Vec<u64>> {
        let mut rows = self.host.rows();
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
    fn assert_exact(&self, after: &str) {
        let counted = self.counted();
        let sound = (0..self.sent).filter(|number| !is_poison(*number)).count();
        assert_eq!(counted.values().map(Vec::len).sum::<usize>(), sound, "after {after}");
        for (topic, numbers) in counted {
            let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, expected, "{topic}, after {after}");
        }
    }
}

fn is_poison(number: u64) -> bool {
    number % 297 == 50
}

fn varint(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at)).sum()
}

/// Guarantees: a rule with state gives the same output as one that nothing happens to: over swaps, traps, restarts and other numbers of lanes.
#[test]
fn the_same_output_whatever_happens() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker);
    let module = guest_module("brittle");
    house.count(400);
    house.assert_exact("traps");
    for swap in 0..6 {
        let before = house.host.status().rule("number").generation;
        house.host.drop_by_rename("brittle.wasm", &variant(&module, swap));
        if swap % 2 == 0 {
            house.count(200);
        }
        house.host.wait_status("the swap", |status| (status.rule("number").generation > before).then_some(()));
        house.count(100);
    }
    house.assert_exact("swaps");
    for lanes in [3, 1, 2] {
        house.restart(lanes);
        house.count(300);
        house.assert_exact("a restart with another number of lanes");
    }
    let status = house.host.status();
    assert!(status.rule("number").stats.faults.values().sum::<u64>() > 0, "there was no trap");
}

/// Guarantees: a host that is killed goes on where its state was last on disk, which is within seconds of the last message.
#[test]
fn killed() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker);
    house.count(500);
    house.wait_kept();
    house.host.kill();
    house.again(3);
    house.count(300);
    house.assert_exact("a kill");
}

/// Guarantees: an alert that stands over a restart is not raised again while it lasts, is shown as standing, and is cleared once.
#[test]
fn an_alert_stands_over_a_restart() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker);
    let transitions =
        |house: &House| -> Vec<String> { house.host.alerts().iter().map(|alert| alert.transition.clone()).collect() };
    let measure = |house: &mut House, number: u64, value: f64| {
        house.publisher.deliver([plain("dev/oven/temp", number, value)]);
        house.of_this_run += 1;
        house.host.wait_settled(house.of_this_run);
    };
    measure(&mut house, 1, 95.0);
    assert_eq!((house.host.status().alerts_standing, transitions(&house)), (1, vec!["raised".to_owned()]));
    house.restart(3);
    assert_eq!(house.host.status().alerts_standing, 1);
    measure(&mut house, 2, 96.0);
    assert_eq!(transitions(&house), ["raised"]);
    measure(&mut house, 3, 20.0);
    assert_eq!(
        (house.host.status().alerts_standing, transitions(&house)),
        (0, vec!["raised".into(), "cleared".into()])
    );
}
