//! Messages bridged to Kafka as they came, and made rows of at the other end: with the configurations of `examples/03-raw-bridge`, against the mock
//! cluster, and against Apache Kafka where there is one.

use serde_json::json;
use tidegate_tests::{
    Account, DEADLINE, Host, Kafka, Message, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, Status, garbage,
    readings, root, wait_for,
};

use crate::dead_letters::dead_letters;

/// A host with a configuration of the example, but for these addresses.
fn example(file: &str, setup: Setup, addresses: &[(&str, &str)]) -> Host {
    let text = std::fs::read_to_string(root().join("examples/03-raw-bridge").join(file)).unwrap();
    // From the first source on: the harness gives each host a directory and a port of its own.
    let mut sections = text[text.find("[sources").unwrap()..].to_owned();
    for (written, here) in addresses {
        assert!(sections.contains(written), "{written} in {sections}");
        sections = sections.replace(written, here);
    }
    setup.toml(&sections).launch()
}

fn edge(kafka: &Kafka, broker: &Mosquitto) -> Host {
    let (brokers, url) = (kafka.brokers(), broker.url());
    let addresses = [("127.0.0.1:9092", &*brokers), ("mqtt://127.0.0.1:1883", &*url)];
    let edge = example("edge.toml", Setup::new(), &addresses);
    edge.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
    edge
}

fn cloud(kafka: &Kafka, database: &Postgres) -> Host {
    let (brokers, url) = (kafka.brokers(), database.url());
    let addresses = [("127.0.0.1:9092", &*brokers), ("postgres://tidegate@127.0.0.1:5432/plant", &*url)];
    example("cloud.toml", Setup::new().module("json-reading"), &addresses)
}

/// How many messages Kafka has of the sink `raw`.
fn bridged(status: &Status) -> Option<u64> {
    status.sinks.iter().find(|sink| sink.name == "raw").map(|sink| sink.messages)
}

/// Readings of every kind, and what no rule can read.
fn load(readings_of_each: u64) -> Vec<Message> {
    let mut all = readings(0..readings_of_each, 300);
    all.extend(garbage());
    all
}

/// Guarantees: an edge without any rule stores every message in Kafka as it came, and has no dead letter; at the far end each is a row in
/// PostgreSQL, or a dead letter byte for byte, once. Both ledgers balance.
fn edge_to_database(kafka: &Kafka) {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    let (edge, cloud) = (edge(kafka, &broker), cloud(kafka, &database));
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(load(5_000));
    let sent = publisher.sent().len() as u64;
    let status = edge.wait_settled(sent);
    status.assert_balanced("the edge");
    assert_eq!((status.messages.stored, status.messages.dead_lettered), (sent, 0), "{status:?}");
    edge.wait_drained("raw");
    assert_eq!(bridged(&edge.status()), Some(sent));
    assert!(edge.dead_letters().is_empty());
    cloud.wait_settled(sent).assert_balanced("the cloud");
    cloud.wait_drained("db");
    Account::of(publisher.sent(), database.rows(), &cloud.dead_letters()).assert_exact("bridged raw");
}

#[test]
fn edge_to_database_by_the_mock_cluster() {
    edge_to_database(&Kafka::start("raw", 4));
}

#[test]
fn edge_to_database_by_apache_kafka() {
    let Some(kafka) = Kafka::apache("raw", 4) else { return };
    edge_to_database(&kafka);
}

/// Guarantees: where a topic takes smaller batches than the producer makes, all messages that fit are stored, and the one that is too large alone
/// is a dead letter. What a broker says of such a batch it says of all its records.
#[test]
fn a_topic_of_small_batches_by_apache_kafka() {
    // Some batches of 20 KB; not so many that a slow machine does not get through them in the time that a message has.
    const EACH: usize = 300;
    let (Some(kafka), Some(broker)) = (Kafka::apache("raw", 1), Mosquitto::start()) else { return };
    kafka.set("max.message.bytes", "20000");
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.kafka.raw]\nbrokers = \"{}\"\nmessages = \"raw\"\n", kafka.brokers()))
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // At random: compressed, they are as large.
    let mut random = fastrand::Rng::with_seed(7);
    let mut noise = |bytes: usize| (0..bytes).map(|_| random.u8(..)).collect::<Vec<_>>();
    let large = noise(30_000);
    let mut message = |number: usize| Message::poison(format!("dev/{}", number % 10), noise(600));
    publisher.deliver((0..EACH).map(&mut message));
    publisher.deliver([Message::poison("dev/large", large)]);
    publisher.deliver((0..EACH).map(&mut message));
    host.wait_settled(2 * EACH as u64 + 1).assert_balanced("small batches");
    // What takes long goes by the spool.
    host.wait_drained("raw");
    assert_eq!(bridged(&host.status()), Some(2 * EACH as u64));
    let letters = host.dead_letters();
    assert_eq!(letters.iter().map(|letter| &*letter.topic).collect::<Vec<_>>(), ["dev/large"]);
}

