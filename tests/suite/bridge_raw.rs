//! Messages bridged to Kafka as they came, and made rows of at the other end: with the configurations of `examples/03-raw-bridge`, against the mock
//! cluster, and against Apache Kafka where there is one.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use tidegate_tests::{
    Account, DEADLINE, Host, Kafka, Message, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, Status, garbage,
    hostile, installed, readings, root, wait_for,
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

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// A reading that says no time, and with which the publisher told something of its own: a user property of MQTT 5.
fn untimed(broker: &Mosquitto, number: usize) -> Message {
    let (topic, value) = (format!("dev/untimed/{number}"), number as f64 + 0.5);
    let port = broker.port().to_string();
    let mut publish = Command::new("mosquitto_pub");
    publish.args(["-V", "mqttv5", "-q", "1", "-p", &port, "-t", &topic, "-m", &format!("{{\"v\":{value}}}")]);
    publish.args(["-D", "publish", "user-property", "site", &format!("north {number}")]);
    let published = publish.output().unwrap();
    assert!(published.status.success(), "{published:?}");
    let payload = format!("{{\"v\":{value}}}").into_bytes();
    Message { payload, ..hostile(&topic, value) }
}

/// The headers that Kafka has of each message of the bridge, by the topic it had.
fn headers(kafka: &Kafka, messages: u64) -> BTreeMap<String, BTreeMap<String, String>> {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).set("group.id", "nobody").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..4 {
        all.add_partition_offset("raw", partition, Offset::Beginning).unwrap();
    }
    reader.assign(&all).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let mut found = BTreeMap::new();
    for read in 0..messages {
        let record = wait_for("a record of the bridge", DEADLINE, || {
            let record = reader.poll(Duration::from_millis(100)).map(Result::unwrap);
            record.map(|record| record.detach()).ok_or_else(|| format!("{read} of {messages}"))
        });
        let its = record.headers().into_iter().flat_map(|headers| headers.iter());
        let its = its.map(|header| (header.key.to_owned(), text(header.value))).collect();
        found.insert(text(record.key()), its);
    }
    found
}

/// Guarantees: an edge without any rule stores every message in Kafka as it came, user properties of MQTT 5 included, and has no dead letter; at the far end, where two
/// hosts share the group and each gets a part, each message is a row in PostgreSQL, or a dead letter byte for byte, once; a reading that says no time has
/// that of its receipt at the edge, to the microsecond. All ledgers balance.
fn edge_to_database(kafka: &Kafka) {
    if !installed("mosquitto_pub", "mosquitto-clients") {
        return;
    }
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    let (edge, clouds) = (edge(kafka, &broker), [cloud(kafka, &database), cloud(kafka, &database)]);
    for cloud in &clouds {
        cloud.wait_status("both hosts to have partitions", |status| {
            (1..=3).contains(&status.sources[0].lag.len()).then_some(())
        });
    }
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(load(5_000));
    let began_us = now_us();
    let untimed: Vec<Message> = (0..20).map(|number| untimed(&broker, number)).collect();
    let sent = (publisher.sent().len() + untimed.len()) as u64;
    let status = edge.wait_settled(sent);
    let ended_us = now_us();
    status.assert_balanced("the edge");
    assert_eq!((status.messages.stored, status.messages.dead_lettered), (sent, 0), "{status:?}");
    edge.wait_drained("raw");
    assert_eq!(bridged(&edge.status()), Some(sent));
    assert!(edge.dead_letters().is_empty());
    wait_for("both hosts to have all between them", DEADLINE, || {
        let both = clouds.each_ref().map(|cloud| cloud.status().messages);
        let done = both.iter().map(|messages| messages.received).sum::<u64>() >= sent;
        if done { Ok(()) } else { Err(format!("{both:?}; {}; {}", clouds[0].tail(), clouds[1].tail())) }
    });
    let mut letters = Vec::new();
    for cloud in &clouds {
        let status = cloud.wait_settled(0);
        status.assert_balanced("the cloud");
        assert!(status.points.stored > 0, "a host of the group stored nothing: {status:?}");
        cloud.wait_drained("db");
        letters.extend(cloud.dead_letters());
    }
    let rows = database.rows();
    Account::of(publisher.sent().iter().chain(&untimed), rows.clone(), &letters).assert_exact("bridged raw");
    let headers = headers(kafka, sent);
    for (number, message) in untimed.iter().enumerate() {
        let its = &headers[&message.topic];
        assert_eq!(its["site"], format!("north {number}"));
        let received: i64 = its["tidegate.received_us"].parse().unwrap();
        let row = rows.iter().find(|row| row.topic == message.topic).unwrap();
        assert_eq!(row.time_us, Some(received), "{row}");
        assert!((began_us..=ended_us).contains(&received), "{began_us} ≤ {received} ≤ {ended_us}");
    }
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
