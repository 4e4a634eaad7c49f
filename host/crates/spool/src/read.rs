//! Looks into a spool's file from outside, while its host runs or not. Changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use tidegate_model::{Books, Delivery};

use crate::database::{Progress, amount};
use crate::decode::decode;
use crate::file;
use crate::naming::Naming;
use crate::record::{self, Damage, Head, VERSION};
use crate::salvage;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a spool could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the spool {path}: it is not there, not readable, or damaged; a damaged one is repaired by the host when it runs"
)]
pub struct ReadError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// What stands in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Records that stand in it.
    pub records: u64,
    /// Messages, points, alerts, commands and dead letters in them.
    pub rows: u64,
    /// Bytes of the records.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The first id, if there is one.
    pub first: Option<u64>,
    /// The last id, if there is one.
    pub last: Option<u64>,
    /// When the first was appended: microseconds since 1970-01-01 UTC.
    pub oldest_us: Option<i64>,
    /// When the last was appended: microseconds since 1970-01-01 UTC.
    pub newest_us: Option<i64>,
    /// Copies of damaged records in the table `quarantine`.
    pub quarantined: u64,
    /// Damaged files that were moved aside.
    pub damaged_files: Vec<PathBuf>,
}

/// Whether a spool is sound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The file.
    pub path: PathBuf,
    /// Records that are sound.
    pub sound: u64,
    /// Ids that should stand there and do not.
    pub missing: u64,
    /// What is wrong, for people: with which record, or with the file; at most [`MOST_FINDINGS`].
    pub findings: Vec<String>,
}

impl Verification {
    /// Notes that `expected` to the one before `id` are missing, if they are, and nobody has accounted for them.
    fn hole(&mut self, expected: u64, id: u64, progress: Progress) {
        if id > expected && id - 1 > progress.checked_through {
            self.missing += id - expected;
            self.findings.push(format!("records {expected} to {} are missing", id - 1));
        }
    }
}

/// More is not listed.
pub const MOST_FINDINGS: usize = 1_000;

/// A record, for people and other programs.
#[derive(Debug)]
pub struct Exported {
    /// Its id.
    pub id: u64,
    /// When it was appended: microseconds since 1970-01-01 UTC.
    pub appended_us: i64,
    /// What is in it; its ids are those of the books that were given.
    pub delivery: Delivery,
}

