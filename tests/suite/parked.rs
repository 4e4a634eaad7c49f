//! Rows parked while a rule is not called for their partition: put back by themselves once it is.

use std::time::Duration;

use tidegate_tests::{
    DEADLINE, Host, Mosquitto, Protocol, Publisher, Qos, Setup, guest_module, plain, variant, wait_for,
};

const BAD: &str = "dev/count/bad";
const GOOD: &str = "dev/count/good";
const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\non_quarantine = \"park\"\n";

struct House {
    host: Host,
    publisher: Publisher,
    sent: u64,
    of_this_run: u64,
}

impl House {
    /// One message, settled before the next: each poison is an episode of its own.
    fn send(&mut self, topic: &str, value: f64) {
        self.publisher.deliver([plain(topic, self.sent, value)]);
        self.sent += 1;
        self.of_this_run += 1;
        self.wait_plant();
    }

    /// Waits until what was sent is settled; what was replayed beside does not count.
    fn wait_plant(&self) {
        self.host.wait_status("what was sent to be settled", |status| {
            let plant = status.sources.iter().find(|source| source.name == "plant")?.messages;
            (plant.received >= self.of_this_run && plant.in_flight == 0).then_some(())
        });
    }

    /// Has the rule fail on the bad partition until it is not called for it any more, and then sends it sound rows, which are parked.
    fn park(&mut self, rows: u64) {
        let before = self.host.dead_letters().len() as u64;
        (0..5).for_each(|_| self.send(BAD, 666.0));
        self.host.wait_status("the partition to be quarantined", |status| {
            (status.rule("number").problem_code.as_deref() == Some("partitions_quarantined")).then_some(())
        });
        (0..rows).for_each(|_| self.send(BAD, 1.0));
        self.send(GOOD, 1.0);
        assert_eq!(self.host.dead_letters().len() as u64, before + 5 + rows, "{}", self.host.tail());
    }

    /// Waits until so many rows of the bad partition are stored, and gives what they were numbered, in the order they were sent.
    fn numbered(&self, rows: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        wait_for(&format!("{rows} rows of {BAD}"), DEADLINE, || {
            let mut found: Vec<_> = self.host.rows().into_iter().filter(|row| row.topic == BAD).collect();
            found.sort_by_key(|row| row.time_us);
            numbers = found.iter().filter_map(|row| row.number()).map(|number| number as u64).collect();
            if found.len() == rows { Ok(()) } else { Err(format!("{numbers:?}; {}", self.host.tail())) }
        });
        numbers
    }

    /// Waits until no letter is left but the poison's.
    fn only_poison_is_left(&self, poison: usize) {
        wait_for("the replayed letters to be gone", DEADLINE, || {
            let left = self.host.dead_letters().len();
            if left == poison { Ok(()) } else { Err(format!("{left} letters; {}", self.host.tail())) }
        });
        self.wait_plant();
        self.host.wait_settled(self.of_this_run).assert_balanced("parked rows");
    }
}

/// Guarantees: rows that were parked are replayed by themselves, in order and each once, when the rule is let out of quarantine by hand, when
/// another module comes, and after a restart; the poison itself is not; the ledger balances, and it is counted.
#[test]
fn parked_rows_come_back() {
    let Some(broker) = Mosquitto::start() else { return };
    let module = guest_module("brittle");
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("brittle", &module)
        .rule("number", NUMBER)
        .start();
    let publisher = Publisher::connect(&broker, Qos::One);
    let mut house = House { host, publisher, sent: 0, of_this_run: 0 };
    house.park(20);
    assert!(house.numbered(0).is_empty());
    house.host.ask("POST", "/api/v1/rules/number/retry").send().expect(200);
    assert_eq!(house.numbered(20), (1..=20).collect::<Vec<_>>());
    house.only_poison_is_left(5);
    let metrics = house.host.get("/metrics").body;
    assert!(metrics.contains("tidegate_rule_unparked_total{rule=\"number\"} 20"), "{metrics}");

    house.park(30);
    house.host.drop_by_rename("brittle.wasm", &variant(&module, 1));
    assert_eq!(house.numbered(50), (1..=50).collect::<Vec<_>>());
    house.only_poison_is_left(10);

    house.park(10);
    assert!(house.host.stop(Duration::from_secs(70)).success(), "{}", house.host.log());
    house.host.start_again();
    house.of_this_run = 0;
    assert_eq!(house.numbered(60), (1..=60).collect::<Vec<_>>());
    house.only_poison_is_left(15);
}
