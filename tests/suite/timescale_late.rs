//! Points for chunks that may be compressed, beside all others.

use tidegate_tests::{DEADLINE, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, wait_for};

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

/// Guarantees: while late rows wait within the database, what is measured now is stored and acknowledged; they themselves are acknowledged when they are stored,
/// each once, and are told of apart.
#[test]
fn late_rows_hold_nobody_up() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    let noon = |days_ago: u64| now_ms() / DAY_MS * DAY_MS - days_ago * DAY_MS + DAY_MS / 2;
    database.execute(CHUNKS);
    let end = format!("to_timestamp({})", (now_ms() / DAY_MS - 10) * DAY_MS / 1_000);
    database.execute(&format!("CREATE TABLE old PARTITION OF metrics FOR VALUES FROM (MINVALUE) TO ({end})"));
    database.execute("CREATE TRIGGER waiting BEFORE INSERT ON old FOR EACH ROW EXECUTE FUNCTION wait()");
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{}\"\nconnections = 2\nstatement_timeout_s = 600\nspool = {{ enabled = false }}",
            database.url()
        ))
        .module("json-reading")
        .start();
    let recent = |count: i64| {
        wait_for(&format!("{count} rows that are not old"), DEADLINE, || {
            match database.number("SELECT count(*) FROM recent") {
                Ok(found) if found == count => Ok(()),
                other => Err(format!("{other:?}; {}", host.tail())),
            }
        });
    };
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // From the first write on it is known which rows are late.
    publisher.deliver(seconds(noon(1), 10));
    recent(10);
    publisher.deliver(seconds(noon(20), 10));
    host.wait_status("the late ones to be on the way", |status| (status.messages.in_flight == 10).then_some(()));
    publisher.deliver(seconds(noon(1) + 10_000, 10));
    recent(20);
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
