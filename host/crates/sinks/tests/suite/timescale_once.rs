//! The TimescaleDB sink with `dedupe = true`: effectively once by topic and time; and with `exactly_once`: by the messages' positions.

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::{Offsets, Repeats, TimescaleSink};
use tidegate_model::{
    Books, Clock as _, Delivery, Log, NO_ROW, Position, Sink, SinkError, Stored as _, SystemClock, Written,
};
use tidegate_sinks::{SourcePositions, Timescale};

use crate::pgbouncer::PgBouncer;
use crate::postgres::Postgres;
use crate::{T0, alerts, points};

fn once(server: &Postgres) -> TimescaleSink {
    TimescaleSink { repeats: Repeats::Dropped, ..server.settings("postgres") }
}

fn sums(written: &Written) -> (u64, u64, u64) {
    (written.points, written.repeats, written.differing)
}

/// Guarantees: a point whose topic and time are stored is counted and left out, in another write or within one; one with another value is
/// counted apart, and the value that was there first stays. A number, a text and their absence are told apart.
#[tokio::test]
async fn repeats_are_counted_and_left_out() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(once(&server), Arc::clone(&books));
    let first = [
        ("a", None, 0, 1.0, None),
        ("a", None, 1, 2.0, None),
        ("b", None, 0, f64::NAN, None),
        ("c", None, 0, f64::NAN, Some(&b"on"[..])),
    ];
    let delivery = Arc::new(points(&books, &first));
    assert_eq!(sums(&sink.write(&[Arc::clone(&delivery), alerts(0, 1)]).await.unwrap()), (4, 0, 0));
    assert_eq!(sums(&sink.write(&[Arc::clone(&delivery)]).await.unwrap()), (4, 4, 0));
    let second = [
        ("a", None, 0, 9.0, None),
        ("a", None, 2, 3.0, None),
        ("a", None, 2, 3.0, None),
        ("a", None, 2, 4.0, None),
        ("b", None, 0, 0.0, None),
        ("c", None, 0, f64::NAN, Some(&b"off"[..])),
    ];
    assert_eq!(sums(&sink.write(&[Arc::new(points(&books, &second))]).await.unwrap()), (6, 5, 4));
    let client = server.client().await;
    let there = client.query("SELECT topic, value FROM metrics ORDER BY topic, time", &[]).await.unwrap();
    let there: Vec<(String, Option<f64>)> = there.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [("a", Some(1.0)), ("a", Some(2.0)), ("a", Some(3.0)), ("b", None), ("c", None)];
    assert_eq!(there, expected.map(|(topic, value)| (topic.to_owned(), value)));
}

/// Guarantees: a bad row in 5,000 of which 2,000 are repeats is found alone, in whichever part; all others are stored once.
#[tokio::test]
async fn a_bad_row_among_repeats_is_found() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let mut settings = once(&server);
    settings.max_rows = Some(700);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let delivery = |from: i64, to: i64| {
        let topics: Vec<String> = (0..8).map(|i| format!("t{i}")).collect();
        let rows: Vec<_> = (from..to).map(|i| (topics[i as usize % 8].as_str(), None, i, i as f64, None)).collect();
        Arc::new(points(&books, &rows))
    };
    sink.write(&[delivery(0, 2_000)]).await.unwrap();
    client.batch_execute("ALTER TABLE metrics ADD CHECK (value <> 3456)").await.unwrap();
    let written = sink.write(&[delivery(0, 1_000), delivery(1_000, 5_000)]).await.unwrap();
    assert_eq!(sums(&written), (4_999, 2_000, 0));
    assert_eq!((written.rejected.len(), written.rejected[0].delivery, written.rejected[0].row), (1, 1, 2_456));
    let count: i64 = client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0);
    assert_eq!(count, 4_999);
}

