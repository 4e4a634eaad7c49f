//! The audit log: who asked for a change, and what came of it; and who was refused.
//!
//! One JSON object a line in `audit.ndjson` under `data_dir`, only ever appended to. At 64 MiB it is renamed, and eight of those
//! are kept. No token, no body and no query stands in it. Where it cannot be written, nothing is changed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

/// Past so many bytes a new file is begun.
const MAX_BYTES: u64 = 64 << 20;
/// How many old ones are kept.
const KEPT: u32 = 8;
const NAME: &str = "audit.ndjson";

/// The audit log.
pub(crate) struct Audit {
    directory: PathBuf,
    file: Mutex<Option<File>>,
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// UTC, RFC 3339.
    pub time: String,
    /// The token's name, or what else is known of the caller.
    pub who: &'a str,
    /// Its address.
    pub from: String,
    /// The operation, as the OpenAPI document names it.
    pub operation: &'a str,
    /// What it is about.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub about: &'a str,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The word of the refusal.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub refused: &'a str,
    /// The digest of what it is about, before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<&'a str>,
    /// And after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<&'a str>,
    /// How many refusals before this one were not written, since there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub unwritten: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Audit {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file: Mutex::new(None) }
    }

    /// Whether a line could be written now. Blocks.
    pub fn ready(&self) -> io::Result<()> {
        let mut file = self.lock();
        if file.is_none() {
            *file = Some(self.open()?);
        }
        Ok(())
    }

    /// Appends a line, and has it on disk when it returns. Blocks.
    pub fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.lock();
        let mut open = match file.take() {
            Some(open) if open.metadata()?.len() >= MAX_BYTES => {
                self.turn()?;
                self.open()?
            }
            Some(open) => open,
            None => self.open()?,
        };
        // In one piece: another process that appends cannot come between.
        open.write_all(&text)?;
        open.sync_data()?;
        *file = Some(open);
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        // A symlink that somebody has laid there is not followed.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.directory.join(NAME), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// `audit.ndjson` becomes `.1`, that `.2`, and the oldest goes.
    fn turn(&self) -> io::Result<()> {
        let old = |n: u32| self.directory.join(format!("{NAME}.{n}"));
        for n in (1..KEPT).rev() {
            match std::fs::rename(old(n), old(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(self.directory.join(NAME), old(1))
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log under `data_dir`, for reading; none if nothing was written yet.
pub(crate) fn audit_file(data_dir: &Path) -> io::Result<Option<File>> {
    match rustix::fs::open(data_dir.join(NAME), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn line(about: &str) -> Line<'_> {
        let (who, operation) = ("ops", "putRule");
        let time = String::new();
        Line {
            time,
            who,
            from: String::new(),
            operation,
            about,
            status: 200,
            refused: "",
            before: None,
            after: None,
            unwritten: 0,
        }
    }

    /// Guarantees: lines are appended, one each, whatever is in them; nobody else can read them.
    #[test]
    fn appended() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        for about in ["a", "b\nc"] {
            Audit::new(directory.path()).write(&line(about)).unwrap();
        }
        let path = directory.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        let about: Vec<String> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["about"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(about, ["a", "b\nc"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Guarantees: a symlink in the place of the log is not written through.
    #[test]
    fn no_symlink() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(NAME)).unwrap();
        let audit = Audit::new(directory.path());
        assert!(audit.ready().is_err() && audit.write(&line("a")).is_err());
        assert!(!elsewhere.exists());
    }
}
