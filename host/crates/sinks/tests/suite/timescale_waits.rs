//! The TimescaleDB sink when what it writes to beside the points is locked or slow, or is just being made by somebody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::TimescaleSink;
use tidegate_model::{Books, Delivery, Sink, SinkError, Written};
use tidegate_sinks::Timescale;

use crate::postgres::Postgres;
use crate::timescale_objections::on_each_row;
use crate::timescale_pool::{CONNECTIONS, COUNT, number};
use crate::{PATIENCE, alerts, points};

/// A point of each of these series, described by this unit.
fn of_series(books: &Books, series: std::ops::Range<usize>, unit: &str) -> [Arc<Delivery>; 1] {
    let topics: Vec<String> = series.map(|i| format!("t{i}")).collect();
    let rows: Vec<_> = topics.iter().map(|topic| (topic.as_str(), Some(unit), 0, 1.0, None)).collect();
    [Arc::new(points(books, &rows))]
}

/// Settings by which a statement is given up after a second.
fn hurried(server: &Postgres) -> TimescaleSink {
    TimescaleSink { statement_timeout: Duration::from_secs(1), ..server.settings("postgres") }
}

/// Writes until it is stored: any statement may take a second on a machine that stands still.
async fn stored(sink: &mut Timescale, write: &[Arc<Delivery>]) -> Written {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sink.write(write).await {
            Ok(written) => return written,
            Err(error) => {
                let text = error.to_string();
                let hurried = text.contains("57014") || text.contains("55P03");
                assert!(hurried && Instant::now() < deadline, "{error:?}");
            }
        }
    }
}

/// Guarantees: a host that finds tables missing while somebody else makes them, for long, leaves no connection at the server that waits for the lock when
/// it has given up itself, says what it waits for, and makes what is missing once the lock is free.
#[tokio::test]
async fn who_waits_for_a_migration_leaves_nothing_behind() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(hurried(&server), Arc::clone(&books));
    client.batch_execute("SELECT pg_advisory_lock(7438201948375)").await.unwrap();
    let delivery = of_series(&books, 0..1, "C");
    for _ in 0..2 {
        let error = sink.write(&delivery).await.unwrap_err();
        assert!(
            matches!(&error, SinkError::Retry(text) if text.contains("tidegate migrate") && text.contains("57014")),
            "{error:?}"
        );
    }
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    assert_eq!(number(&client, waiting).await, 0);
    let deadline = Instant::now() + PATIENCE;
    while number(&client, CONNECTIONS).await > 0 {
        assert!(Instant::now() < deadline, "a connection is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.batch_execute("SELECT pg_advisory_unlock(7438201948375)").await.unwrap();
    assert_eq!(stored(&mut sink, &delivery).await.points, 1);
}

/// Guarantees: a lock on a series that is told as it is now holds no point back, though all is told anew after a fault; one on a series that is new is
/// named with its table, and nothing is lost.
#[tokio::test]
async fn a_lock_on_series_holds_back_what_is_new() {
    let Some(server) = Postgres::start() else { return };
    let (client, other) = (server.client().await, server.client().await);
    let books = Arc::new(Books::new(9));
    let sink = || Timescale::new(hurried(&server), Arc::clone(&books));
    stored(&mut sink(), &of_series(&books, 0..3, "C")).await;
    other.batch_execute("BEGIN; UPDATE series SET unit = 'K'").await.unwrap();
    let mut anew = sink();
    assert_eq!(stored(&mut anew, &of_series(&books, 0..3, "C")).await.points, 3);
    let changed = of_series(&books, 2..4, "F");
    let error = anew.write(&changed).await.unwrap_err();
    let told = |text: &str| text.contains("series") && text.contains("pg_locks") && text.contains("55P03");
    assert!(matches!(&error, SinkError::Retry(text) if told(text)), "{error:?}");
    assert_eq!(number(&client, COUNT).await, 6);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(stored(&mut anew, &changed).await.points, 2);
    assert_eq!(number(&client, "SELECT count(*) FROM series WHERE unit = 'F'").await, 2);
}

/// Guarantees: a great many series that take longer than a statement may are told of by fewer at a time, and the points are stored; one that takes too long
/// alone is no fault of its points' table.
#[tokio::test]
async fn slow_series_are_told_of_in_parts() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(999));
    let mut sink = Timescale::new(hurried(&server), Arc::clone(&books));
    stored(&mut sink, &of_series(&books, 0..1, "C")).await;
    on_each_row(&client, "series", "PERFORM pg_sleep(0.01);").await;
    assert_eq!(stored(&mut sink, &of_series(&books, 1..201, "C")).await.points, 200);
    assert_eq!(number(&client, "SELECT count(*) FROM series").await, 201);
    on_each_row(&client, "series", "PERFORM pg_sleep(600);").await;
    let error = sink.write(&of_series(&books, 201..202, "C")).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Retry(text) if text.contains("series") && text.contains("57014")),
        "{error:?}"
    );
}

/// Guarantees: alerts that take longer than a statement may are stored all the same, by fewer in a statement, once and with their points; what is said of
/// one that is too slow alone names their table, and not that of the points.
#[tokio::test]
async fn slow_alerts_go_in_parts() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(hurried(&server), Arc::clone(&books));
    stored(&mut sink, &of_series(&books, 0..1, "C")).await;
    on_each_row(&client, "alerts", "PERFORM pg_sleep(0.01);").await;
    let [with_points] = of_series(&books, 0..1, "C");
    let write = [with_points, alerts(0, 200)];
    let deadline = Instant::now() + PATIENCE;
    let mut tries = 0;
    while let Err(error) = sink.write(&write).await {
        tries += 1;
        let text = error.to_string();
        assert!(text.contains("57014") && text.contains("alerts") && Instant::now() < deadline, "{error:?}");
    }
    assert!(tries > 0, "200 alerts of 10 ms each take longer than a second");
    assert_eq!((number(&client, COUNT).await, number(&client, "SELECT count(*) FROM alerts").await), (2, 200));

    on_each_row(&client, "alerts", "PERFORM pg_sleep(600);").await;
    let one = [alerts(200, 1)];
    let text = loop {
        match sink.write(&one).await.unwrap_err() {
            SinkError::NeedsOperator(text) => break text,
            // Before the row, on a machine that stands still.
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    };
    assert!(text.contains("alerts") && text.contains("pg_locks"), "{text}");
}