/// Guarantees: without a unique index repeats cannot be told, which is said with what to do; one on other columns, or a partial one, is not
/// taken for it; a primary key will do, on columns of any name.
#[tokio::test]
async fn it_needs_a_unique_index() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    client
        .batch_execute(
            "CREATE TABLE raw_telemetry (ts timestamptz, tag text, v float8, value_str text, quality int2, unit text);
             CREATE UNIQUE INDEX ON raw_telemetry (tag, ts, unit); CREATE UNIQUE INDEX ON raw_telemetry (tag, ts) WHERE v > 0",
        )
        .await
        .unwrap();
    let mut settings = once(&server);
    settings.names.table = "raw_telemetry".to_owned();
    let columns = &mut settings.names.columns;
    (columns.time, columns.topic, columns.value) = ("ts".to_owned(), "tag".to_owned(), "v".to_owned());
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let delivery = [Arc::new(points(&books, &[("a", None, 0, 1.0, None)]))];
    let refused = sink.write(&delivery).await;
    assert!(
        matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("(\"tag\", \"ts\")") && text.contains("migrate")),
        "{refused:?}"
    );
    client.batch_execute("ALTER TABLE raw_telemetry ADD PRIMARY KEY (ts, tag)").await.unwrap();
    sink.write(&delivery).await.unwrap();
    assert_eq!(sums(&sink.write(&delivery).await.unwrap()), (1, 1, 0));
}

/// Messages at these offsets of the log of partition 0, read behind what is stored up to `after`; each gives a point of its offset as value, and behind them
/// comes a point of no message, of the value -1.
pub fn logged(books: &Books, offsets: std::ops::Range<i64>, after: i64) -> Delivery {
    logged_of(books, 0, offsets, after)
}

/// The same of another partition.
fn logged_of(books: &Books, partition: i32, offsets: std::ops::Range<i64>, after: i64) -> Delivery {
    let rows: Vec<_> = offsets.clone().map(|offset| ("a", None, offset, offset as f64, None)).collect();
    let mut of = points(books, &[rows, vec![("b", None, offsets.end, -1.0, None)]].concat());
    let log = Arc::new(Log { cluster: "c".into(), group: "g".into(), topic: "t".into(), partition });
    let mut after = after;
    for (row, offset) in (0..).zip(offsets) {
        of.positions.push(row, &log, Position { offset, after });
        of.from_row.push(row);
        after = offset + 1;
    }
    of.from_row.push(NO_ROW);
    of
}

/// Guarantees: what the database refuses is told again when its message comes again after the others were committed, as when the host died, or lost
/// the connection, before anybody heard of it; what is stored is not taken for refused, whatever constraints find it in its own way, and
/// is not stored twice.
#[tokio::test]
async fn what_was_refused_is_told_again() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    for (repeats, constraint) in [
        (Repeats::Stored, "ADD CHECK (value NOT IN (0, 70, 250))"),
        (Repeats::Stored, "ADD CONSTRAINT own UNIQUE (topic, time, value), ADD CHECK (value NOT IN (0, 70, 250))"),
        (Repeats::Dropped, "ADD CHECK (value NOT IN (0, 70, 250))"),
    ] {
        client.batch_execute("DROP TABLE IF EXISTS metrics, source_positions").await.unwrap();
        let books = Arc::new(Books::new(9));
        let settings = TimescaleSink {
            repeats,
            offsets: Offsets::WithPoints,
            max_rows: Some(100),
            ..server.settings("postgres")
        };
        let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
        sink.write(&[Arc::new(logged(&books, 0..0, 0))]).await.unwrap();
        client.batch_execute(&format!("ALTER TABLE metrics {constraint}")).await.unwrap();
        let rejected = |written: &Written| written.rejected.iter().map(|of| of.row).collect::<Vec<_>>();
        let delivery = || [Arc::new(logged(&books, 0..300, 0))];
        let first = sink.write(&delivery()).await.unwrap();
        assert_eq!((rejected(&first), sums(&first)), (vec![0, 70, 250], (298, 0, 0)), "{repeats:?} {constraint}");

        // Another host, which knows nothing; half of what it gets is new.
        client.batch_execute("DELETE FROM metrics WHERE value = -1").await.unwrap();
        let mut sink = Timescale::new(settings, Arc::clone(&books));
        let again = sink.write(&[Arc::new(logged(&books, 0..600, 0))]).await.unwrap();
        assert_eq!((rejected(&again), sums(&again)), (vec![0, 70, 250], (598, 297, 0)), "{repeats:?} {constraint}");
        let there = client.query_one("SELECT count(*), count(DISTINCT value) FROM metrics", &[]).await.unwrap();
        assert_eq!((there.get::<_, i64>(0), there.get::<_, i64>(1)), (598, 598), "{repeats:?} {constraint}");
    }
}

