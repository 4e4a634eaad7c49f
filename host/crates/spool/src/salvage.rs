//! Saves what is whole in a file that SQLite can no longer read, or reads with holes.
//!
//! The pages are searched for what records begin with; a record that is found is followed over its pages, and taken only if its
//! checksum fits. So damage to the tree, to the head of the file or to a page costs no more than the records whose own bytes it
//! hit. What had been drained may be found on freed pages: it is told by the marks that later records and the file's own
//! `progress` carry; what slips through is written twice, never lost.
//!
//! The new file is complete before the old one is moved aside, as `<name>.db.damaged-<when>`; the newest few of those are kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::database::{Database, Progress, beside};
use crate::file::SpoolFile;
use crate::pages::search;
use crate::record::Head;
use crate::trouble::Trouble;

/// Damaged files kept beside the spool.
const MOST_KEPT: usize = 3;
/// More records missing at the end than this are taken for damage to the number that says so.
const MOST_AT_END: u64 = 1 << 20;

/// Takes over all whole records of the file into a new one, and moves it aside.
pub(crate) fn salvage(spool: &mut SpoolFile, what: &str) -> Result<(), Trouble> {
    let path = spool.path.clone();
    tracing::error!(path = %path.display(), what, "the spool's file is damaged: saving what is whole in it");
    spool.open = None;
    let new = beside(&path, ".salvage");
    let failed = |error: io::Error| Trouble::Unavailable(format!("{} cannot be salvaged: {error}", path.display()));
    for leftover in with_wal(&new) {
        remove(&leftover).map_err(failed)?;
    }
    let taken = take_over(&path, &new).map_err(|error| match error {
        TakeOver::Io(error) => failed(error),
        TakeOver::Sql(error) => Trouble::Unavailable(format!("{} cannot be written: {error}", new.display())),
    })?;
    let aside = beside(&path, &format!(".damaged-{}", spool.clock.now_us()));
    for (from, to) in with_wal(&path).iter().zip(with_wal(&aside)) {
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    finish(&path)?;
    prune(&path);
    spool.account.damaged_records.fetch_add(taken.missing, Relaxed);
    spool.account.damaged_files.fetch_add(1, Relaxed);
    tracing::error!(
        path = %path.display(),
        aside = %aside.display(),
        saved = taken.saved,
        missing = taken.missing,
        "the damaged spool was moved aside, and its whole records taken over; the missing ones are lost unless a person finds them there"
    );
    Ok(())
}

/// Puts a salvaged file in its place, if that was interrupted.
pub(crate) fn finish(path: &Path) -> Result<(), Trouble> {
    let new = beside(path, ".salvage");
    if path.exists() || !new.exists() {
        return Ok(());
    }
    let renamed = fs::rename(&new, path).and_then(|()| match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    });
    renamed.map_err(|error| Trouble::Unavailable(format!("{} cannot be put in place: {error}", path.display())))
}

#[derive(Default)]
struct Taken {
    saved: u64,
    missing: u64,
}

enum TakeOver {
    Io(io::Error),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for TakeOver {
    fn from(error: rusqlite::Error) -> Self {
        TakeOver::Sql(error)
    }
}

fn take_over(old: &Path, new: &Path) -> Result<Taken, TakeOver> {
    let mut database = Database::open(new)?;
    let transaction = database.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (removed, mut given) = told(old);
    let mut low = removed + 1;
    let mut refused = None;
    {
        let mut insert =
            transaction.prepare("INSERT OR IGNORE INTO records (id, rows, bytes, record) VALUES (?1, ?2, ?3, ?4)")?;
        let mut take = |head: Head, record: &[u8]| {
            low = low.max(head.oldest);
            let row = (head.id as i64, head.rows, record.len() as i64, record);
            match insert.execute(row) {
                Ok(_) => true,
                Err(error) => {
                    refused = Some(error);
                    false
                }
            }
        };
        let seen = search(old, &mut take).map_err(TakeOver::Io)?;
        given = given.max(seen);
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    transaction.execute("DELETE FROM records WHERE id < ?1", [low as i64])?;
    let (saved, last): (i64, i64) = transaction.query_row(
        "SELECT count(*), coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'records'), 0) FROM records",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let (saved, last) = (saved as u64, (last as u64).max(low - 1));
    Progress { removed_through: low - 1, checked_through: last }.write(&transaction)?;
    transaction.commit()?;
    // The last connection that closes folds the WAL in: the new file is whole by itself.
    database.connection.close().map_err(|(_, error)| error)?;
    // Those at the end leave no hole; the file's own count of ids or what is left of them tells, if it can be believed.
    let last = if given < last.saturating_add(MOST_AT_END) { last.max(given) } else { last };
    Ok(Taken { saved, missing: (last + 1 - low).saturating_sub(saved) })
}

/// What the damaged file itself says, as far as it can still be asked: how far it was drained, and the last id it gave.
fn told(path: &Path) -> (u64, u64) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return (0, 0) };
    let progress = Progress::read(&connection).ok().flatten().unwrap_or_default();
    let given = "SELECT seq FROM sqlite_sequence WHERE name = 'records'";
    let given = connection.query_row(given, [], |row| row.get::<_, i64>(0)).unwrap_or_default();
    (progress.removed_through, given.max(0) as u64)
}

/// The database and its companions.
fn with_wal(path: &Path) -> [PathBuf; 3] {
    [beside(path, "-wal"), beside(path, "-shm"), path.to_owned()]
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all but the newest damaged files.
fn prune(path: &Path) {
    let mut kept: Vec<PathBuf> = damaged(path);
    kept.sort();
    for old in kept.iter().rev().skip(MOST_KEPT) {
        tracing::warn!(path = %old.display(), "removing an old damaged spool: newer ones are kept");
        for file in with_wal(old) {
            // That it stays is no harm but its size.
            let _ = remove(&file);
        }
    }
}

/// The damaged files beside the spool at `path`.
pub(crate) fn damaged(path: &Path) -> Vec<PathBuf> {
    let start = beside(path, ".damaged-");
    let Some(start) = start.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    files
        .filter(|file| {
            let name = file.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(start) && !name.ends_with("-wal") && !name.ends_with("-shm"))
        })
        .collect()
}
