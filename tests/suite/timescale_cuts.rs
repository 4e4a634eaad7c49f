//! The line to the database cut at the worst moments of a transaction, and rows that it cannot take.

use tidegate_tests::{
    Account, DEADLINE, Fault, Host, Message, Mosquitto, Postgres, Protocol, Proxy, Publisher, Qos, Setup, plain,
    readings, wait_for,
};

/// What is published at a time, on topics that the database knows.
const READINGS: u64 = 1_000;
const TOPICS: u64 = 50;

/// What the first bytes of a binary COPY are, and how much of it passes.
const COPY: &[u8] = b"PGCOPY";
const SOME_ROWS: usize = 100;
/// A statement of its own: not the word in `ON COMMIT DELETE ROWS`.
const COMMIT: &[u8] = b"COMMIT\0";

/// A host whose line to the database can be cut.
struct Plant {
    postgres: Postgres,
    line: Proxy,
    host: Host,
    publisher: Publisher,
    _broker: Mosquitto,
}

impl Plant {
    /// With one connection, so that what is on its way is one transaction; and with series that are known, so that the next one is of points.
    fn start(lines: &str) -> Option<Self> {
        let (broker, postgres) = (Mosquitto::start()?, Postgres::start()?);
        let line = Proxy::start(postgres.port());
        let url = postgres.url_by(line.port());
        let host = Setup::new()
            .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
            .toml(&format!("[sinks.timescale.db]\nurl = \"{url}\"\nconnections = 1\n{lines}"))
            .module("json-reading")
            .start();
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(readings(0..TOPICS, TOPICS));
        let plant = Self { postgres, line, host, publisher, _broker: broker };
        plant.all_there("the beginning");
        Some(plant)
    }

    fn rows(&self) -> i64 {
        self.postgres.number("SELECT count(*) FROM metrics").unwrap()
    }

    fn all_there(&self, when: &str) -> Account {
        let account = wait_for(&format!("all that was sent, {when}"), DEADLINE, || {
            let account = Account::of(self.publisher.sent(), self.postgres.rows(), &self.host.dead_letters());
            if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", self.host.tail())) }
        });
        account.assert_nothing_lost(when);
        account
    }

    /// The same when nothing moves any more: what is drained from a spool may come behind all that was due.
    fn at_rest(&self, when: &str) -> Account {
        self.all_there(when);
        self.host.wait_status("the spool to be empty", |status| {
            (status.spool("db").records == 0 && status.sinks[0].down.is_none()).then_some(())
        });
        self.host.wait_settled(self.publisher.sent().len() as u64).assert_balanced(when);
        self.all_there(when)
    }
}

/// Guarantees: a connection that is cut in the middle of a COPY leaves nothing behind, and everything is stored once, with and without
/// `dedupe`.
#[test]
fn within_a_copy() {
    for lines in ["", "dedupe = true"] {
        let Some(mut plant) = Plant::start(lines) else { return };
        for round in 1..=3 {
            plant.line.cut_behind(COPY, SOME_ROWS);
            plant.publisher.deliver(readings(round * READINGS..(round + 1) * READINGS, TOPICS));
            wait_for("the cut to fall", DEADLINE, || if plant.line.armed() { Err("not yet") } else { Ok(()) });
            plant.at_rest("after a cut within COPY").assert_exact("a cut within COPY");
        }
    }
}

/// Guarantees: when the connection ends after COMMIT was sent and before its answer came, nothing is lost; with `dedupe` nothing is stored twice
/// and the repeats are counted, and without it just those are that the transaction held.
#[test]
fn between_commit_and_its_answer() {
    for dedupe in [false, true] {
        let Some(mut plant) = Plant::start(&format!("dedupe = {dedupe}")) else { return };
        let before = plant.rows();
        plant.line.leave_unanswered(COMMIT);
        plant.publisher.deliver(readings(READINGS..2 * READINGS, TOPICS));
        wait_for("COMMIT to be carried out", DEADLINE, || {
            let now = plant.rows();
            if now > before { Ok(()) } else { Err(format!("{now} rows, armed: {}", plant.line.armed())) }
        });
        let committed = usize::try_from(plant.rows() - before).unwrap();
        plant.line.cut();
        plant.line.set(Fault::None);
        let (twice, repeats) = if dedupe { (0, committed) } else { (committed, 0) };
        let account = plant.at_rest("after a cut at COMMIT");
        assert_eq!(account.doubled(), twice, "dedupe = {dedupe}: {account}");
        let counted = plant.host.status().sinks[0].repeats;
        assert_eq!(counted, repeats as u64, "dedupe = {dedupe}");
        println!("dedupe = {dedupe}: of {committed} committed, {twice} are there twice");
    }
}

/// Guarantees: of 5,000 readings the one that the table refuses becomes a dead letter, with its bytes and the database's words; the other
/// 4,999 are stored, once.
#[test]
fn one_bad_row_of_5000() {
    let Some(mut plant) = Plant::start("") else { return };
    plant.postgres.execute("ALTER TABLE metrics ADD CONSTRAINT sane CHECK (value IS DISTINCT FROM 1234.5)");
    let reading = |number| match number {
        3_456 => Message::poison("dev/line0/plc0/other", plain("", number, 1234.5).payload),
        _ => plain("dev/line0/plc0/other", number, number as f64),
    };
    plant.publisher.deliver((10_000..13_000).map(reading));
    plant.publisher.deliver((3_000..5_000).map(reading));
    plant.at_rest("with a bad row").assert_exact("a bad row of 5,000");
    let letters = plant.host.dead_letters();
    assert!(letters[0].reason.contains("\"sane\" (SQLSTATE 23514)"), "{letters:?}");
}

/// Guarantees: readings of the years 1 and 9999, of a time that no `timestamptz` can be, and a text with a NUL never reach the wire: each is a dead
/// letter alone, with its reason, and all beside them is stored.
#[test]
fn strange_times_and_texts() {
    let Some(mut plant) = Plant::start("") else { return };
    let reading = |v: &str, ts: i64| Message::poison("dev/t", format!(r#"{{"v":{v},"ts":{ts}}}"#));
    let before = plant.publisher.sent().len() as u64;
    plant.publisher.deliver([
        plain("dev/t", 1, 1.5),
        reading("1.5", -62_135_596_800_000),
        reading("1.5", 253_402_300_799_000),
        reading("1.5", -300_000_000_000_000),
        reading("\"a\\u0000b\"", 1_703_289_600_000),
        plain("dev/t", 2, 2.5),
    ]);
    plant.at_rest("strange times and texts").assert_exact("strange times and texts");
    assert_eq!(plant.rows() as u64, before + 2);
    let reasons: Vec<String> = plant.host.dead_letters().into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains("its time is before 1970 or after 2262")).count(), 3);
    assert_eq!(reasons.iter().filter(|reason| reason.contains("NUL")).count(), 1, "{reasons:?}");
}
