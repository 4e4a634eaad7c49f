//! The durable queue in front of a sink: acknowledged while the database is away, and all there when it is back.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tidegate_tests::{
    Account, DEADLINE, Heard, Host, Listener, Message, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, Status,
    binary, plain, readings, wait_for,
};

/// What every record on disk begins with.
const MAGIC: &[u8] = b"\x89TGspl\r\n";

fn setup(broker: &Mosquitto, postgres: &Postgres) -> Setup {
    Setup::new()
        .mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"", postgres.url()))
        .module("json-reading")
}

/// Waits until the host has received so many messages since it was started and has settled them all, with its database away.
fn settled_without_a_database(host: &Host, messages: u64) -> Status {
    let status = host.wait_settled(messages);
    status.assert_balanced("with the database away");
    assert!(status.spool("db").rows > 0, "{status:?}");
    status
}

fn all_there(host: &Host, postgres: &Postgres, sent: &[Message]) -> Account {
    let account = wait_for("all that was sent", DEADLINE, || {
        let account = Account::of(sent, postgres.rows(), &host.dead_letters());
        if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
    });
    host.wait_status("the spool to be empty", |status| (status.spool("db").records == 0).then_some(()));
    account
}

fn tidegate(host: &Host, arguments: &[&str]) -> (Option<i32>, String) {
    let data_dir = host.data_dir();
    let spool = Command::new(binary()).arg("spool").args(arguments).arg("--data-dir").arg(data_dir).output().unwrap();
    let text = String::from_utf8(spool.stdout).unwrap() + &String::from_utf8(spool.stderr).unwrap();
    (spool.status.code(), text)
}

/// What was appended is no more than before, since the database works; unless a busy machine had a write take long.
fn assert_bypassed(host: &Host, before: u64) {
    let appended = host.status().spool("db").appended;
    assert!(appended == before || host.log().contains("a write takes long"), "{appended} appended, {before} before");
}

/// Guarantees: a database that crashes under load holds no source back: every message is acknowledged while it is away, the host stays
/// ready and says what is wrong; when it is back everything arrives, each series in order, nothing lost; then it is written
/// directly again.
#[test]
fn database_away_under_load() {
    let (Some(broker), Some(mut postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let host = setup(&broker, &postgres).start();
    let load = Publisher::connect(&broker, Qos::One)
        .load(2_000, |number| plain(&format!("dev/stream/t{}", number % 40), number, number as f64 * 0.5));
    host.wait_status("points to be stored", |status| (status.points.stored > 1_000).then_some(()));
    assert_bypassed(&host, 0);
    postgres.crash();
    host.wait_status("the spool to take what comes", |status| (status.spool("db").rows > 2_000).then_some(()));
    let ready = host.get("/readyz");
    assert!(ready.code == 200 && ready.body.contains("degraded") && ready.body.contains("sink db"), "{ready:?}");
    let metrics = host.get("/metrics").body;
    assert!(metrics.contains("tidegate_spool_rows{sink=\"db\"}"), "{metrics}");
    assert!(metrics.contains("tidegate_sink_holding_back{sink=\"db\"} 0"), "{metrics}");
    let mut publisher = load.end();
    settled_without_a_database(&host, publisher.sent().len() as u64);

    postgres.start_again();
    let account = all_there(&host, &postgres, publisher.sent());
    account.assert_nothing_lost("database away under load");
    println!("{} of {} came twice", account.doubled(), publisher.sent().len());
    // By the transaction that first wrote each point: a later point of a series is never in an earlier one.
    let out_of_order =
        "WITH firsts AS (SELECT topic, time, min(xmin::text::bigint) AS wrote FROM metrics GROUP BY topic, time),
        pairs AS (SELECT wrote, lag(wrote) OVER (PARTITION BY topic ORDER BY time) AS before FROM firsts)
        SELECT count(*) FROM pairs WHERE wrote < before";
    assert_eq!(
        postgres.number(out_of_order),
        Ok(0),
        "points that were written before an earlier one of their series"
    );
    let appended = host.status().spool("db").appended;
    publisher.deliver(readings(0..500, 10));
    all_there(&host, &postgres, publisher.sent());
    assert_bypassed(&host, appended);
    wait_for("the host to be well", DEADLINE, || match host.get("/readyz").body {
        well if well == r#"{"status":"ok"}"# => Ok(()),
        other => Err(other),
    });
    host.wait_settled(1).assert_balanced("database away under load");
}

/// Guarantees: with a database that is down at the start messages are taken all the same; a host killed with a standing spool has them all
/// when it is started again, and writes each once.
#[test]
fn host_killed_with_a_standing_spool() {
    let (Some(broker), Some(mut postgres)) = (Mosquitto::start(), Postgres::prepare()) else { return };
    let mut host = setup(&broker, &postgres).start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..3_000, 100));
    settled_without_a_database(&host, 3_000);
    broker.wait_forgotten(&publisher.sent()[2_999].payload);
    host.kill();
    host.start_again();
    host.wait_status("the spool to be opened", |status| (status.spool("db").rows == 3_000).then_some(()));
    assert_eq!(host.status().messages.received, 0, "the broker has nothing left of them");
    publisher.deliver(readings(3_000..3_100, 100));
    host.wait_settled(100);
    let (code, text) = tidegate(&host, &["list"]);
    assert!(code == Some(0) && text.contains(" 3100 "), "{text}");
    postgres.start_again();
    all_there(&host, &postgres, publisher.sent()).assert_exact("killed with a standing spool");
    assert_eq!(host.status().spool("db").drained, 3_100);
}

