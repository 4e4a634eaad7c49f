//! The points of a SQLite file, read again in the order in which they were stored, which is that in which rules saw them.
//!
//! It goes through the table by `rowid`, a window at a time, each in a short transaction of its own: nothing is sorted, memory is
//! bounded, and the writer's WAL can be folded meanwhile. What is stored after the reading began is not read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use tidegate_config::SqliteSink;
use tidegate_model::{Books, History, HistoryError, Names, Page, Past, Span};

/// How many row numbers a page looks at, at most.
const WINDOW: i64 = 10_000;
/// How long another's lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const WINDOW_ROWS: &str = "SELECT time, topic, value, value_str, quality, unit, rowid FROM metrics
    WHERE rowid BETWEEN ?1 AND ?2 AND time >= ?3 AND time < ?4 ORDER BY rowid";

/// The points in a file that [`super::Sqlite`] writes.
#[derive(Clone, Debug)]
pub struct SqliteHistory(PathBuf);

impl SqliteHistory {
    /// Of the file that `settings` name.
    pub fn new(settings: &SqliteSink) -> Self {
        Self(settings.path.clone())
    }
}

impl History for SqliteHistory {
    fn open(&self, span: Span, books: Arc<Books>) -> Result<Box<dyn Past>, HistoryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.0, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            let ends = "SELECT coalesce(min(rowid), 1), coalesce(max(rowid), 0) FROM metrics";
            let (first, last) = connection.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((connection, first, last))
        });
        let (connection, first, last) = opened.map_err(|error| unreadable(&self.0, &error))?;
        let names = Names::new(books);
        Ok(Box::new(Reading { path: self.0.clone(), connection, span, names, first, next: first, last }))
    }
}

struct Reading {
    path: PathBuf,
    connection: Connection,
    span: Span,
    names: Names,
    first: i64,
    /// The row number to go on with.
    next: i64,
    /// The last row number when the reading began.
    last: i64,
}

impl Past for Reading {
    fn next_page(&mut self) -> Result<Option<Page>, HistoryError> {
        self.page().map_err(|error| unreadable(&self.path, &error))
    }
}

impl Reading {
    fn page(&mut self) -> rusqlite::Result<Option<Page>> {
        // Row numbers have gaps where rows were deleted: the next one that is there is found by the table's own tree.
        let next = "SELECT rowid FROM metrics WHERE rowid >= ?1 AND rowid <= ?2 ORDER BY rowid LIMIT 1";
        let mut statement = self.connection.prepare_cached(next)?;
        let Some(from) = statement.query_row([self.next, self.last], |row| row.get::<_, i64>(0)).optional()? else {
            return Ok(None);
        };
        drop(statement);
        let mut until = from.saturating_add(WINDOW - 1).min(self.last);
        let (since, before) = (self.span.from_us.unwrap_or(i64::MIN), self.span.until_us.unwrap_or(i64::MAX));
        let mut page = Page::default();
        let mut statement = self.connection.prepare_cached(WINDOW_ROWS)?;
        let mut rows = statement.query((from, until, since, before))?;
        while let Some(row) = rows.next()? {
            page.looked_at += 1;
            put(&mut page, &self.span, &mut self.names, row)?;
            if page.is_full() {
                until = row.get(6)?;
                break;
            }
        }
        self.next = until.saturating_add(1);
        let whole = (self.last - self.first).max(1) as f64;
        page.done = Some(((until - self.first) as f64 / whole).clamp(0.0, 1.0));
        Ok(Some(page))
    }
}

