//! What an operator does with dead letters: ask for them to be replayed, take that back, purge them.
//!
//! All of it works on the file while the host writes it, in steps of [`STEP`] letters with a transaction each, so that the host's
//! own writes never wait long. What dies while an edit is at work is not touched by it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{Access, access};

use super::file::{FileError, STEP, change, delete, step};
use super::read::{Filter, ids};

/// What writing the file anew takes beside its pages: frames of the log, and a little for others.
const BESIDE_BYTES: u64 = 1 << 20;

/// Which letters an edit is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These; ids that are not there are passed over.
    Ids(Vec<i64>),
    /// All that match.
    Matching(Filter),
}

/// Asks the host to put these back among its messages, now or when it is started; gives how many there are now to be replayed of
/// these. Left out are letters without a message: what a rule made of itself, by `tick`.
///
/// # Errors
/// The file cannot be changed; steps that were done stay done.
pub fn request_replay(path: &Path, which: &Selection, now_us: i64) -> Result<u64, FileError> {
    in_steps(path, which, |connection, id| request(connection, id, now_us))
}

/// Enters the wish for one letter.
pub(super) fn request(connection: &Connection, id: i64, now_us: i64) -> rusqlite::Result<usize> {
    const REQUEST: &str = "INSERT INTO dead_letter_replays (dead_letter, requested_us)
        SELECT id, ?2 FROM dead_letters WHERE id = ?1 AND topic <> ''
        ON CONFLICT (dead_letter) DO UPDATE SET requested_us = requested_us";
    connection.prepare_cached(REQUEST)?.execute((id, now_us))
}

/// Takes the wish to replay these back; gives how many it had not been done for. One that is on its way is done all the same.
///
/// # Errors
/// The file cannot be changed; steps that were done stay done.
pub fn cancel_replay(path: &Path, which: &Selection) -> Result<u64, FileError> {
    in_steps(path, which, |connection, id| {
        connection.prepare_cached("DELETE FROM dead_letter_replays WHERE dead_letter = ?1")?.execute([id])
    })
}

/// Deletes these for good; gives how many. Their room is used for letters to come; [`compact`] gives it back to the disk.
///
/// # Errors
/// The file cannot be changed; steps that were done stay done.
pub fn purge(path: &Path, which: &Selection) -> Result<u64, FileError> {
    in_steps(path, which, delete)
}

/// Why the file was not written anew.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// There is not room enough for it. What else is on that disk, spool and state, would be without any meanwhile.
    #[error(
        "to write {path} anew takes up to {needed} bytes meanwhile on the disk of {on}, and {free} are free there: make room, or purge more first"
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What is on the disk without room: the file, or where SQLite has temporary ones.
        on: PathBuf,
        /// The most it can take.
        needed: u64,
        /// What that disk has.
        free: u64,
    },
    /// The file cannot be read or changed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Gives freed room back to the disk. Writes the file anew: what is left in it is written twice meanwhile, and the host's dead letters wait. SQLite does that in a
/// temporary file (in `SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp` or the current directory), since in memory it would be all of them at once, and then in the
/// write-ahead log beside the file.
///
/// # Errors
/// The file cannot be changed, or there is no room; it is as it was then.
pub fn compact(path: &Path) -> Result<(), CompactError> {
    let elsewhere = temporary().filter(|temporary| disk(temporary) != disk(path));
    compact_within(path, elsewhere.as_deref(), free_beside)
}

/// `elsewhere` is where temporary files are, if that is another disk.
fn compact_within(
    path: &Path,
    elsewhere: Option<&Path>,
    free: impl Fn(&Path) -> rusqlite::Result<u64>,
) -> Result<(), CompactError> {
    let short = change(path, None, |connection| {
        let left = left(connection)?;
        let needs = match elsewhere {
            None => vec![(path, left.saturating_mul(2))],
            Some(elsewhere) => vec![(path, left), (elsewhere, left)],
        };
        for (on, bytes) in needs {
            let (needed, free) = (bytes.saturating_add(BESIDE_BYTES), free(on)?);
            if free < needed {
                return Ok(Some((on.to_owned(), needed, free)));
            }
        }
        connection.execute_batch("PRAGMA temp_store = FILE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
        Ok(None)
    })?;
    match short {
        None => Ok(()),
        Some((on, needed, free)) => Err(CompactError::NoRoom { path: path.to_owned(), on, needed, free }),
    }
}

/// The bytes of what is left in the file: pages that are free are not written again, or it could never be made smaller on the disk that it has filled.
fn left(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages.saturating_mul(number("page_size")?)).unwrap_or(0))
}

