//! The SQLite sink.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tidegate_config::SqliteSink;
use tidegate_model::{Books, SeriesId, Sink, SinkError};
use tidegate_sinks::Sqlite;

use crate::{T0, alerts, points, through_units};

fn sink(path: &Path, books: &Arc<Books>) -> Sqlite {
    Sqlite::new(SqliteSink { path: path.to_owned() }, Arc::clone(books))
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("made/by/the/sink.db")
}

type Stored = (i64, String, Option<f64>, Option<String>, i64, Option<String>);

fn stored(path: &Path) -> Vec<Stored> {
    let connection = Connection::open(path).unwrap();
    let mut query = connection
        .prepare("SELECT time, topic, value, value_str, quality, unit FROM metrics ORDER BY rowid")
        .unwrap();
    let rows =
        query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Guarantees: numbers, NaN, texts, quality without this house's flags, units that change and times before 1970 come back as they
/// went in; a point whose text is no text is rejected alone; the sink goes on with the file after it was closed.
#[tokio::test]
async fn points_come_back_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let books = Arc::new(Books::new(99));
    let mut sink = sink(&file(&dir), &books);
    let mut first = points(
        &books,
        &[
            ("a/b", Some("°C"), 1, 84.5, None),
            ("a/b", Some("°C"), 2, f64::NAN, None),
            ("c", None, 3, f64::NAN, Some("läuft".as_bytes())),
            ("c", None, 4, 9_007_199_254_740_993.0, Some(b"9007199254740993")),
            ("c", None, 5, 0.0, Some(b"\xff")),
            ("c", None, -T0 - 1, f64::INFINITY, None),
        ],
    );
    first.points.quality[1] = 64 | tidegate_model::Quality::HISTORICAL;
    let written = sink.write(&[Arc::new(first)]).await.unwrap();
    assert_eq!((written.points, written.alerts), (5, 0));
    let rejected: Vec<_> = written.rejected.iter().map(|r| (r.delivery, r.row)).collect();
    assert_eq!(rejected, [(0, 4)]);

    // The unit changes, and the file is closed and opened.
    let second = Arc::new(points(&books, &[("a/b", Some("K"), 6, 1.0, None)]));
    sink.close().await;
    sink.write(&[second]).await.unwrap();
    sink.close().await;

    let unit = |unit: &str| Some(unit.to_owned());
    let expected: Vec<Stored> = vec![
        (T0 + 1, "a/b".into(), Some(84.5), None, 192, unit("°C")),
        (T0 + 2, "a/b".into(), None, None, 64, unit("°C")),
        (T0 + 3, "c".into(), None, Some("läuft".into()), 192, None),
        (T0 + 4, "c".into(), Some(9_007_199_254_740_993.0), Some("9007199254740993".into()), 192, None),
        (-1, "c".into(), Some(f64::INFINITY), None, 192, None),
        (T0 + 6, "a/b".into(), Some(1.0), None, 192, unit("K")),
    ];
    assert_eq!(stored(&file(&dir)), expected);

    let connection = Connection::open(file(&dir)).unwrap();
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        text("SELECT group_concat(topic || ' ' || ifnull(unit, '-') || ' ' || labels) FROM series"),
        "a/b K {\"site\":\"north\"},c - {\"site\":\"north\"}"
    );
    assert_eq!(text("SELECT time FROM metrics_readable LIMIT 1"), "2023-12-23T00:00:00.000001Z");
    assert_eq!(text("SELECT min(time) FROM metrics_readable WHERE topic = 'c'"), "1969-12-31T23:59:59.999999Z");
}

/// Guarantees: alerts are stored whole, in the same transaction as points, and an id the books never gave harms nobody else.
#[tokio::test]
async fn alerts_are_stored_beside_points() {
    let dir = tempfile::tempdir().unwrap();
    let books = Arc::new(Books::new(99));
    let mut sink = sink(&file(&dir), &books);
    let mut both = points(&books, &[("t", None, 0, 1.0, None), ("t", None, 1, 2.0, None)]);
    both.points.series[0] = SeriesId(77);
    both.alerts = alerts(0, 2).alerts.clone();
    let written = sink.write(&[Arc::new(both)]).await.unwrap();
    assert_eq!((written.points, written.alerts, written.rejected.len()), (1, 2, 1));
    sink.close().await;
    let connection = Connection::open(file(&dir)).unwrap();
    let row: (String, String, String, f64, String) = connection
        .query_row(
            "SELECT time, rule || topic || key, transition || severity, value, message FROM alerts_readable",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)),
        )
        .unwrap();
    let expected = ("2023-12-23T00:00:00.000000Z", "overheatdev/line0/temp", "raisedcritical", 100.5, "too hot: 0");
    assert_eq!((&*row.0, &*row.1, &*row.2, row.3, &*row.4), expected);
}

/// Guarantees: a file that is no database is left as it is, and the operator is told which it is.
#[tokio::test]
async fn a_file_that_is_no_database_wants_an_operator() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let notes = "these are somebody's notes\n".repeat(100);
    std::fs::write(&path, &notes).unwrap();
    let books = Arc::new(Books::new(9));
    let mut sink = sink(&path, &books);
    let delivery = Arc::new(points(&books, &[("t", None, 0, 1.0, None)]));
    match sink.write(&[delivery]).await {
        Err(SinkError::NeedsOperator(text)) => assert!(text.contains("notes.txt"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), notes);
}

/// Guarantees: a table of another shape wants an operator; nothing is stored elsewhere.
#[tokio::test]
async fn a_table_of_another_shape_wants_an_operator() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE metrics (time INTEGER, topic TEXT, v REAL)")
        .unwrap();
    let books = Arc::new(Books::new(9));
    let delivery = Arc::new(points(&books, &[("t", None, 0, 1.0, None)]));
    let refused = sink(&path, &books).write(&[delivery]).await;
    assert!(matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("other.db")), "{refused:?}");
}

/// Guarantees: while another process holds the lock a write is to be tried again, and the same write then succeeds, once; what
/// is new about series is not forgotten by the failure.
#[tokio::test]
async fn a_locked_file_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let books = Arc::new(Books::new(9));
    let mut sink = sink(&file(&dir), &books);
    sink.write(&[Arc::new(points(&books, &[("t", None, 0, 1.0, None)]))]).await.unwrap();

    let other = Connection::open(file(&dir)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let delivery = [Arc::new(points(&books, &[("new", Some("K"), 1, 2.0, None)]))];
    let refused = sink.write(&delivery).await;
    assert!(matches!(&refused, Err(SinkError::Retry(text)) if text.contains("locked")), "{refused:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sink.write(&delivery).await.unwrap().points, 1);
    sink.close().await;

    assert_eq!(stored(&file(&dir)).len(), 2);
    let unit: String = other.query_row("SELECT unit FROM series WHERE topic = 'new'", [], |row| row.get(0)).unwrap();
    assert_eq!(unit, "K");
}

/// Guarantees: a row bears the unit of the time when its point was measured, and the table of series the one that holds by now.
#[tokio::test]
async fn the_unit_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let books = Arc::new(Books::new(9));
    let mut sink = sink(&file(&dir), &books);
    sink.write(&through_units(&books)).await.unwrap();
    sink.close().await;
    let units: Vec<_> = stored(&file(&dir)).into_iter().map(|row| row.5.unwrap()).collect();
    assert_eq!(units, ["°F", "°C"]);
    let connection = Connection::open(file(&dir)).unwrap();
    let latest: String = connection.query_row("SELECT unit FROM series", [], |row| row.get(0)).unwrap();
    assert_eq!(latest, "K");
}