/// Guarantees: a point that was too far ahead when its record came first, and is not when that comes again since the host died before it told, is told then.
#[tokio::test]
async fn what_was_too_far_ahead_is_told_again() {
    const DAY_US: i64 = 86_400_000_000;
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let now = SystemClock.now_us() - T0;
    let settings = TimescaleSink { offsets: Offsets::WithPoints, ..server.settings("postgres") };
    let strict = TimescaleSink { ahead: Some(Duration::from_secs(355 * 86_400)), ..settings.clone() };
    let far = || {
        let mut of = points(&books, &[("a", None, now, 1.0, None), ("a", None, now + 360 * DAY_US, 2.0, None)]);
        let log = Arc::new(Log { cluster: "c".into(), group: "g".into(), topic: "t".into(), partition: 0 });
        for row in 0..2 {
            of.positions.push(row, &log, Position { offset: i64::from(row), after: i64::from(row) });
            of.from_row.push(row);
        }
        [Arc::new(of)]
    };
    // As eleven days ago, by the clock of then.
    let written = Timescale::new(strict, Arc::clone(&books)).write(&far()).await.unwrap();
    assert_eq!((written.points, written.rejected.len()), (1, 1));
    let written = Timescale::new(settings, Arc::clone(&books)).write(&far()).await.unwrap();
    assert_eq!((written.points, written.repeats, written.rejected.len()), (1, 1, 1), "{written:?}");
    assert_eq!(written.rejected[0].row, 1);
    assert!(written.rejected[0].reason.contains("comes a second time"), "{written:?}");
    let count: i64 = client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

/// Guarantees: through PgBouncer in transaction mode offsets are stored in the transactions of their points, over several connections, and asked for; what comes again is
/// left out, and no prepared statement stays behind in a pooled session.
#[tokio::test]
async fn offsets_through_pgbouncer() {
    let Some(server) = Postgres::start() else { return };
    let Some(pooler) = PgBouncer::start(&server) else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let settings = TimescaleSink { offsets: Offsets::WithPoints, ..pooler.settings() };
    let stored = SourcePositions::new(settings.clone());
    assert_eq!(stored.next_offsets("c", "g").await.unwrap(), []);
    for to in [2_000, 3_000] {
        // Another host each time, which knows nothing of the one before.
        let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
        sink.write(&[Arc::new(logged(&books, 0..0, 0))]).await.unwrap();
        let both = [0, 1].map(|partition| Arc::new(logged_of(&books, partition, 0..to, 0)));
        sink.write(&both).await.unwrap();
        sink.close().await;
        let mut offsets = stored.next_offsets("c", "g").await.unwrap();
        offsets.sort();
        assert_eq!(offsets, [("t".to_owned(), 0, to), ("t".to_owned(), 1, to)]);
        let of_messages = "SELECT count(*), count(DISTINCT value) FROM metrics WHERE value >= 0";
        let rows = client.query_one(of_messages, &[]).await.unwrap();
        assert_eq!((rows.get::<_, i64>(0), rows.get::<_, i64>(1)), (2 * to, to));
    }
    pooler.assert_nothing_prepared(&server).await;
}

/// Guarantees: where the database has less of a log than it had when messages were read, nothing of them is stored, and that is told; what no
/// message would bring again is stored all the same; and what is read again from where the database is now is stored.
#[tokio::test]
async fn a_database_that_went_back() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let settings = TimescaleSink { offsets: Offsets::WithPoints, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&[Arc::new(logged(&books, 10..20, 0))]).await.unwrap();
    sink.write(&[Arc::new(logged(&books, 20..30, 20))]).await.unwrap();
    client
        .batch_execute("DELETE FROM metrics WHERE value >= 20; UPDATE source_positions SET next_offset = 20")
        .await
        .unwrap();
    client.batch_execute("DELETE FROM metrics WHERE value = -1").await.unwrap();

    let mut behind = logged(&books, 30..40, 30);
    behind.alerts = alerts(0, 1).alerts.clone();
    let refused = sink.write(&[Arc::new(behind)]).await;
    assert!(
        matches!(&refused, Err(SinkError::WentBack(text)) if text.contains("stored up to 30, and is stored up to 20 now")),
        "{refused:?}"
    );
    let counts = "SELECT count(*) FILTER (WHERE value >= 20), count(*) FILTER (WHERE value = -1), \
                  (SELECT count(*) FROM alerts), (SELECT next_offset FROM source_positions) FROM metrics";
    let counts = || async {
        let row = client.query_one(counts, &[]).await.unwrap();
        [0, 1, 2, 3].map(|at| row.get::<_, i64>(at))
    };
    assert_eq!(counts().await, [0, 1, 1, 20]);
    let again = sink.write(&[Arc::new(logged(&books, 20..40, 20))]).await.unwrap();
    assert_eq!(sums(&again), (21, 0, 0));
    assert_eq!(counts().await, [20, 2, 1, 40]);
}

