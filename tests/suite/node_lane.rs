//! Rules of the whole node: they need the series of several lanes, and see each row once, whatever happens to the host meanwhile.

use std::time::Duration;

use tidegate_tests::{Host, Mosquitto, Protocol, Publisher, Qos, Setup, built_module, guest_module, plain, variant};

const TOPICS: u64 = 24;
/// Long enough for a shutdown on a machine with much to do.
const STOP: Duration = Duration::from_secs(70);

const TALLY: &str = "module = \"tally.wasm\"\ntopics = [\"dev/count/#\"]\n";
/// Fresh for long: the machine may be slow.
const HOT: &str = "module = \"k-of-n.wasm\"\ntopics = [\"dev/+/temp\"]\n\
                   [config]\nk = 3\ntopic = \"plant/hot\"\nabove = 90.0\nfresh_s = 3600.0\n";

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
            .bytes("tally", &guest_module("tally"))
            .bytes("k-of-n", &built_module("k-of-n"))
            .rule("tally", TALLY)
            .rule("hot", HOT)
            .start();
        Self { host, publisher: Publisher::connect(broker, Qos::One), sent: 0, of_this_run: 0 }
    }

    /// So many readings over all topics, with poison among them.
    fn count(&mut self, readings: u64) {
        let first = self.sent;
        self.publisher.deliver((first..first + readings).map(|number| {
            let value = if is_poison(number) { 666.0 } else { 1.0 };
            plain(&format!("dev/count/t{}", number % TOPICS), number, value)
        }));
        self.sent += readings;
        self.settled(readings);
    }

    fn measure(&mut self, device: &str, number: u64, value: f64) {
        self.publisher.deliver([plain(&format!("dev/{device}/temp"), number, value)]);
        self.settled(1);
    }

    fn settled(&mut self, messages: u64) {
        self.of_this_run += messages;
        self.host.wait_settled(self.of_this_run);
    }

    fn restart(&mut self, lanes: u32) {
        assert!(self.host.stop(STOP).success(), "{}", self.host.log());
        self.host.set_lanes(lanes);
        self.host.start_again();
        self.of_this_run = 0;
    }

    fn transitions(&self) -> Vec<(String, String)> {
        self.host.alerts().into_iter().map(|alert| (alert.topic, alert.transition)).collect()
    }

    /// Each sound reading has a number of its own, from 1 on without a gap; both accounts balance; each poison is a dead letter.
    fn assert_exact(&self, after: &str) {
        let rows = self.host.rows();
        let counted = rows.iter().filter(|row| row.topic.starts_with("dev/count/"));
        let mut numbers: Vec<u64> = counted.filter_map(|row| row.number()).map(|number| number as u64).collect();
        numbers.sort_unstable();
        let sound = (0..self.sent).filter(|number| !is_poison(*number)).count() as u64;
        assert_eq!(numbers, (1..=sound).collect::<Vec<_>>(), "after {after}");
        assert_eq!(self.host.dead_letters().len() as u64, self.sent - sound, "after {after}");
        self.host.status().assert_balanced(after);
    }
}

fn is_poison(number: u64) -> bool {
    number % 297 == 50
}

/// Guarantees: a rule of the node that numbers all readings leaves out none and gives none twice, over many lanes, traps, swaps of its module under
/// load, restarts and other numbers of lanes; the ledger balances at each stop, and the API shows its lane.
#[test]
fn nothing_is_lost_on_the_way_to_it() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker);
    house.restart(3);
    let module = guest_module("tally");
    house.count(600);
    house.assert_exact("traps");
    for swap in 0..4 {
        let before = house.host.status().rule("tally").generation;
        house.host.drop_by_rename("tally.wasm", &variant(&module, swap));
        house.count(200);
        house.host.wait_status("the swap", |status| (status.rule("tally").generation > before).then_some(()));
        house.count(100);
    }
    house.assert_exact("swaps");
    for lanes in [4, 1, 2] {
        house.restart(lanes);
        house.count(200);
        house.assert_exact("a restart with another number of lanes");
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
    let mut house = House::start(&broker);
    house.restart(4);
    let raised = ("plant/hot".to_owned(), "raised".to_owned());
    let cleared = ("plant/hot".to_owned(), "cleared".to_owned());
    // Topics go to lanes one after the other, so the first four are on as many lanes.
    for (number, (device, value)) in [("a", 95.0), ("b", 20.0), ("c", 96.0), ("d", 20.0)].into_iter().enumerate() {
        house.measure(device, number as u64, value);
    }
    assert!(house.transitions().is_empty(), "two of four: {:?}", house.transitions());
    let lanes = house.host.ask("GET", "/api/v1/lanes").send().expect(200);
    let busy = lanes.as_array().unwrap().iter().filter(|lane| lane["kind"] == "partitions" && lane["rows"] != 0);
    assert!(busy.count() > 1, "{lanes}");
    house.measure("d", 10, 97.0);
    assert_eq!(house.transitions(), std::slice::from_ref(&raised));
    let generation = house.host.status().rule("hot").generation;
    house.host.drop_by_rename("k-of-n.wasm", &variant(&built_module("k-of-n"), 1));
    house.host.wait_status("the swap", |status| (status.rule("hot").generation > generation).then_some(()));
    house.measure("b", 11, 98.0);
    house.restart(3);
    assert_eq!(house.host.status().alerts_standing, 1);
    house.measure("a", 12, 20.0);
    assert_eq!(house.transitions(), std::slice::from_ref(&raised), "three are left");
    house.measure("c", 13, 20.0);
    assert_eq!(house.transitions(), [raised, cleared]);
    assert_eq!(house.host.status().alerts_standing, 0);
    house.host.status().assert_balanced("k of n");
}
