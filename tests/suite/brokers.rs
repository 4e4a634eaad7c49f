//! What brokers do to their clients: forget them, keep much for them, send them more than they take.

use tidegate_tests::{
    DEADLINE, Expect, Host, Message, Mosquitto, Protocol, Publisher, Qos, Row, Setup, plain, readings, wait_for,
};

fn host(broker: &Mosquitto, protocol: Protocol, lines: &str) -> Host {
    Setup::new().mqtt(broker, protocol, r#"["dev/#"]"#, lines).module("json-reading").start()
}

/// How often the source has lost its connection.
fn failures(host: &Host) -> u64 {
    host.status().sources[0].failures
}

/// Guarantees: a broker that comes back without our session is subscribed to anew; the log says that what it held is gone, so that its
/// loss can be told from ours; what it has taken since is stored, once.
#[test]
fn session_lost() {
    for protocol in [Protocol::V3, Protocol::V5] {
        let Some(mut broker) = Mosquitto::start() else { return };
        let host = host(&broker, protocol, "");
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(readings(0..500, 20));
        host.wait_settled(500);
        // It writes its sessions to disk when it ends in order, and only then.
        broker.kill();
        host.wait_status("the source to be down", |status| (!status.sources[0].up).then_some(()));
        broker.start_again();
        host.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
        publisher.deliver(readings(500..1_000, 20));
        host.wait_settled(1_000).assert_balanced("session lost");
        host.account(publisher.sent()).assert_exact("session lost");
        wait_for("a word about the session", DEADLINE, || {
            let log = host.log();
            if log.contains("did not keep our session") { Ok(()) } else { Err(log) }
        });
    }
}

/// Guarantees: a backlog of 20,000 that the broker has kept for a host that was away is taken at once and in one connection, and each
/// message is stored once.
#[test]
fn backlog() {
    for protocol in [Protocol::V3, Protocol::V5] {
        let Some(broker) = Mosquitto::start() else { return };
        let mut host = host(&broker, protocol, "");
        assert!(host.stop().success());
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(readings(0..20_000, 500));
        host.start_again();
        host.wait_settled(20_000).assert_balanced("backlog");
        assert_eq!(failures(&host), 0, "{protocol:?}: reconnected; {}", host.tail());
        host.account(publisher.sent()).assert_exact("backlog");
    }
}

/// Guarantees: a packet at the limit is stored, one byte more reaches no rule, and no connection ends over it: it is a dead letter that says so,
/// with the beginning of its payload, by both versions of MQTT.
#[test]
fn packets_at_the_limit() {
    const LIMIT: usize = 4_096;
    for protocol in [Protocol::V3, Protocol::V5] {
        let Some(broker) = Mosquitto::start() else { return };
        let host = host(&broker, protocol, &format!("max_packet_bytes = {LIMIT}"));
        let mut publisher = Publisher::connect(&broker, Qos::One);
        // What the limit counts besides the payload: all that follows the packet's length (topic and packet id, by 5 properties too).
        let around = "dev/x".len() + 2 + 2 + if protocol == Protocol::V3 { 0 } else { 1 };
        let (largest, larger) = (text(LIMIT - around), text(LIMIT - around + 1));
        publisher.deliver([larger.clone(), largest.clone(), plain("dev/after", 1, 1.0)]);
        host.wait_rows(2);
        let letters = wait_for("the dead letter", DEADLINE, || match host.dead_letters() {
            letters if letters.is_empty() => Err("none yet"),
            letters => Ok(letters),
        });
        host.wait_settled(3).assert_balanced("packets at the limit");
        assert_eq!(failures(&host), 0, "{protocol:?}: reconnected; {}", host.tail());
        assert!(letters[0].reason.contains("max_packet_bytes"), "{protocol:?}: {letters:?}");
        let due = [largest, plain("dev/after", 1, 1.0), Message::poison("dev/x", &larger.payload[..1_024])];
        host.account(&due).assert_exact("packets at the limit");
    }
}

/// Guarantees: a filter that is removed from the configuration while the host is stopped is taken back from the session that stands. What came by it until
/// then is taken, and the log says where it comes from; what is published afterwards is not.
#[test]
fn filter_removed() {
    let Some(broker) = Mosquitto::start() else { return };
    let setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#", "flood/#"]"#, "");
    let mut host = setup.module("json-reading").start();
    assert!(host.stop().success());
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver([plain("flood/x", 1, 1.0), plain("dev/a", 1, 1.0)]);
    host.replace_in_config(r#", "flood/#""#, "");
    host.start_again();
    let status = host.wait_settled(2);
    assert_eq!((status.messages.decoded, status.messages.dead_lettered), (1, 1));
    wait_for("the subscription to be taken back", DEADLINE, || {
        let log = host.log();
        let said = ["were taken back", "none of `topics` asks for"].iter().all(|words| log.contains(words));
        if said { Ok(()) } else { Err(log) }
    });
    publisher.deliver([plain("flood/x", 2, 2.0), plain("dev/a", 2, 2.0)]);
    assert_eq!(host.wait_settled(3).messages.received, 3);
}

/// A reading of a text, of so many bytes in all.
fn text(bytes: usize) -> Message {
    let time_ms = 1_700_000_000_000_i64;
    let around = format!("{{\"v\":\"\",\"ts\":{time_ms}}}").len();
    let text = "x".repeat(bytes - around);
    let row = Row {
        topic: "dev/x".to_owned(),
        time_us: Some(time_ms * 1_000),
        value: None,
        text: Some(text.clone()),
        quality: 192,
        unit: None,
    };
    let payload = format!("{{\"v\":\"{text}\",\"ts\":{time_ms}}}").into_bytes();
    Message { topic: "dev/x".to_owned(), payload, expect: Expect::Rows(vec![row]) }
}
