//! Kafka as the way between two hosts, and as a group that hosts join and leave: against the mock cluster, and against Apache Kafka where
//! there is one.

use tidegate_tests::{
    Account, DEADLINE, Host, Kafka, Mosquitto, Publisher, Qos, Setup, readings, root, sqlite_count, sqlite_rows,
    wait_for,
};

/// A host with a configuration of `examples/02-edge-to-kafka`, but for addresses.
fn example(file: &str, kafka: &Kafka, mqtt: Option<&Mosquitto>) -> Host {
    let text = std::fs::read_to_string(root().join("examples/02-edge-to-kafka").join(file)).unwrap();
    let mut setup = Setup::new().module("json-reading");
    // From the first source on: the harness gives each host a directory and a port of its own.
    let sections = &text[text.find("[sources").unwrap()..];
    assert!(sections.contains("127.0.0.1:9092"), "{sections}");
    let mut sections = sections.replace("127.0.0.1:9092", &kafka.brokers());
    if let Some(broker) = mqtt {
        assert!(sections.contains("mqtt://127.0.0.1:1883"), "{sections}");
        sections = sections.replace("mqtt://127.0.0.1:1883", &broker.url());
    }
    std::fs::create_dir_all(setup.path().join("data/store")).unwrap();
    setup = setup.toml(&sections);
    setup.launch()
}

/// Guarantees: readings of every kind that go MQTT → host → Kafka → host → database, by the configurations of the example, arrive byte for byte and
/// once; both hosts' ledgers balance.
fn edge_to_store(kafka: &Kafka) {
    let Some(broker) = Mosquitto::start() else { return };
    let edge = example("edge.toml", kafka, Some(&broker));
    let store = example("store.toml", kafka, None);
    edge.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..5_000, 300));
    let database = store.path().join("data/store/points.db");
    wait_for("all points at the other end", DEADLINE, || match sqlite_count(&database) {
        5_000.. => Ok(()),
        found => Err(format!("{found} points; {}; {}", edge.tail(), store.tail())),
    });
    edge.wait_settled(5_000).assert_balanced("the edge");
    store.wait_settled(5_000).assert_balanced("the store");
    let mut letters = edge.dead_letters();
    letters.extend(store.dead_letters());
    Account::of(publisher.sent(), sqlite_rows(&database), &letters).assert_exact("by way of Kafka");
}

#[test]
fn edge_to_store_by_the_mock_cluster() {
    edge_to_store(&Kafka::start("readings", 4));
}

#[test]
fn edge_to_store_by_apache_kafka() {
    let Some(kafka) = Kafka::apache("readings", 4) else { return };
    edge_to_store(&kafka);
}

/// Guarantees: hosts that join a group and leave it under load, in order and by SIGKILL, lose nothing between them; and no offset that the
/// group has committed goes back.
fn hosts_come_and_go(mut kafka: Kafka) {
    let member = |kafka: &Kafka| Setup::new().kafka(kafka, "telemetry").module("json-reading").launch();
    kafka.deliver(readings(0..1, 1));
    let first = member(&kafka);
    first.wait_rows(1);
    let total = 20_000;
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    let mut gather = |host: &Host| {
        rows.extend(host.rows());
        letters.extend(host.dead_letters());
    };
    let (mut first, mut second) = (first, member(&kafka));
    let mut before = kafka.committed("tidegate");
    for part in 0..10 {
        kafka.deliver(readings(1 + part * total / 10..1 + (part + 1) * total / 10, 300));
        match part {
            3 => {
                first.stop();
            }
            5 => first.start_again(),
            6 => second.kill(),
            8 => second.launch_again(),
            _ => {}
        }
        let now = kafka.committed("tidegate");
        assert!(
            now.iter().zip(&before).all(|(now, before)| now >= before),
            "an offset went back: {before:?} → {now:?}"
        );
        before = now;
    }
    wait_for("the group to be done", DEADLINE, || {
        let now = kafka.committed("tidegate");
        assert!(
            now.iter().zip(&before).all(|(now, before)| now >= before),
            "an offset went back: {before:?} → {now:?}"
        );
        before.clone_from(&now);
        let committed: i64 = now.iter().sum();
        if committed == total as i64 + 1 {
            Ok(())
        } else {
            Err(format!("{now:?}; {}; {}", first.tail(), second.tail()))
        }
    });
    gather(&first);
    gather(&second);
    let account = Account::of(kafka.sent(), rows, &letters);
    account.assert_nothing_lost("a group that changes");
    println!("{} of {} came twice", account.doubled(), kafka.sent().len());
}

#[test]
fn hosts_come_and_go_at_the_mock_cluster() {
    hosts_come_and_go(Kafka::start("telemetry", 4));
}

#[test]
fn hosts_come_and_go_at_apache_kafka() {
    let Some(kafka) = Kafka::apache("telemetry", 4) else { return };
    hosts_come_and_go(kafka);
}
