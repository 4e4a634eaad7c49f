//! Limits on how fast messages may come, and more coming than can be written.

use std::time::{Duration, Instant};

use tidegate_tests::{
    DEADLINE, Expect, Fault, Host, Message, Mosquitto, Postgres, Protocol, Proxy, Publisher, Qos, Setup, memory_kib,
    plain, wait_for,
};

fn host(broker: &Mosquitto, limit: &str) -> Host {
    let limit = format!("limit = {{ {limit} }}");
    Setup::new().mqtt(broker, Protocol::V5, r#"["dev/#"]"#, &limit).module("json-reading").start()
}

fn stream(topic: &str, count: u64) -> Vec<Message> {
    (0..count).map(|number| plain(topic, number, number as f64)).collect()
}

/// Guarantees: messages that a limit holds wait and are lost nowhere: they are stored at the limit's rate, once each, and a host that is
/// told to end meanwhile ends in its time, leaving what waits with the broker.
#[test]
fn held() {
    const COUNT: u64 = 1_200;
    let Some(broker) = Mosquitto::start() else { return };
    // What is held takes far longer at that rate than a shutdown may.
    let limit = "limit = { messages_per_s = 1, burst = 200 }";
    let setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, limit).module("json-reading");
    let mut host = setup.line("shutdown_timeout_s = 30").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(stream("dev/a", COUNT));
    host.wait_rows(200);
    assert!(host.stop().success(), "{}", host.tail());
    let left = COUNT - host.rows().len() as u64;
    assert!(left > 700, "{left} were held");
    host.replace_in_config("messages_per_s = 1,", "messages_per_s = 300,");
    let began = Instant::now();
    host.start_again();
    host.wait_rows(COUNT);
    // But for what the limit lets through at once.
    let least = Duration::from_secs_f64((left - 200) as f64 / 300.0);
    assert!(began.elapsed() >= least, "{:?} for what takes {least:?}", began.elapsed());
    host.account(publisher.sent()).assert_exact("held");
    host.wait_settled(1).assert_balanced("held");
}

/// Guarantees: what is dropped beyond a limit is acknowledged and counted, message by message; what is within is stored.
#[test]
fn dropped() {
    const COUNT: u64 = 500;
    let Some(broker) = Mosquitto::start() else { return };
    let host = host(&broker, "messages_per_s = 1, burst = 100, excess = \"drop\"");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(stream("dev/a", COUNT));
    let status = host.wait_settled(COUNT);
    status.assert_balanced("dropped");
    let m = status.messages;
    assert_eq!((m.received, m.decoded + m.dropped), (COUNT, COUNT), "{m:?}");
    assert!(m.decoded >= 100 && m.dropped > 0, "{m:?}");
    assert_eq!(host.rows().len() as u64, m.decoded);
    let metrics = host.get("/metrics").body;
    let line = format!("line=\"dropped\"}} {}", m.dropped);
    assert!(metrics.contains(&line), "no {line} in {metrics}");
}

/// Guarantees: a device that runs wild goes to the dead letters beyond its own limit, with the reason and to the byte, and takes nothing
/// from the others.
#[test]
fn wild_prefix() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = host(&broker, "prefix = { levels = 2, messages_per_s = 1, burst = 50, excess = \"dead_letter\" }");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let mixed = stream("dev/wild/x", 400).into_iter().chain(stream("dev/calm/x", 40));
    publisher.deliver(mixed);
    host.wait_settled(440).assert_balanced("wild prefix");
    let letters = host.dead_letters();
    assert!(letters.len() >= 300, "{} letters", letters.len());
    for letter in &letters {
        assert_eq!(letter.topic, "dev/wild/x", "{letter:?}");
        assert!(letter.reason.contains("`limit`"), "{letter:?}");
    }
    // What became a letter was due as a row: told of the account as what it is.
    let dead: std::collections::BTreeSet<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
    let sent = publisher.sent().iter().map(|message| {
        let poisoned = message.topic == "dev/wild/x" && dead.contains(&message.payload);
        if poisoned { Message::poison(&message.topic, message.payload.clone()) } else { message.clone() }
    });
    host.account(&sent.collect::<Vec<_>>()).assert_exact("wild prefix");
}

/// Guarantees: when far more comes than the database takes, the host's memory stays bounded and the broker keeps the rest; when the
/// database is quick again, all is stored within a minute, once each.
#[test]
fn overload() {
    const COUNT: u64 = 20_000;
    const TEXT_BYTES: usize = 16 << 10;
    // Queues, windows, a write and its encoding hold some 200 MiB of such texts. The backlog in memory would be twice this: as messages, and as
    // points.
    const MOST_GROWTH_KIB: u64 = (COUNT * TEXT_BYTES as u64) >> 10;
    let (Some(broker), Some(postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let line = Proxy::start(postgres.port());
    // Without a spool, so that it is the broker that keeps the rest.
    let url = postgres.url_by(line.port());
    let sink = format!("[sinks.timescale.db]\nurl = \"{url}\"\nspool = {{ enabled = false }}");
    let host =
        Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").toml(&sink).module("json-reading").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(stream("dev/warm", 100));
    host.wait_settled(100);
    let before = memory_kib(&host.pid().to_string(), "VmRSS");
    // 16 KiB every 100 ms and connection: a small part of what the publisher sends.
    line.set(Fault::Delayed(Duration::from_millis(100)));
    publisher.deliver((0..COUNT).map(|number| long_text(number, TEXT_BYTES)));
    let stored = host.status().points.stored;
    assert!(stored < COUNT / 5, "the database was too quick for an overload: {stored} are stored");
    line.set(Fault::None);
    let due = (COUNT + 100) as i64;
    wait_for("all rows", DEADLINE, || match postgres.number("SELECT count(*) FROM metrics") {
        Ok(rows) if rows >= due => Ok(()),
        other => Err(format!("{other:?}; {}", host.tail())),
    });
    let grown = memory_kib(&host.pid().to_string(), "VmHWM").saturating_sub(before);
    assert!(grown < MOST_GROWTH_KIB, "{grown} KiB more than before, of {MOST_GROWTH_KIB} KiB of texts alone");
    host.wait_settled(COUNT).assert_balanced("overload");
    for (what, sql) in [
        ("rows", "SELECT count(*) FROM metrics"),
        ("rows that differ", "SELECT count(DISTINCT (topic, time)) FROM metrics"),
    ] {
        assert_eq!(postgres.number(sql).unwrap(), due, "{what}");
    }
    let short = format!("SELECT count(*) FROM metrics WHERE length(value_str) <> {TEXT_BYTES}");
    assert_eq!(postgres.number(&short).unwrap(), 0, "texts that were cut");
}

/// A reading of a long text. What must come of it is for the test to say: to keep all those rows would be too much.
fn long_text(number: u64, bytes: usize) -> Message {
    let time_ms = 1_700_000_000_000 + number;
    let payload = format!("{{\"v\":\"{number:0bytes$}\",\"ts\":{time_ms}}}");
    Message { topic: format!("dev/long/{}", number % 10), payload: payload.into(), expect: Expect::Rows(Vec::new()) }
}
