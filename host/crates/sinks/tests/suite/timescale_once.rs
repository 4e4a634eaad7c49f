//! The TimescaleDB sink with `dedupe = true`: effectively once by topic and time.

use std::sync::Arc;

use tidegate_config::{Repeats, TimescaleSink};
use tidegate_model::{Books, Sink, SinkError, Written};
use tidegate_sinks::Timescale;

use crate::postgres::Postgres;
use crate::{alerts, points};

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
    settings.max_rows = 700;
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
