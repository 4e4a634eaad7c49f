//! What goes in comes out: once, and byte for byte.

use tidegate_tests::{
    Account, DEADLINE, Host, Kafka, Messages, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, fleet, readings,
    wait_for,
};

const MESSAGES: u64 = 10_000;
const TOPICS: u64 = 1_000;
/// Guarantees: 10,000 QoS 1 messages on 1,000 topics by MQTT 3.1.1 are 10,000 rows in SQLite, byte for byte; the ledger
/// balances; all are acknowledged, so that none comes again.
#[test]
fn mqtt_3_to_sqlite() {
    mqtt_to_sqlite(Protocol::V3);
}

/// Guarantees: the same by MQTT 5.
#[test]
fn mqtt_5_to_sqlite() {
    mqtt_to_sqlite(Protocol::V5);
}

fn mqtt_to_sqlite(protocol: Protocol) {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = Setup::new().mqtt(&broker, protocol, r#"["dev/#"]"#, "").module("json-reading").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..MESSAGES, TOPICS));
    assert_all_decoded(&host, "through MQTT");
    assert_eq!(host.rows().len() as u64, MESSAGES);
    host.account(publisher.sent()).assert_exact("through MQTT");

    assert!(host.stop().success(), "a quiet host ends well");
    host.start_again();
    publisher.deliver(readings(MESSAGES..MESSAGES + 1, TOPICS));
    host.wait_rows(MESSAGES + 1);
    assert_eq!(host.status().messages.received, 1, "only what is new comes after a restart");
    host.account(publisher.sent()).assert_exact("after a restart");
}

fn assert_all_decoded(host: &Host, what: &str) {
    let status = host.wait_settled(MESSAGES);
    let all = Messages {
        received: MESSAGES,
        decoded: MESSAGES,
        stored: 0,
        filtered: 0,
        dead_lettered: 0,
        dropped: 0,
        in_flight: 0,
        returned: status.messages.returned,
        repeated: 0,
    };
    assert_eq!(status.messages, all, "{what}");
    assert_eq!((status.points.produced, status.points.stored), (MESSAGES, MESSAGES), "{what}");
    status.assert_balanced(what);
    assert!(host.dead_letters().is_empty(), "{what}: {:?}", host.dead_letters().first());
}

/// Guarantees: 10,000 QoS 1 messages are 10,000 rows in PostgreSQL, byte for byte, in tables the host made itself.
#[test]
fn mqtt_to_postgresql() {
    let (Some(broker), Some(postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"", postgres.url()))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..MESSAGES, TOPICS));
    assert_all_decoded(&host, "into PostgreSQL");
    host.wait_drained("db");
    let rows = postgres.rows();
    assert_eq!(rows.len() as u64, MESSAGES);
    Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("into PostgreSQL");
}

/// Guarantees: 10,000 Kafka records whose keys are their topics are 10,000 rows, byte for byte, though the host is stopped
/// and started in the middle.
#[test]
fn kafka_to_sqlite() {
    let mut kafka = Kafka::start("telemetry", 4);
    let mut host = Setup::new().kafka(&kafka, "telemetry").module("json-reading").start();
    kafka.deliver(readings(0..MESSAGES / 2, TOPICS));
    host.wait_rows(1);
    assert!(host.stop().success(), "it drains and ends well; {}", host.tail());
    kafka.deliver(readings(MESSAGES / 2..MESSAGES, TOPICS));
    host.start_again();
    host.wait_rows(MESSAGES);
    let status = host.wait_settled(1);
    status.assert_balanced("from Kafka");
    host.account(kafka.sent()).assert_exact("from Kafka");
}

/// Guarantees: Kafka records that were taken and not stored when the host was killed are delivered again.
#[test]
fn kafka_killed() {
    let mut kafka = Kafka::start("telemetry", 2);
    let mut host = Setup::new().kafka(&kafka, "telemetry").module("json-reading").start();
    kafka.deliver(readings(0..2_000, 100));
    host.wait_rows(1);
    host.kill();
    kafka.deliver(readings(2_000..4_000, 100));
    host.start_again();
    wait_for("all rows", DEADLINE, || {
        let account = host.account(kafka.sent());
        if account.complete() { Ok(()) } else { Err(account.to_string()) }
    });
    host.account(kafka.sent()).assert_nothing_lost("from Kafka, killed");
}

/// Guarantees: objects of several fields become one point a leaf, and one message in the ledger.
#[test]
fn fleet_fields() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["users/#"]"#, "").module("json-fields").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(fleet(0..1_000, 90));
    let status = host.wait_settled(1_000);
    assert_eq!((status.messages.decoded, status.points.stored), (1_000, 4_000));
    host.account(publisher.sent()).assert_exact("fleet");
}

/// Guarantees: two connections in one `$share` group handle each message once between them, and both have a part in it.
#[test]
fn shared_subscription() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "share = \"hosts\"\nconnections = 2")
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..2_000, 100));
    let status = host.wait_settled(2_000);
    assert_eq!(status.messages.received, 2_000);
    host.account(publisher.sent()).assert_exact("shared");
    assert_eq!(connections_of(host.pid(), broker.port()), 2, "two connections to the broker");
}

/// How many TCP connections of a process to a port of 127.0.0.1 stand (Linux, /proc).
fn connections_of(pid: u32, port: u16) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = links
        .flatten()
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    // sl local_address rem_address st … inode; addresses are hex, 01 is ESTABLISHED.
    let remote = format!("0100007F:{port:04X}");
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|f| f.len() > 9 && f[2] == remote && f[3] == "01" && sockets.iter().any(|s| s == f[9])).count()
}
