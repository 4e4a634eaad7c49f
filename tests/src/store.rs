//! What the host has written to SQLite, read as any other program would.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params};

use crate::message::Row;
use crate::wait::DEADLINE;

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the schema's comments say")]
pub struct DeadLetter {
    pub topic: String,
    pub payload: Vec<u8>,
    pub source: String,
    pub stage: String,
    pub rule: Option<String>,
    pub module: Option<String>,
    pub reason: String,
    pub backtrace: Option<String>,
}

/// One transition of an alert.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "as the schema's comments say")]
pub struct AlertRow {
    pub rule: String,
    pub topic: String,
    pub transition: String,
    pub severity: String,
    pub value: Option<f64>,
    pub message: String,
}

/// How many points there are; 0 where there is no file.
pub fn sqlite_count(path: &Path) -> u64 {
    query(path, "SELECT count(*) FROM metrics", [], |row| row.get(0)).first().copied().unwrap_or(0)
}

/// The points, in the order they were written.
pub fn sqlite_rows(path: &Path) -> Vec<Row> {
    let sql = "SELECT topic, time, value, value_str, quality, unit FROM metrics ORDER BY rowid";
    query(path, sql, [], |row| {
        Ok(Row {
            topic: row.get(0)?,
            time_us: Some(row.get(1)?),
            value: row.get::<_, Option<f64>>(2)?.map(f64::to_bits),
            text: row.get(3)?,
            quality: row.get(4)?,
            unit: row.get(5)?,
        })
    })
}

/// The alerts, in the order they were written.
pub fn sqlite_alerts(path: &Path) -> Vec<AlertRow> {
    let sql = "SELECT rule, topic, transition, severity, value, message FROM alerts ORDER BY rowid";
    query(path, sql, [], |row| {
        Ok(AlertRow {
            rule: row.get(0)?,
            topic: row.get(1)?,
            transition: row.get(2)?,
            severity: row.get(3)?,
            value: row.get(4)?,
            message: row.get(5)?,
        })
    })
}

/// The dead letters in a `data_dir`, oldest first.
pub fn sqlite_dead_letters(data_dir: &Path) -> Vec<DeadLetter> {
    let sql = "SELECT topic, payload, source, stage, rule, module, reason, backtrace FROM dead_letters ORDER BY id";
    query(&data_dir.join("dead_letters.db"), sql, [], |row| {
        Ok(DeadLetter {
            topic: row.get(0)?,
            payload: row.get(1)?,
            source: row.get(2)?,
            stage: row.get(3)?,
            rule: row.get(4)?,
            module: row.get(5)?,
            reason: row.get(6)?,
            backtrace: row.get(7)?,
        })
    })
}

/// Nothing where there is no file, or no table in it yet.
fn query<T>(
    path: &Path,
    sql: &str,
    params: impl Params,
    each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    if !path.exists() {
        return Vec::new();
    }
    let read = || -> rusqlite::Result<Vec<T>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(DEADLINE)?;
        let mut statement = match connection.prepare(sql) {
            Err(error) if error.to_string().contains("no such table") => return Ok(Vec::new()),
            prepared => prepared?,
        };
        statement.query_map(params, each)?.collect()
    };
    read().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