/// Guarantees: while Kafka is away, messages are acknowledged from the spool; a host that is killed then and started again when Kafka is back has
/// lost none of them.
#[test]
fn kafka_away_and_the_edge_killed() {
    let Some(broker) = Mosquitto::start() else { return };
    let kafka = Kafka::start("raw", 4);
    let mut edge = edge(&kafka, &broker);
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..500, 50));
    edge.wait_settled(500);
    kafka.away(true);
    publisher.deliver(readings(500..2_000, 50));
    let status = edge.wait_settled(2_000);
    status.assert_balanced("with Kafka away");
    assert!(status.spool("raw").rows > 0, "{status:?}");
    edge.kill();
    kafka.away(false);
    edge.launch_again();
    let store = Setup::new().kafka(&kafka, "raw").module("json-reading").launch();
    wait_for("all readings at the other end", DEADLINE, || {
        let account = Account::of(publisher.sent(), store.rows(), &store.dead_letters());
        if account.complete() { Ok(()) } else { Err(format!("{account}; {}", edge.tail())) }
    });
    let account = Account::of(publisher.sent(), store.rows(), &store.dead_letters());
    account.assert_nothing_lost("Kafka away, and the edge killed");
    edge.wait_status("the spool to be empty", |status| (status.spool("raw").records == 0).then_some(()));
}

/// Guarantees: a message that was bridged and that a rule refused beside is not bridged again when its dead letter is put back, once or twice; its
/// letter stays.
#[test]
fn bridged_once_however_often_replayed() {
    let Some(broker) = Mosquitto::start() else { return };
    let kafka = Kafka::start("raw", 1);
    let brokers = kafka.brokers();
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.kafka.raw]\nbrokers = \"{brokers}\"\nmessages = \"raw\"\n"))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver((0..20).map(|number| Message::poison("dev/a", format!("no reading: {number}"))));
    publisher.deliver(readings(0..100, 10));
    host.wait_settled(120).assert_balanced("bridged and refused");
    host.wait_drained("raw");
    assert_eq!(bridged(&host.status()), Some(120));
    for round in 1..=2 {
        assert_eq!(dead_letters(&host, &["replay", "--rule", "json-reading"])["requested"], 20);
        let status = host.wait_status("the letters to die again", |status| {
            let replay = status.sources.iter().find(|source| source.name == "replay")?.messages;
            (replay.dead_lettered == 20 * round && replay.in_flight == 0).then(|| status.clone())
        });
        host.wait_drained("raw");
        assert_eq!(bridged(&host.status()), Some(120), "{status:?}");
        wait_for("the letters that were put back to go", DEADLINE, || match host.dead_letters().len() {
            20 => Ok(()),
            other => Err(other),
        });
    }
}

/// Guarantees: a trace says of a message that only a bridge takes what its lane says of it: it is stored, be it given or the next that passes.
#[test]
fn traced() {
    let Some(broker) = Mosquitto::start() else { return };
    let kafka = Kafka::start("raw", 1);
    let edge = edge(&kafka, &broker);
    let given = json!({"topic": "dev/a/temp", "payload": "no reading"});
    let traced = edge.ask("POST", "/api/v1/trace").json(&given).send().expect(200);
    assert_eq!((&traced["ended"], &traced["steps"]), (&json!("stored"), &json!([])), "{traced}");
    assert!(traced["reason"].is_null(), "{traced}");

    let mut publisher = Publisher::connect(&broker, Qos::One);
    let passed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| edge.ask("POST", "/api/v1/trace/next").json(&json!({"within_s": 60})).send());
        while !waiting.is_finished() {
            publisher.deliver(garbage().into_iter().take(1));
        }
        waiting.join().unwrap().expect(200)
    });
    assert_eq!((&passed["ended"], &passed["message"]["ended"]), (&json!("stored"), &json!("stored")), "{passed}");
    let sent = publisher.sent().len() as u64;
    assert_eq!(edge.wait_settled(sent).messages.stored, sent, "as its lane says");
}
