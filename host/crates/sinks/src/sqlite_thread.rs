//! One SQLite file and the one thread that touches it.
//!
//! SQLite blocks, so it gets a thread of its own; callers send work and await the reply. The file is opened by the first work and
//! again after every error, since the file may have been replaced. It never waits longer than [`BUSY_TIMEOUT`] for another
//! process' lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};
use tidegate_model::SinkError;
use tidegate_sqlite::Journal;
use tokio::sync::{mpsc, oneshot};

/// How long a lock held by another process is waited for before the write counts as failed.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// How the file is opened, beside what holds for all of ours. A checkpoint every 32 MB of WAL and not every 4: a write of many series touches a page of the
/// index each, and this halves what is written in all.
const PRAGMAS: &str = "PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000;";
/// What its WAL is cut back to.
const WAL_BYTES: u32 = 64 << 20;

type Work<S> = Box<dyn FnOnce(&mut OpenFile<S>) + Send>;

/// A SQLite file with the schema `schema` and, in the thread, what its user keeps between writes: `S`.
#[derive(Debug)]
pub(crate) struct SqliteThread<S> {
    path: PathBuf,
    schema: &'static str,
    running: Option<Running<S>>,
}

#[derive(Debug)]
struct Running<S> {
    work: mpsc::Sender<Work<S>>,
    thread: JoinHandle<()>,
}

/// What the thread owns.
struct OpenFile<S> {
    path: PathBuf,
    schema: &'static str,
    connection: Option<Connection>,
    state: S,
}

impl<S: Default + Send + 'static> SqliteThread<S> {
    /// Neither starts the thread nor opens the file. `schema` must be such that it can be run on every opening.
    pub(crate) fn new(path: PathBuf, schema: &'static str) -> Self {
        Self { path, schema, running: None }
    }

    /// Runs `work` on the open file. An error leaves no transaction open, whatever `work` did.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Connection, &mut S) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let sender = self.started()?;
        let (reply, answer) = oneshot::channel();
        let boxed: Work<S> = Box::new(move |file| {
            // Nobody listens when the write was given up; the work is done all the same: at least once.
            let _ = reply.send(file.run(work));
        });
        let gone = |path: &Path| SinkError::Retry(format!("{}: its thread has ended unexpectedly", path.display()));
        if sender.send(boxed).await.is_err() {
            self.running = None;
            return Err(gone(&self.path));
        }
        match answer.await {
            Ok(result) => result,
            Err(_) => {
                self.running = None;
                Err(gone(&self.path))
            }
        }
    }

    /// Ends the thread, which closes the file and folds its WAL into it.
    pub(crate) async fn close(&mut self) {
        if let Some(Running { work, thread }) = self.running.take() {
            drop(work);
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!(path = %self.path.display(), "the thread of a SQLite file panicked");
            }
        }
    }

    fn started(&mut self) -> Result<mpsc::Sender<Work<S>>, SinkError> {
        if let Some(running) = &self.running {
            return Ok(running.work.clone());
        }
        let (sender, mut receiver) = mpsc::channel::<Work<S>>(1);
        let mut file =
            OpenFile { path: self.path.clone(), schema: self.schema, connection: None, state: S::default() };
        let thread = tidegate_telemetry::thread("sqlite", move || {
            while let Some(work) = receiver.blocking_recv() {
                work(&mut file);
            }
        })
        .map_err(|error| SinkError::Retry(format!("cannot start a thread for {}: {error}", self.path.display())))?;
        self.running = Some(Running { work: sender.clone(), thread });
        Ok(sender)
    }
}

impl<S: Default> OpenFile<S> {
    fn run<T>(&mut self, work: impl FnOnce(&mut Connection, &mut S) -> rusqlite::Result<T>) -> Result<T, SinkError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                // Another file may stand there now: what was known of the old one does not hold.
                self.state = S::default();
                self.connection.insert(open(&self.path, self.schema)?)
            }
        };
        work(connection, &mut self.state).map_err(|error| {
            self.connection = None;
            judge(&self.path, &error)
        })
    }
}

fn open(path: &Path, schema: &str) -> Result<Connection, SinkError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| {
            SinkError::NeedsOperator(format!("cannot make the directory {}: {error}", parent.display()))
        })?;
    }
    prepared(path, schema).map_err(|error| judge(path, &error))
}

fn prepared(path: &Path, schema: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if let Journal::Other(mode) = tidegate_sqlite::durable_with_wal(&connection, WAL_BYTES)? {
        tracing::warn!(path = %path.display(), mode, "SQLite cannot use a WAL here: readers will block writes");
    }
    connection.execute_batch(PRAGMAS)?;
    connection.execute_batch(schema)?;
    Ok(connection)
}

/// What an error of SQLite means for the sink, and what to do about it.
pub(crate) fn judge(path: &Path, error: &rusqlite::Error) -> SinkError {
    let path = path.display();
    let rusqlite::Error::SqliteFailure(ffi::Error { code, extended_code }, _) = error else {
        return SinkError::Retry(format!("{path}: {error}"));
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            SinkError::Retry(format!("{path} is locked by another process: {error}"))
        }
        ErrorCode::DiskFull => SinkError::Retry(format!("{path}: the disk is full: make room on it")),
        ErrorCode::NotADatabase => {
            SinkError::NeedsOperator(format!("{path} is no SQLite database: move it away, or give another path"))
        }
        ErrorCode::DatabaseCorrupt => SinkError::NeedsOperator(format!(
            "{path} is damaged: {error}; move it away (a new one is made), and try `sqlite3 FILE .recover` on the old one"
        )),
        // The file was moved or deleted under us: opening again makes a new one.
        ErrorCode::ReadOnly if *extended_code == ffi::SQLITE_READONLY_DBMOVED => {
            SinkError::Retry(format!("{path} was moved or deleted while in use"))
        }
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => {
            SinkError::NeedsOperator(format!(
                "{path} cannot be opened for writing: {error}; check that it and its directory belong to the user Tidegate runs as"
            ))
        }
        ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => SinkError::NeedsOperator(
            format!("{path} has tables of another shape: {error}; give another path, or bring the tables into shape"),
        ),
        _ => SinkError::Retry(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> SinkError {
        judge(Path::new("/data/x.db"), &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    /// Guarantees: what passes by itself is tried again, what does not names the file and asks for a person.
    #[test]
    fn verdicts() {
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY_DBMOVED] {
            assert!(matches!(failure(code), SinkError::Retry(text) if text.contains("/data/x.db")), "{code}");
        }
        for code in [ffi::SQLITE_NOTADB, ffi::SQLITE_CORRUPT, ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY] {
            assert!(matches!(failure(code), SinkError::NeedsOperator(text) if text.contains("/data/x.db")), "{code}");
        }
    }
}