/// Where SQLite makes temporary files: the first of these that it can write to (<https://sqlite.org/tempfiles.html>, section 5).
fn temporary() -> Option<PathBuf> {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp", "."].map(PathBuf::from);
    let writable = |it: &PathBuf| it.is_dir() && access(it, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    named.chain(usual).find(writable)
}

fn disk(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.dev())
}

/// What the disk of a file has for us.
fn free_beside(path: &Path) -> rusqlite::Result<u64> {
    let stat = rustix::fs::statvfs(path).map_err(|error| {
        let why = format!("how much room its disk has cannot be told: {error}");
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), Some(why))
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn in_steps(
    path: &Path,
    which: &Selection,
    mut each: impl FnMut(&Connection, i64) -> rusqlite::Result<usize>,
) -> Result<u64, FileError> {
    change(path, 0, |connection| {
        let mut changed = 0;
        match which {
            Selection::Ids(ids) => {
                for part in ids.chunks(STEP) {
                    changed += step(connection, part, &mut each)?;
                }
            }
            Selection::Matching(filter) => {
                let last: Option<i64> =
                    connection.query_row("SELECT max(id) FROM dead_letters", [], |row| row.get(0))?;
                let mut after = 0;
                loop {
                    let mut part = ids(connection, filter, after, STEP)?;
                    part.retain(|id| Some(*id) <= last);
                    let Some(newest) = part.last() else { break };
                    after = *newest;
                    changed += step(connection, &part, &mut each)?;
                }
            }
        }
        Ok(changed)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: where the disk has not room for the file twice, or one of two disks for it once, it is not written anew and nothing of it is lost; what is free in the file is not counted, so
    /// that a file which fills its disk can be made smaller once it has been purged.
    #[test]
    fn room_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letters");
        let rows = Connection::open(&path).unwrap();
        rows.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE filler (bytes BLOB)").unwrap();
        for _ in 0..4 {
            rows.execute("INSERT INTO filler VALUES (zeroblob(1000000))", []).unwrap();
        }
        let size = || std::fs::metadata(&path).unwrap().len();
        let refused = |free: u64| match compact_within(&path, None, |_| Ok(free)) {
            Err(CompactError::NoRoom { needed, free: told, .. }) => Some((needed, told)),
            done => done.map(|()| None).unwrap(),
        };
        // Each of two disks needs room for the file once.
        let elsewhere = Path::new("elsewhere");
        for (beside, there, expected) in [
            (4_000_000, 9_000_000, Some(&*path)),
            (9_000_000, 4_000_000, Some(elsewhere)),
            (6_000_000, 6_000_000, None),
        ] {
            let free = |on: &Path| Ok(if on == path { beside } else { there });
            match compact_within(&path, Some(elsewhere), free) {
                Err(CompactError::NoRoom { on, .. }) => assert_eq!(Some(&*on), expected),
                done => assert_eq!((done.unwrap(), expected), ((), None)),
            }
        }
        let (needed, told) = refused(8_000_000).unwrap();
        assert!(needed > 8_000_000 && told == 8_000_000, "{needed} bytes");
        assert_eq!(rows.query_row("SELECT count(*) FROM filler", [], |row| row.get::<_, i64>(0)).unwrap(), 4);

        rows.execute_batch("DELETE FROM filler; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert!(size() > 4_000_000);
        assert_eq!(refused(8_000_000), None);
        assert!(size() < 1_000_000, "{} bytes", size());
        assert!(free_beside(&path).unwrap() > 0);
    }
}
