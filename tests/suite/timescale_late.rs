//! Points for chunks that may be compressed, beside all others.

use tidegate_tests::{DEADLINE, Host, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, wait_for};

use crate::timescale::{DAY_MS, now_ms, seconds};

/// As many sessions as wanted, which the extension as WebAssembly has not: PostgreSQL's partitions stand for chunks, and TimescaleDB's views say so. What is
/// inserted into the old ones waits until there is a row in `gate`.
const CHUNKS: &str = "CREATE TABLE metrics (time timestamptz NOT NULL, topic text NOT NULL, value double precision, value_str text, \
    quality smallint, unit text) PARTITION BY RANGE (time); \
    CREATE TABLE recent PARTITION OF metrics DEFAULT; \
    CREATE SCHEMA timescaledb_information; \
    CREATE VIEW timescaledb_information.dimensions AS SELECT 'public' AS hypertable_schema, 'metrics' AS hypertable_name, \
    1 AS dimension_number, INTERVAL '1 day' AS time_interval; \
    CREATE VIEW timescaledb_information.jobs AS SELECT 'public' AS hypertable_schema, 'metrics' AS hypertable_name, \
    'policy_compression' AS proc_name, '{\"compress_after\": \"7 days\"}'::jsonb AS config; \
    CREATE TABLE gate (open int); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NEW; END $$";

fn noon(days_ago: u64) -> u64 {
    now_ms() / DAY_MS * DAY_MS - days_ago * DAY_MS + DAY_MS / 2
}

/// A host with two connections to such a database, and with these further settings.
fn start(broker: &Mosquitto, database: &Postgres, settings: &str) -> Host {
    database.execute(CHUNKS);
    let end = format!("to_timestamp({})", (now_ms() / DAY_MS - 10) * DAY_MS / 1_000);
    database.execute(&format!("CREATE TABLE old PARTITION OF metrics FOR VALUES FROM (MINVALUE) TO ({end})"));
    database.execute("CREATE TRIGGER waiting BEFORE INSERT ON old FOR EACH ROW EXECUTE FUNCTION wait()");
    let url = database.url();
    Setup::new()
        .mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{url}\"\nconnections = 2\nstatement_timeout_s = 600\n{settings}"
        ))
        .module("json-reading")
        .start()
}

/// Waits until the table has so many rows.
fn wait_rows(database: &Postgres, host: &Host, table: &str, count: i64) {
    wait_for(&format!("{count} rows in {table}"), DEADLINE, || {
        match database.number(&format!("SELECT count(*) FROM {table}")) {
            Ok(found) if found == count => Ok(()),
            other => Err(format!("{other:?}; {}", host.tail())),
        }
    });
}

/// Guarantees: while late rows wait within the database, what is measured now is stored and acknowledged; they themselves are acknowledged when they are stored,
/// each once, and are told of apart.
#[test]
fn late_rows_hold_nobody_up() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    let host = start(&broker, &database, "spool = { enabled = false }");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // From the first write on it is known which rows are late.
    publisher.deliver(seconds(noon(1), 10));
    wait_rows(&database, &host, "recent", 10);
    publisher.deliver(seconds(noon(20), 10));
    host.wait_status("the late ones to be on the way", |status| (status.messages.in_flight == 10).then_some(()));
    publisher.deliver(seconds(noon(1) + 10_000, 10));
    wait_rows(&database, &host, "recent", 20);
    host.wait_status("all but those to be settled", |status| (status.messages.in_flight == 10).then_some(()));
    assert_eq!(database.number("SELECT count(*) FROM old").unwrap(), 0);

    database.execute("INSERT INTO gate VALUES (1)");
    let status = host.wait_settled(30);
    status.assert_balanced("late rows");
    for table in ["old", "recent"] {
        let rows = format!("SELECT 100 * count(*) + count(DISTINCT time) FROM {table}");
        let wanted = if table == "old" { 1_010 } else { 2_020 };
        assert_eq!(database.number(&rows).unwrap(), wanted, "{table}");
    }
    let told: Vec<_> = status.sinks.iter().map(|sink| (&*sink.name, sink.points, sink.late)).collect();
    assert_eq!(told[..2], [("db", 20, 0), ("db.late", 10, 10)], "{told:?}");
}

/// Guarantees: late rows that stand in their spool when the sink is set to have no way of their own for them are told of, with what would store them; and that does.
#[test]
fn late_rows_left_behind() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    let mut host = start(&broker, &database, "");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(seconds(noon(1), 10));
    wait_rows(&database, &host, "recent", 10);
    publisher.deliver(seconds(noon(20), 10));
    host.wait_status("the late ones to be spooled", |status| (status.spool("db.late").rows == 10).then_some(()));
    host.wait_settled(20);
    broker.wait_forgotten(&publisher.sent()[19].payload);
    host.kill();

    host.replace_in_config("connections = 2", "connections = 1");
    host.start_again();
    let log = host.log();
    let told =
        log.lines().find(|line| line.contains("rows stand in a spool that no sink empties")).unwrap_or_default();
    assert!(told.contains("late rows of sink db,") && told.contains("tidegate spool export db.late"), "{log}");

    host.kill();
    host.replace_in_config("connections = 1", "connections = 2");
    database.execute("INSERT INTO gate VALUES (1)");
    host.start_again();
    wait_rows(&database, &host, "old", 10);
}
