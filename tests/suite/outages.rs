//! Brokers, databases and the host itself going away in mid-stream.

use tidegate_tests::{
    Account, DEADLINE, Host, Load, Message, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, plain, readings,
    wait_for,
};

fn load(broker: &Mosquitto, rate: u64) -> Load {
    Publisher::connect(broker, Qos::One).load(rate, stream)
}

fn stream(number: u64) -> Message {
    plain(&format!("dev/stream/t{}", number % 40), number, number as f64 * 0.5)
}

fn host(broker: &Mosquitto, protocol: Protocol) -> Host {
    Setup::new().mqtt(broker, protocol, r#"["dev/#"]"#, "").module("json-reading").start()
}

/// Waits until everything sent is there, however often; gives the account.
fn all_there(host: &Host, sent: &[Message]) -> Account {
    wait_for("all that was sent", DEADLINE, || {
        let account = host.account(sent);
        if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
    })
}

/// Guarantees: a broker that is restarted in mid-stream, with its sessions on disk, costs no message, by both versions of
/// MQTT; the host says meanwhile that it is not ready, and finds back by itself.
#[test]
fn broker_restarted() {
    for protocol in [Protocol::V3, Protocol::V5] {
        let Some(mut broker) = Mosquitto::start() else { return };
        let host = host(&broker, protocol);
        let load = load(&broker, 2_000);
        host.wait_rows(500);
        broker.stop();
        host.wait_status("the source to be down", |status| (!status.sources[0].up).then_some(()));
        let ready = host.get("/readyz");
        assert!(ready.code == 503 && ready.body.contains("source plant"), "{ready:?}");
        let before = host.rows().len() as u64;
        broker.start_again();
        host.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
        host.wait_rows(before + 500);
        let publisher = load.end();
        let account = all_there(&host, publisher.sent());
        account.assert_nothing_lost("broker restarted");
        host.wait_settled(1).assert_balanced("broker restarted");
        println!("{protocol:?}: {} of {} came twice", account.doubled(), publisher.sent().len());
    }
}

/// Guarantees: SIGTERM in mid-stream ends the host with code 0 within its time; after each start all that was sent meanwhile
/// is stored, and nothing twice: what was stored was acknowledged before the connection closed.
#[test]
fn host_terminated() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = host(&broker, Protocol::V5);
    // So many that a queue stands at the broker after each start: mosquitto 2.0.11 then sends past the receive maximum, and
    // more acknowledgements than that are due at once.
    let load = load(&broker, 8_000);
    for round in 1..=4 {
        let before = host.rows().len() as u64;
        host.wait_rows(before + 500);
        let status = host.stop();
        assert!(status.success(), "round {round}: {status}");
        host.start_again();
    }
    let publisher = load.end();
    let account = all_there(&host, publisher.sent());
    if host.log().contains("did not take our last acknowledgements in time") {
        // A broker that is too slow for its machine sends them again, and the log says so.
        account.assert_nothing_lost("host terminated");
    } else {
        account.assert_exact("host terminated");
    }
    host.wait_settled(1).assert_balanced("host terminated");
}

/// Guarantees: a host that is killed in mid-stream has acknowledged nothing that it had not stored.
#[test]
fn host_killed() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = host(&broker, Protocol::V3);
    let load = load(&broker, 2_000);
    host.wait_rows(500);
    host.kill();
    host.start_again();
    let publisher = load.end();
    let account = all_there(&host, publisher.sent());
    account.assert_nothing_lost("host killed");
    println!("{} of {} came twice", account.doubled(), publisher.sent().len());
}

/// Guarantees: without a spool, a database that is down when the host starts, and one that crashes in mid-stream, cost no message; the
/// host lives, says why it is not ready, and goes on when the database is back.
#[test]
fn database_down() {
    let (Some(broker), Some(mut postgres)) = (Mosquitto::start(), Postgres::prepare()) else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"\nspool = {{ enabled = false }}", postgres.url()))
        .module("json-reading")
        .launch();
    host.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..3_000, 100));
    not_ready(&host);
    assert_eq!(host.get("/livez").code, 200, "a database that is away is no reason to restart the host");
    assert_eq!(host.status().points.stored, 0);

    postgres.start_again();
    rows(&postgres, 3_000);
    let load = publisher.load(2_000, |number| stream(10_000 + number));
    rows(&postgres, 3_500);
    postgres.crash();
    not_ready(&host);
    postgres.start_again();
    wait_for("the host to be ready", DEADLINE, || match host.get("/readyz") {
        ready if ready.code == 200 => Ok(()),
        ready => Err(format!("{ready:?}")),
    });
    let publisher = load.end();
    let sent = publisher.sent();
    let account = wait_for("all that was sent", DEADLINE, || {
        let account = Account::of(sent, postgres.rows(), &host.dead_letters());
        if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
    });
    account.assert_nothing_lost("database down");
    host.wait_settled(1).assert_balanced("database down");
    println!("{} of {} came twice", account.doubled(), sent.len());
}

fn not_ready(host: &Host) {
    wait_for("the host to be unready", DEADLINE, || {
        let ready = host.get("/readyz");
        if ready.code == 503 && ready.body.contains("sink db") { Ok(()) } else { Err(format!("{ready:?}")) }
    });
}

fn rows(postgres: &Postgres, count: i64) {
    wait_for(&format!("{count} rows in PostgreSQL"), DEADLINE, || {
        match postgres.number("SELECT count(*) FROM metrics") {
            Ok(found) if found >= count => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