fn put(page: &mut Page, span: &Span, names: &mut Names, row: &Row<'_>) -> rusqlite::Result<()> {
    let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null()?);
    let topic = row.get_ref(1)?.as_str()?;
    if !span.has_topic(topic) {
        return Ok(());
    }
    let Some(series) = names.series(topic, text(5)?) else {
        page.nameless += 1;
        return Ok(());
    };
    let value: Option<f64> = row.get(2)?;
    page.points.push(series, row.get(0)?, value.unwrap_or(f64::NAN), row.get::<_, u8>(4)?.into());
    if let Some(text) = text(3)? {
        page.points.texts.push(page.points.len() as u32 - 1, text.as_bytes());
    }
    Ok(())
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> HistoryError {
    HistoryError(format!("the points in {} cannot be read: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A file with the points `(rowid, time, topic, value)`.
    fn file(points: &[(i64, i64, &str, Option<f64>)]) -> (tempfile::TempDir, SqliteHistory) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(super::super::SCHEMA).unwrap();
        for (id, time, topic, value) in points {
            let insert = "INSERT INTO metrics (rowid, time, topic, value, value_str, quality, unit)
                VALUES (?1, ?2, ?3, ?4, iif(?4 IS NULL, 'off', NULL), 192, 'C')";
            connection.execute(insert, (id, time, topic, value)).unwrap();
        }
        (directory, SqliteHistory(path))
    }

    fn read(history: &SqliteHistory, span: Span, names: usize) -> (Vec<(String, i64)>, Page) {
        let books = Arc::new(Books::new(names));
        let mut past = history.open(span, books.clone()).unwrap();
        let (mut all, mut rows) = (Page::default(), Vec::new());
        while let Some(page) = past.next_page().unwrap() {
            let topics = page.points.series.iter().map(|&series| books.series_topic(series).to_owned());
            rows.extend(topics.zip(page.points.time_us.iter().copied()));
            all.points.append(&page.points);
            all.nameless += page.nameless;
            all.done = page.done;
        }
        (rows, all)
    }

    /// Guarantees: points come in the order they were stored, over windows and gaps; a number, a text and a unit come as they were.
    #[test]
    fn the_order_of_storing() {
        let (_directory, history) =
            file(&[(1, 30, "a", Some(1.5)), (2, 10, "b", None), (1_000_000, 20, "a", Some(2.0))]);
        let (rows, all) = read(&history, Span::default(), 9);
        assert_eq!(rows, [("a".to_owned(), 30), ("b".to_owned(), 10), ("a".to_owned(), 20)]);
        assert_eq!((all.points.value[0], all.points.texts.get(1)), (1.5, Some(&b"off"[..])));
        assert!(all.points.value[1].is_nan() && all.points.quality == [192; 3]);
        assert_eq!(all.done, Some(1.0));
    }

    /// Guarantees: only the span is read, and what has no place in the books is counted.
    #[test]
    fn a_part() {
        let (_directory, history) =
            file(&[(1, 10, "a/x", Some(1.0)), (2, 20, "a/y", Some(1.0)), (3, 30, "b/x", Some(1.0))]);
        let span = Span { topics: vec!["a/#".parse().unwrap()], from_us: Some(10), until_us: Some(20) };
        assert_eq!(read(&history, span, 9).0, [("a/x".to_owned(), 10)]);
        let (rows, all) = read(&history, Span::default(), 2);
        assert_eq!((rows.len(), all.nameless), (2, 1));
    }

    /// Guarantees: a page ends by the bytes of its texts; the next one goes on with the row after it.
    #[test]
    fn pages_end_by_bytes() {
        let points: Vec<_> = (1..=5).map(|at| (at, at, "a", None)).collect();
        let (_directory, history) = file(&points);
        let text = "x".repeat(tidegate_model::PAGE_BYTES / 2);
        Connection::open(&history.0).unwrap().execute("UPDATE metrics SET value_str = ?1", [text]).unwrap();
        let mut past = history.open(Span::default(), Arc::new(Books::new(9))).unwrap();
        let mut times = Vec::new();
        while let Some(page) = past.next_page().unwrap() {
            times.push(page.points.time_us);
        }
        assert_eq!(times, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    /// Guarantees: an empty store has an end and no error; one that is not there is an error that names it.
    #[test]
    fn nothing_there() {
        let (_directory, history) = file(&[]);
        assert!(read(&history, Span::default(), 1).0.is_empty());
        let gone = SqliteHistory("gone/store.db".into());
        let error = gone.open(Span::default(), Arc::new(Books::new(1))).err().unwrap();
        assert!(error.to_string().contains("gone/store.db"), "{error}");
    }
}
