//! What can go wrong with the file, and what it means.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::{ErrorCode, ffi};
use tidegate_model::SpoolError;

/// Why something could not be done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It would grow beyond its bound.
    Full { bytes: u64 },
    /// The file is not as it was written: what is whole in it must be saved.
    Damaged(String),
    /// The disk has no room. What is open stays open: to open a file anew takes room too, and what stands in this one must
    /// still be drained.
    DiskFull(String),
    /// It may work later, or when somebody acts.
    Unavailable(String),
}

impl Trouble {
    pub fn into_error(self, path: &Path, max_bytes: u64) -> SpoolError {
        match self {
            Trouble::Full { bytes } => SpoolError::Full { bytes, max_bytes },
            Trouble::DiskFull(why) | Trouble::Unavailable(why) => SpoolError::Unavailable(why),
            Trouble::Damaged(what) => SpoolError::Unavailable(format!(
                "{} is damaged, and stays so after what is whole was saved: {what}; is its disk sound?",
                path.display()
            )),
        }
    }

    /// What an error of SQLite means.
    pub fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let (file, path) = (path, path.display());
        let rusqlite::Error::SqliteFailure(ffi::Error { code, extended_code }, _) = error else {
            // A value of another type than was written, a column that is not there.
            return Trouble::Damaged(error.to_string());
        };
        match code {
            ErrorCode::NotADatabase
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::TypeMismatch
            | ErrorCode::ConstraintViolation
            // "no such table", and the like.
            | ErrorCode::Unknown => Trouble::Damaged(error.to_string()),
            // Cut off within a page.
            _ if [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS].contains(extended_code) => {
                Trouble::Damaged(error.to_string())
            }
            ErrorCode::ReadOnly if of_no_known_version(file) => {
                Trouble::Damaged("its head names a version of SQLite's format that there is not".to_owned())
            }
            ErrorCode::DiskFull => Trouble::DiskFull(format!("{path}: the disk is full: make room on it")),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Trouble::Unavailable(format!("{path} is locked by another process: {error}"))
            }
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => Trouble::Unavailable(format!(
                "{path} cannot be opened for writing: {error}; check that it and its directory belong to the user Tidegate runs as"
            )),
            _ => Trouble::Unavailable(format!("{path}: {error}")),
        }
    }
}

/// Whether the head of the file names a version of the format that is not known (file format, 1.3.3): SQLite would only read it then.
fn of_no_known_version(path: &Path) -> bool {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[18..].iter().any(|version| ![1, 2].contains(version))
}