/// Guarantees: where one share of a write met a log that went back and another failed for now, the write is tried again until the other is stored,
/// and only then given back, whichever failed first: what no message brings again is stored once, in both.
#[tokio::test]
async fn a_log_that_went_back_beside_a_failure() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    // Fails, as a deadlock would, on the rows of a partition while that is in `locked`.
    let tables = "DROP TABLE IF EXISTS metrics, source_positions; \
        CREATE TABLE IF NOT EXISTS locked (partition int); \
        CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
          IF EXISTS (SELECT FROM locked WHERE partition = floor(NEW.value / 10000)) THEN \
            RAISE 'not now' USING ERRCODE = '40P01'; \
          END IF; \
          RETURN NEW; END $$";
    for (went_back, fails) in [(0, 1), (1, 0)] {
        client.batch_execute(tables).await.unwrap();
        let books = Arc::new(Books::new(9));
        let settings = TimescaleSink { offsets: Offsets::WithPoints, connections: 2, ..server.settings("postgres") };
        let mut sink = Timescale::new(settings, Arc::clone(&books));
        // Enough rows for two shares: each partition is one's.
        let rows = |partition: i32, after: i64| {
            let from = i64::from(partition) * 10_000 + 10;
            logged_of(&books, partition, from..from + 1_190, after)
        };
        sink.write(&[Arc::new(logged(&books, 0..0, 0))]).await.unwrap();
        client
            .batch_execute(&format!(
                "TRUNCATE metrics; INSERT INTO locked VALUES ({fails}); \
                 CREATE TRIGGER fail BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION fail()"
            ))
            .await
            .unwrap();
        let mut failing = rows(fails, 0);
        failing.alerts = alerts(0, 1).alerts.clone();
        let write = [Arc::new(failing), Arc::new(rows(went_back, 10))];
        for _ in 0..2 {
            let failed = sink.write(&write).await;
            assert!(matches!(&failed, Err(SinkError::Retry(text)) if text.contains("not now")), "{failed:?}");
        }
        client.batch_execute("TRUNCATE locked").await.unwrap();
        let given_back = sink.write(&write).await;
        assert!(
            matches!(&given_back, Err(SinkError::WentBack(text)) if text.contains("is stored up to 0 now")),
            "{given_back:?}"
        );
        let counts = format!(
            "SELECT count(*) FILTER (WHERE floor(value / 10000) = {fails}), count(*) FILTER (WHERE floor(value / 10000) = {went_back}), \
             count(*) FILTER (WHERE value = -1), (SELECT count(*) FROM alerts) FROM metrics"
        );
        let row = client.query_one(&counts, &[]).await.unwrap();
        let counts = [0, 1, 2, 3].map(|at| row.get::<_, i64>(at));
        assert_eq!(counts, [1_190, 0, 2, 1], "partition {went_back} went back, {fails} failed");
        client.batch_execute("TRUNCATE alerts").await.unwrap();
    }
}