/// The spools under a `data_dir`, by the name of their sink.
pub fn list(data_dir: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let directory = data_dir.join("spool");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".db"));
        if let Some(name) = name {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// Where the spool of the sink `name` stands.
pub fn path(data_dir: &Path, name: &str) -> PathBuf {
    file::path(data_dir, name)
}

/// What stands in the spool at `path`.
pub fn inspect(path: &Path) -> Result<Inspection, ReadError> {
    read(path, |connection| {
        let amount = amount(connection, i64::MAX)?;
        let end = |order: &str| -> rusqlite::Result<Option<(u64, Option<i64>)>> {
            let sql = format!("SELECT id, record FROM records ORDER BY id {order} LIMIT 1");
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let head = row.get_ref(1)?.as_blob().ok().and_then(|record| record::head(record).ok());
            Ok(Some((row.get::<_, i64>(0)? as u64, head.map(|head| head.appended_us))))
        };
        let (first, last) = (end("ASC")?, end("DESC")?);
        let quarantined: i64 = connection.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?;
        Ok(Inspection {
            path: path.to_owned(),
            records: amount.records,
            rows: amount.rows,
            bytes: amount.bytes,
            file_bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            first: first.map(|(id, _)| id),
            last: last.map(|(id, _)| id),
            oldest_us: first.and_then(|(_, us)| us),
            newest_us: last.and_then(|(_, us)| us),
            quarantined: quarantined as u64,
            damaged_files: salvage::damaged(path),
        })
    })
}

/// Checks the whole file: SQLite's own check, every checksum, every record as it will be read, and that no id is missing.
pub fn verify(path: &Path) -> Result<Verification, ReadError> {
    read(path, |connection| {
        let mut verification = Verification { path: path.to_owned(), ..Verification::default() };
        let mut check = connection.prepare("PRAGMA quick_check(100)")?;
        let said = check.query_map([], |row| row.get::<_, String>(0))?;
        for line in said {
            let line = line?;
            if line != "ok" {
                verification.findings.push(format!("SQLite: {line}"));
            }
        }
        let progress = Progress::read(connection)?.unwrap_or_else(|| {
            verification.findings.push("how far it was drained does not fit its checksum".to_owned());
            Progress::default()
        });
        let mut expected = progress.removed_through + 1;
        let found = each(connection, 0, |id, read| {
            verification.hole(expected, id, progress);
            expected = id + 1;
            match read {
                Ok(_) => verification.sound += 1,
                Err(what) => verification.findings.push(format!("record {id}: {what}")),
            }
            verification.findings.len() < MOST_FINDINGS
        });
        match found {
            Ok(()) if verification.findings.len() < MOST_FINDINGS => {
                let given = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'records'";
                let given: i64 = connection.query_row(given, [], |row| row.get(0))?;
                verification.hole(expected, given as u64 + 1, progress);
            }
            Ok(()) => {}
            Err(error) => verification.findings.push(format!("reading stopped at record {expected}: {error}")),
        }
        Ok(verification)
    })
}

/// Gives each sound record from after `after` on to `take`, in order, until it says that it has enough. Gives what is wrong with the
/// others.
pub fn export(
    path: &Path,
    books: &Books,
    after: u64,
    mut take: impl FnMut(Exported) -> bool,
) -> Result<Vec<String>, ReadError> {
    let mut findings = Vec::new();
    read(path, |connection| {
        let mut naming = Naming::default();
        each_record(connection, after, |id, record| {
            let read = opened(id, record).and_then(|(head, body)| {
                let read = decode(head.version, body, books, &mut naming);
                read.map(|read| (head.appended_us, read)).map_err(|error| error.to_string())
            });
            match read {
                Ok((appended_us, read)) => take(Exported { id, appended_us, delivery: read.delivery }),
                Err(what) => {
                    findings.push(format!("record {id}: {what}"));
                    findings.len() < MOST_FINDINGS
                }
            }
        })
    })?;
    Ok(findings)
}

/// Each record's id, and whether it is sound.
fn each(
    connection: &Connection,
    after: u64,
    mut take: impl FnMut(u64, Result<(), String>) -> bool,
) -> rusqlite::Result<()> {
    each_record(connection, after, |id, record| {
        let books = Books::new(usize::MAX);
        let sound = opened(id, record).and_then(|(head, body)| {
            decode(head.version, body, &books, &mut Naming::default()).map_err(|error| error.to_string())
        });
        take(id, sound.map(|_| ()))
    })
}

fn each_record(
    connection: &Connection,
    after: u64,
    mut take: impl FnMut(u64, &[u8]) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, record FROM records WHERE id > ?1 ORDER BY id")?;
    let mut rows = statement.query([after as i64])?;
    while let Some(row) = rows.next()? {
        let id = row.get::<_, i64>(0)? as u64;
        if !take(id, row.get_ref(1)?.as_blob()?) {
            break;
        }
    }
    Ok(())
}

/// Its head and body, if it is sound.
fn opened(id: u64, record: &[u8]) -> Result<(Head, &[u8]), String> {
    let (head, body) = record::open(record).map_err(|damage| damage.to_string())?;
    if head.id != id {
        return Err(Damage::Misplaced.to_string());
    }
    if head.version > VERSION {
        return Err(format!("it has format {}, which a newer Tidegate wrote", head.version));
    }
    Ok((head, body))
}

fn read<T>(path: &Path, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // One view of the file for all statements of the query.
            connection.execute_batch("BEGIN")?;
            query(&connection)
        })
        .map_err(|source| ReadError { path: path.to_owned(), source })
}
