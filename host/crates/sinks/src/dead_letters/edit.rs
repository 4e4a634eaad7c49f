//! What an operator does with dead letters: ask for them to be replayed, take that back, purge them.
//!
//! All of it works on the file while the host writes it, in steps of [`STEP`] letters with a transaction each, so that the host's
//! own writes never wait long. What dies while an edit is at work is not touched by it.

use std::path::Path;

use rusqlite::Connection;

use super::file::{FileError, STEP, change, delete, step};
use super::read::{Filter, ids};

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

/// Gives freed room back to the disk. Writes the file anew: it takes that much room meanwhile, and the host's dead letters wait. SQLite does that in a temporary
/// file (in `SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp` or the current directory): in memory it would be all of them at once.
///
/// # Errors
/// The file cannot be changed, or there is no room; it is as it was then.
pub fn compact(path: &Path) -> Result<(), FileError> {
    change(path, (), |connection| {
        connection.execute_batch("PRAGMA temp_store = FILE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
    })
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
