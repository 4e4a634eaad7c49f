//! How the SQLite files of a host are opened by whoever writes to them: what they promise, and where they write, in one place.
//!
//! It knows no schema and no query, and never waits or tries again: that is for each file's owner.
#![forbid(unsafe_code)]

use rusqlite::Connection;

/// How a file keeps what is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Beside it, in a WAL: who reads holds nobody up.
    Wal,
    /// As SQLite says: there is no WAL where the file stands, on some network drives for one.
    Other(String),
}

/// Has a transaction that was answered survive a power failure, and what SQLite needs for a moment be in memory: beside `data_dir` there may be no place that can
/// be written to, in a container with a read-only root.
pub fn durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;")
}

/// The same with a WAL, which is cut back to so many bytes when it has been written over.
pub fn durable_with_wal(connection: &Connection, wal_bytes: u32) -> rusqlite::Result<Journal> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    durable(connection)?;
    connection.execute_batch(&format!("PRAGMA journal_size_limit = {wal_bytes};"))?;
    Ok(if mode.eq_ignore_ascii_case("wal") { Journal::Wal } else { Journal::Other(mode) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn number(connection: &Connection, pragma: &str) -> i64 {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
    }

    /// Guarantees: what is said is what holds: every transaction is synced, nothing is written elsewhere, and a WAL is bounded; what can have no WAL says so.
    #[test]
    fn as_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let file = Connection::open(directory.path().join("a.db")).unwrap();
        assert_eq!(durable_with_wal(&file, 4_096).unwrap(), Journal::Wal);
        let (full, memory) = (2, 2);
        assert_eq!((number(&file, "synchronous"), number(&file, "temp_store")), (full, memory));
        assert_eq!(number(&file, "journal_size_limit"), 4_096);
        let nowhere = Connection::open_in_memory().unwrap();
        assert_eq!(durable_with_wal(&nowhere, 4_096).unwrap(), Journal::Other("memory".to_owned()));
    }
}