/// Guarantees: a shutdown does not wait for a database that is away; and a bit that flips in the spool's file while the host is
/// stopped costs the record it is in: counted, named by `verify`, the rest arrives.
#[test]
fn a_flipped_bit() {
    let (Some(broker), Some(mut postgres)) = (Mosquitto::start(), Postgres::prepare()) else { return };
    let mut host = setup(&broker, &postgres).start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    for part in 1..=4 {
        publisher.deliver(readings((part - 1) * 500..part * 500, 50));
        settled_without_a_database(&host, part * 500);
    }
    let began = Instant::now();
    assert!(host.stop().success());
    // A drain that waited for the database would end with another code, when its time is over.
    println!("stopped within {:?}", began.elapsed());

    assert_eq!(tidegate(&host, &["verify", "db"]).0, Some(0));
    let exported = tidegate(&host, &["export", "db"]).1;
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2_000);
    let file = host.data_dir().join("spool/db.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let records: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(MAGIC)).collect();
    let hit = records[records.len() / 2];
    let number = u64::from_le_bytes(bytes[hit + 16..hit + 24].try_into().unwrap());
    bytes[hit + 100] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();
    let (code, text) = tidegate(&host, &["verify", "db"]);
    assert!(code == Some(1) && text.contains(&format!("record {number}: its checksum does not fit")), "{text}");

    host.start_again();
    postgres.start_again();
    let rest = lines.iter().filter(|line| line["record"] != number).count();
    assert!(rest < 2_000);
    wait_for("all but the damaged record", DEADLINE, || match postgres.number("SELECT count(*) FROM metrics") {
        Ok(found) if found == rest as i64 => Ok(()),
        other => Err(format!("{other:?} of {rest}; {}", host.tail())),
    });
    let status = host.wait_status("the spool to be empty", |s| (s.spool("db").records == 0).then(|| s.clone()));
    assert_eq!((status.spool("db").damaged_records, status.spool("db").drained), (1, rest as u64));
    publisher.deliver(readings(5_000..5_100, 50));
    wait_for("what comes", DEADLINE, || match postgres.number("SELECT count(*) FROM metrics") {
        Ok(found) if found == rest as i64 + 100 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Guarantees: alerts for a broker that is away outlive the host, and are published in order when it is back.
#[test]
fn alerts_outlive_the_host() {
    let (Some(broker), Some(mut away)) = (Mosquitto::start(), Mosquitto::start()) else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.sqlite.store]\n[sinks.mqtt.out]\nurl = \"{}\"", away.url()))
        .module("json-reading")
        .module("threshold")
        .rule("hot", "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n")
        .start();
    away.stop();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver((0..20).map(|number| plain("dev/oven", number, if number % 2 == 0 { 95.0 } else { 20.0 })));
    host.wait_settled(20).assert_balanced("with the alerts' broker away");
    assert!(host.status().spool("out").rows >= 20, "{:?}", host.status().sinks);
    broker.wait_forgotten(&publisher.sent()[19].payload);
    host.kill();
    away.start_again();
    let listener = Listener::start(&away, "alerts/#");
    host.start_again();
    let heard: Vec<Heard> = listener.wait_for(20);
    let transitions: Vec<Value> = heard.iter().map(|heard| heard.json()["transition"].clone()).collect();
    let expected: Vec<&str> = (0..20).map(|number| if number % 2 == 0 { "raised" } else { "cleared" }).collect();
    assert_eq!(transitions, expected);
}
