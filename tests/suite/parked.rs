//! Rows parked while a rule is not called for their partition: put back by themselves once it is.

use tidegate_tests::{DEADLINE, House, Mosquitto, Setup, guest_module, variant, wait_for};

const BAD: &str = "dev/count/bad";
const GOOD: &str = "dev/count/good";
const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\non_quarantine = \"park\"\n";

/// Has the rule fail on the bad partition until it is not called for it any more, and then sends it sound rows, which are parked. Each is settled
/// before the next: each poison is an episode of its own.
fn park(house: &mut House, rows: u64) {
    let before = house.host.dead_letters().len() as u64;
    (0..5).for_each(|_| house.measure(&[(BAD, 666.0)]));
    house.host.wait_status("the partition to be quarantined", |status| {
        (status.rule("number").problem_code.as_deref() == Some("partitions_quarantined")).then_some(())
    });
    (0..rows).for_each(|_| house.measure(&[(BAD, 1.0)]));
    house.measure(&[(GOOD, 1.0)]);
    assert_eq!(house.host.dead_letters().len() as u64, before + 5 + rows, "{}", house.host.tail());
}

/// Waits until so many rows of the bad partition are stored, and gives what they were numbered, in the order they were sent.
fn numbered(house: &House, rows: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    wait_for(&format!("{rows} rows of {BAD}"), DEADLINE, || {
        let mut found: Vec<_> = house.host.rows().into_iter().filter(|row| row.topic == BAD).collect();
        found.sort_by_key(|row| row.time_us);
        numbers = found.iter().filter_map(|row| row.number()).map(|number| number as u64).collect();
        if found.len() == rows { Ok(()) } else { Err(format!("{numbers:?}; {}", house.host.tail())) }
    });
    numbers
}

/// Waits until no letter is left but the poison's.
fn only_poison_is_left(house: &mut House, poison: usize) {
    wait_for("the replayed letters to be gone", DEADLINE, || {
        let left = house.host.dead_letters().len();
        if left == poison { Ok(()) } else { Err(format!("{left} letters; {}", house.host.tail())) }
    });
    house.settled(0);
    house.host.wait_settled(0).assert_balanced("parked rows");
}

/// Guarantees: rows that were parked are replayed by themselves, in order and each once, when the rule is let out of quarantine by hand, when
/// another module comes, and after a restart; the poison itself is not; the ledger balances, and it is counted.
#[test]
fn parked_rows_come_back() {
    let Some(broker) = Mosquitto::start() else { return };
    let module = guest_module("brittle");
    let setup = Setup::new().bytes("brittle", &module).rule("number", NUMBER);
    let mut house = House::start(&broker, setup);
    park(&mut house, 20);
    assert!(numbered(&house, 0).is_empty());
    house.host.ask("POST", "/api/v1/rules/number/retry").send().expect(200);
    assert_eq!(numbered(&house, 20), (1..=20).collect::<Vec<_>>());
    only_poison_is_left(&mut house, 5);
    let metrics = house.host.get("/metrics").body;
    assert!(metrics.contains("tidegate_rule_unparked_total{rule=\"number\"} 20"), "{metrics}");

    park(&mut house, 30);
    house.host.drop_by_rename("brittle.wasm", &variant(&module, 1));
    assert_eq!(numbered(&house, 50), (1..=50).collect::<Vec<_>>());
    only_poison_is_left(&mut house, 10);

    park(&mut house, 10);
    house.restart();
    assert_eq!(numbered(&house, 60), (1..=60).collect::<Vec<_>>());
    only_poison_is_left(&mut house, 15);
}
