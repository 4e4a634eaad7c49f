//! The audit log: who asked for a change, and what came of it; and beside it, who was refused.
//!
//! One JSON object a line, only ever appended to. In `audit.ndjson` under `data_dir` stands a line before each change (`begun`) and one after
//! it (`ended`), of one number: a change that a crash ended has the first only. Refusals for want of a right stand in `denials.ndjson`, so
//! many a second and no more, so that nobody without a right can turn the changes out of their file. Both are renamed when they are full, and
//! the oldest goes. No token and no body stands in either, and of a query only what the route's [`Recorded`](crate::route::Recorded) names. Where the log cannot be written, nothing is changed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Book {
    /// Changes, begun and ended.
    Changes,
    /// Who was refused.
    Denials,
}

/// One of the two.
pub(crate) struct Audit {
    book: Book,
    directory: PathBuf,
    file: Mutex<Option<File>>,
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// UTC, RFC 3339.
    pub time: String,
    /// `begun`, `ended` or `denied`.
    pub phase: &'static str,
    /// The change's number, which is that of one `begun` and one `ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// The token's name, or what else is known of the caller.
    pub who: &'a str,
    /// Its address.
    pub from: String,
    /// The operation, as the OpenAPI document names it.
    pub operation: &'a str,
    /// What it is about.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub about: &'a str,
    /// Which part of that.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub of: &'a str,
    /// The HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
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

impl Book {
    pub const fn name(self) -> &'static str {
        match self {
            Book::Changes => "audit.ndjson",
            Book::Denials => "denials.ndjson",
        }
    }

    /// Past so many bytes a new file is begun.
    const fn max_bytes(self) -> u64 {
        match self {
            Book::Changes => 64 << 20,
            Book::Denials => 8 << 20,
        }
    }

    /// How many old ones are kept.
    pub const fn kept(self) -> u32 {
        match self {
            Book::Changes => 8,
            Book::Denials => 1,
        }
    }
}

impl Audit {
    pub fn new(book: Book, directory: &Path) -> Self {
        Self { book, directory: directory.to_owned(), file: Mutex::new(None) }
    }

    /// Appends a line, and has it on disk when it returns. Blocks.
    pub fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.lock();
        let mut open = match file.take() {
            // Somebody has moved it away, or removed it.
            Some(open) if !self.is_in_place(&open)? => self.open()?,
            Some(open) if open.metadata()?.len() >= self.book.max_bytes() => {
                self.turn()?;
                self.open()?
            }
            Some(open) => open,
            None => self.open()?,
        };
        // In one piece: another process that appends cannot come between. Where it fails half-way, the next one opens anew, and heals.
        open.write_all(&text)?;
        open.sync_data()?;
        *file = Some(open);
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        // A symlink that somebody has laid there is not followed.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.directory.join(self.book.name());
        let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        heal(&mut file)?;
        Ok(file)
    }

    /// Whether this is still what is found under its name.
    fn is_in_place(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match std::fs::symlink_metadata(self.directory.join(self.book.name())) {
            Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `audit.ndjson` becomes `.1`, that `.2`, and the oldest goes.
    fn turn(&self) -> io::Result<()> {
        let name = self.book.name();
        let old = |n: u32| self.directory.join(format!("{name}.{n}"));
        for n in (1..self.book.kept()).rev() {
            match std::fs::rename(old(n), old(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(self.directory.join(name), old(1))
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a line that a crash or a full disk has cut off, so that the next one stands by itself.
fn heal(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn line(about: &str) -> Line<'_> {
        let (who, operation) = ("ops", "putRule");
        let (time, from) = (String::new(), String::new());
        let (change, status) = (Some("1".to_owned()), Some(200));
        let (of, refused, before, after, unwritten) = ("", "", None, None, 0);
        let phase = "ended";
        Line { time, phase, change, who, from, operation, about, of, status, refused, before, after, unwritten }
    }

    fn about(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let read = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        read.map(|line| line["about"].as_str().unwrap().to_owned()).collect()
    }

    /// Guarantees: lines are appended, one each, whatever is in them; nobody else can read them.
    #[test]
    fn appended() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        for about in ["a", "b\nc"] {
            Audit::new(Book::Changes, directory.path()).write(&line(about)).unwrap();
        }
        let path = directory.path().join("audit.ndjson");
        assert_eq!(about(&path), ["a", "b\nc"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Guarantees: a line that was cut off costs no other.
    #[test]
    fn a_torn_line_is_healed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.ndjson");
        Audit::new(Book::Changes, directory.path()).write(&line("a")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            Audit::new(Book::Changes, directory.path()).write(&line("b")).unwrap();
            let read = about(&path);
            assert_eq!(
                (read.first(), read.last()),
                (Some(&"a".to_owned()), Some(&"b".to_owned())),
                "{cut}: {read:?}"
            );
        }
    }

    /// Guarantees: when somebody moves the log away or removes it, the next line begins another; one that has taken its place is gone on with.
    #[test]
    fn moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("audit.ndjson"), directory.path().join("elsewhere"));
        let audit = Audit::new(Book::Changes, directory.path());
        audit.write(&line("a")).unwrap();
        std::fs::rename(&path, &elsewhere).unwrap();
        audit.write(&line("b")).unwrap();
        std::fs::remove_file(&path).unwrap();
        audit.write(&line("c")).unwrap();
        std::fs::rename(&elsewhere, &path).unwrap();
        audit.write(&line("d")).unwrap();
        assert_eq!(about(&path), ["a", "d"]);
    }

    /// Guarantees: a symlink in the place of the log is not written through.
    #[test]
    fn no_symlink() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, directory.path().join("denials.ndjson")).unwrap();
        assert!(Audit::new(Book::Denials, directory.path()).write(&line("a")).is_err());
        assert!(!elsewhere.exists());
    }
}
