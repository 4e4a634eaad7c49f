//! Opening the file of the dead letters beside the sink that writes it, from this or another process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SCHEMA;

/// How long another's lock is waited for: each of ours is held for one step, which takes less by far.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many letters one transaction changes: between two, the sink gets its turn.
pub(super) const STEP: usize = 1_000;

/// Whether the last table of the schema is there. They are made one after the other, and a letter is written when all are.
const LAID_OUT: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'dead_letter_replays')";

/// Why the dead letters could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("the dead letters in {path} cannot be {what}: {source}")]
pub struct FileError {
    path: PathBuf,
    what: &'static str,
    source: rusqlite::Error,
}

/// Runs `query` on the file, which it sees as it is at one moment; `nothing` where there is no file, or one that is just being made: nothing has died yet.
pub(super) fn read<T>(
    path: &Path,
    nothing: T,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, FileError> {
    if !path.exists() {
        return Ok(nothing);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let answer = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("BEGIN")?;
        if connection.query_row(LAID_OUT, [], |row| row.get(0))? { query(&connection) } else { Ok(nothing) }
    });
    answer.map_err(|source| FileError { path: path.to_owned(), what: "read", source })
}

/// Runs `change` on the file; `nothing` where there is none. It makes its own transactions, by [`step`].
pub(super) fn change<T>(
    path: &Path,
    nothing: T,
    change: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> Result<T, FileError> {
    if !path.exists() {
        return Ok(nothing);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let answer = Connection::open_with_flags(path, flags).and_then(|mut connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        tidegate_sqlite::durable(&connection)?;
        connection.execute_batch("PRAGMA foreign_keys = ON")?;
        connection.execute_batch(SCHEMA)?;
        change(&mut connection)
    });
    answer.map_err(|source| FileError { path: path.to_owned(), what: "changed", source })
}

/// One transaction: `each` of the ids, by a statement that takes the id first.
pub(super) fn step(
    connection: &mut Connection,
    ids: &[i64],
    mut each: impl FnMut(&Connection, i64) -> rusqlite::Result<usize>,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut changed = 0;
    for id in ids {
        changed += each(&transaction, *id)? as u64;
    }
    transaction.commit()?;
    Ok(changed)
}

/// Deletes a letter, with its properties and the wish to replay it.
pub(super) fn delete(connection: &Connection, id: i64) -> rusqlite::Result<usize> {
    connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: who looks while the file of the first letter is being made sees that there are none, at each moment of it.
    #[test]
    fn while_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dead_letters.db");
        let letters = || {
            let count =
                "SELECT count(*) FROM dead_letters WHERE id NOT IN (SELECT dead_letter FROM dead_letter_replays)";
            read(&path, -1, |connection| connection.query_row(count, [], |row| row.get(0)))
        };
        assert_eq!(letters().unwrap(), -1, "no file");
        let file = Connection::open(&path).unwrap();
        tidegate_sqlite::durable_with_wal(&file, 4_096).unwrap();
        let statements: Vec<&str> = SCHEMA.split_inclusive(";\n").collect();
        assert!(statements.len() > 4);
        for statement in statements {
            assert_eq!(letters().unwrap(), -1, "before {statement}");
            file.execute_batch(statement).unwrap();
        }
        assert_eq!(letters().unwrap(), 0);
    }
}
