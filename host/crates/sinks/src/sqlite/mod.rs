//! Points and alerts in a SQLite file: the database that is always there.
//!
//! One transaction a write, in a WAL synced at every commit. Tables and columns are those of TimescaleDB (`schema.sql`),
//! except that a time is an INTEGER of microseconds since 1970-01-01 UTC. Anyone may read the file meanwhile.

mod history;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Statement, Transaction, TransactionBehavior};
use tidegate_config::SqliteSink;
use tidegate_model::{Alert, Books, Delivery, Quality, Rejected, Sink, SinkError, Wants, Written};

use crate::json;
use crate::rows::{TextCursor, UNKNOWN_SERIES, readable};
use crate::series::SeriesCache;
use crate::sqlite_thread::SqliteThread;

pub use history::SqliteHistory;

const SCHEMA: &str = include_str!("schema.sql");

const INSERT_POINT: &str =
    "INSERT INTO metrics (time, topic, value, value_str, quality, unit) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const INSERT_ALERT: &str = "INSERT INTO alerts (time, rule, topic, key, transition, severity, value, message)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const UPSERT_SERIES: &str = "INSERT INTO series (topic, unit, labels) VALUES (?1, ?2, ?3)
    ON CONFLICT (topic) DO UPDATE SET unit = excluded.unit, labels = excluded.labels";

/// The series this file was told of; rows need nothing more than their description.
type Known = SeriesCache<()>;

/// Points and alerts in a SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    file: SqliteThread<Known>,
    books: Arc<Books>,
}

impl Sqlite {
    /// A sink for the file of `settings`, which is made, with its directory, when it is first written to.
    pub fn new(settings: SqliteSink, books: Arc<Books>) -> Self {
        Self { file: SqliteThread::new(settings.path, SCHEMA), books }
    }
}

#[async_trait]
impl Sink for Sqlite {
    fn wants(&self) -> Wants {
        Wants { points: true, alerts: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let deliveries = deliveries.to_vec();
        let books = Arc::clone(&self.books);
        self.file.run(move |connection, known| store(connection, known, &books, &deliveries)).await
    }

    async fn close(&mut self) {
        self.file.close().await;
    }
}

fn store(
    connection: &mut Connection,
    known: &mut Known,
    books: &Books,
    deliveries: &[Arc<Delivery>],
) -> rusqlite::Result<Written> {
    let mut written = Written::default();
    known.begin_write();
    // Immediate: to learn of another writer before any work is done, not in the middle of it.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert_point = transaction.prepare_cached(INSERT_POINT)?;
        let mut insert_alert = transaction.prepare_cached(INSERT_ALERT)?;
        for (at, delivery) in deliveries.iter().enumerate() {
            store_points(&mut insert_point, known, books, (at, delivery), &mut written)?;
            for alert in &delivery.alerts {
                store_alert(&mut insert_alert, alert)?;
            }
            written.alerts += delivery.alerts.len() as u64;
        }
    }
    store_series(&transaction, known, books)?;
    transaction.commit()?;
    known.all_told();
    Ok(written)
}

fn store_points(
    insert: &mut Statement<'_>,
    known: &mut Known,
    books: &Books,
    (at, delivery): (usize, &Delivery),
    written: &mut Written,
) -> rusqlite::Result<()> {
    let points = &delivery.points;
    let mut texts = TextCursor::from_row(&points.texts, 0);
    for row in 0..points.len() {
        let id = points.series[row];
        let reject = |reason: String| Rejected { delivery: at, row: row as u32, reason };
        let text = match texts.of(row).map(readable).transpose() {
            Ok(text) => text,
            Err(reason) => {
                written.rejected.push(reject(reason));
                continue;
            }
        };
        let (Some(()), Some(series), Some(description)) =
            (known.refresh(books, id, |_, _| ()).copied(), books.series(id), known.description(id))
        else {
            written.rejected.push(reject(UNKNOWN_SERIES.to_owned()));
            continue;
        };
        let other = delivery.described.other(books, id);
        let description = other.as_ref().unwrap_or(description);
        let value = points.value[row];
        insert.execute((
            points.time_us[row],
            &*series.topic,
            (!value.is_nan()).then_some(value),
            text,
            Quality(points.quality[row]).opc(),
            description.unit.as_deref(),
        ))?;
        written.points += 1;
    }
    Ok(())
}

fn store_alert(insert: &mut Statement<'_>, alert: &Alert) -> rusqlite::Result<()> {
    insert.execute((
        alert.time_us,
        &*alert.rule,
        &*alert.topic,
        &*alert.key,
        alert.transition.as_str(),
        alert.severity.as_str(),
        (!alert.value.is_nan()).then_some(alert.value),
        &alert.message,
    ))?;
    Ok(())
}

fn store_series(transaction: &Transaction<'_>, known: &Known, books: &Books) -> rusqlite::Result<()> {
    if known.untold().is_empty() {
        return Ok(());
    }
    let mut upsert = transaction.prepare_cached(UPSERT_SERIES)?;
    for &id in known.untold() {
        if let Some(description) = known.description(id) {
            upsert.execute((
                books.series_topic(id),
                description.unit.as_deref(),
                json::labels(&description.labels),
            ))?;
        }
    }
    Ok(())
}
