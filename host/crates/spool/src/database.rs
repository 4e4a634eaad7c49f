//! The SQLite database of a spool: its tables, and how it is opened.
//!
//! Commits are synced (WAL, `synchronous = FULL`). After each append the WAL is written over into the database at once: SQLite takes
//! a WAL up to its first damaged frame and forgets the rest without a word, so that one flipped bit in a WAL that holds the only copy
//! could cost all records after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tidegate_sqlite::Journal;

use crate::account::Amount;

/// How long a lock is waited for: only a reader's checkpoint or another host on the same directory can hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// `TGSP`: tells a spool from any other database.
const APPLICATION_ID: i32 = 0x5447_5350;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        record BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS quarantine (
        id INTEGER PRIMARY KEY,
        found_us INTEGER NOT NULL,
        reason TEXT NOT NULL,
        record BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS progress (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        removed_through INTEGER NOT NULL,
        checked_through INTEGER NOT NULL,
        seal INTEGER NOT NULL
    ) STRICT;";

/// What is known of ids that stand in the spool no more. Sealed as records are: a flipped bit here would else let go of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Records up to this one are gone, rightly.
    pub removed_through: u64,
    /// Holes up to this id are accounted for.
    pub checked_through: u64,
}

impl Progress {
    /// As it stands in the file; none where it is damaged, or not there.
    pub fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let ask = "SELECT removed_through, checked_through, seal FROM progress WHERE one = 1";
        let mut statement = connection.prepare_cached(ask)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (removed, checked, seal): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let progress = Self { removed_through: removed as u64, checked_through: checked as u64 };
        Ok((progress.seal() == seal).then_some(progress))
    }

    /// Puts it into the file.
    pub fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let row = (self.removed_through as i64, self.checked_through as i64, self.seal());
        connection.prepare_cached("INSERT OR REPLACE INTO progress VALUES (1, ?1, ?2, ?3)")?.execute(row).map(drop)
    }

    fn seal(self) -> i64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.removed_through.to_le_bytes());
        hasher.update(&self.checked_through.to_le_bytes());
        i64::from(hasher.finalize())
    }
}

/// What its WAL is cut back to.
const WAL_BYTES: u32 = 4 << 20;

/// An open database, and what is known of it.
#[derive(Debug)]
pub(crate) struct Database {
    pub connection: Connection,
    /// The last id given.
    pub last: u64,
    pub progress: Progress,
}

impl Database {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Takes effect on a file that is new only, and must come before anything is in it.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        if let Journal::Other(mode) = tidegate_sqlite::durable_with_wal(&connection, WAL_BYTES)? {
            tracing::warn!(path = %path.display(), mode, "SQLite cannot use a WAL here: `tidegate spool` will block the spool");
        }
        let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        if id != APPLICATION_ID {
            connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        }
        if !connection.table_exists(None, "progress")? {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(SCHEMA)?;
            Progress::default().write(&transaction)?;
            transaction.commit()?;
        }
        let progress = Progress::read(&connection)?.ok_or_else(damaged_progress)?;
        let last: i64 = connection.query_row(
            "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'records'), 0),
                        coalesce((SELECT max(id) FROM records), 0))",
            [],
            |row| row.get(0),
        )?;
        let last = (last.max(0) as u64).max(progress.removed_through).max(progress.checked_through);
        Ok(Self { connection, last, progress })
    }

    /// Gives no id twice: one up to `highest` may be in somebody's hands, though its record was lost with a damaged file.
    pub fn continue_from(&mut self, highest: u64) -> rusqlite::Result<()> {
        if highest > self.last {
            let mut progress = self.progress;
            progress.checked_through = progress.checked_through.max(highest);
            progress.write(&self.connection)?;
            (self.progress, self.last) = (progress, highest);
        }
        Ok(())
    }

    /// What stands in it.
    pub fn count(&self) -> rusqlite::Result<Amount> {
        amount(&self.connection, i64::MAX)
    }

    /// Gives the pages that are free back to the disk.
    pub fn shrink(&self) -> rusqlite::Result<()> {
        // A page a step: it must be stepped to its end.
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
        drop(freed);
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Writes the WAL over into the database. That this fails costs nothing yet: what is in the WAL is durable.
    pub fn fold(&self) {
        let folded: rusqlite::Result<i64> =
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(0));
        if let Err(error) = folded {
            tracing::warn!(%error, "the spool's WAL cannot be written over into its database now");
        }
    }
}

fn damaged_progress() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(error, Some("how far it was drained does not fit its checksum".to_owned()))
}

/// What stands in records up to `through`.
pub(crate) fn amount(connection: &Connection, through: i64) -> rusqlite::Result<Amount> {
    connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM records WHERE id <= ?1",
        )?
        .query_row([through], |row| {
            let number = |i| row.get(i).map(|n: i64| n.max(0) as u64);
            Ok(Amount { records: number(0)?, rows: number(1)?, bytes: number(2)? })
        })
}

/// The file's name with something after it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
