//! The two books, read from their ends backwards, over the files that were full: bounded in what is looked at and in what is given.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value};

use super::audit::Book;

/// How much is read at once.
const BLOCK_BYTES: u64 = 256 << 10;
/// How much is looked at for one answer.
const MOST_BYTES: u64 = 64 << 20;
/// A longer line is none of ours.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Which lines.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub who: Option<String>,
    pub operation: Option<String>,
    pub about: Option<String>,
    /// From then on, RFC 3339 with milliseconds, as lines have it.
    pub since: Option<String>,
    /// Before then.
    pub until: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The oldest first.
    pub lines: VecDeque<Map<String, Value>>,
    /// Nothing older was left unread that could have been meant.
    pub complete: bool,
}

impl Wanted {
    fn takes(&self, line: &Map<String, Value>) -> bool {
        let is = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| line.get(name).and_then(Value::as_str) == Some(wanted))
        };
        let time = line.get("time").and_then(Value::as_str).unwrap_or_default();
        // All lines are looked at, older ones too: a clock that was set has put them in another order than they were written in.
        is("who", &self.who)
            && is("operation", &self.operation)
            && is("about", &self.about)
            && self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
    }
}

/// The newest `most` lines that are wanted. Blocks.
pub(crate) fn past(book: Book, data_dir: &Path, wanted: &Wanted, most: usize) -> io::Result<Found> {
    let mut found = Found::default();
    let mut left = MOST_BYTES;
    for file in files(book, data_dir)? {
        let mut backwards = Backwards::new(file)?;
        while let Some(block) = backwards.block(&mut left)? {
            for line in block.split(|&b| b == b'\n').rev() {
                // What a crash has cut off, or was none to begin with.
                let Ok(line) = serde_json::from_slice::<Map<String, Value>>(line) else { continue };
                if !wanted.takes(&line) {
                    continue;
                }
                if found.lines.len() == most {
                    return Ok(found);
                }
                found.lines.push_front(line);
            }
        }
        if backwards.at > 0 {
            return Ok(found);
        }
    }
    found.complete = true;
    Ok(found)
}

/// The files that are there, the newest first, each once, though one may be renamed meanwhile. A symlink is not followed.
fn files(book: Book, data_dir: &Path) -> io::Result<Vec<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    let names =
        std::iter::once(book.name().to_owned()).chain((1..=book.kept()).map(|n| format!("{}.{n}", book.name())));
    for name in names {
        match rustix::fs::open(data_dir.join(name), flags, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                let number = file.metadata()?.ino();
                if !seen.contains(&number) {
                    seen.push(number);
                    files.push(file);
                }
            }
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(files)
}

/// A file, block by block from its end, each cut at the beginning of a line.
struct Backwards {
    file: File,
    /// So much before what has been given is unread.
    at: u64,
    /// The end of a line whose beginning is unread.
    rest: Vec<u8>,
}

impl Backwards {
    fn new(file: File) -> io::Result<Self> {
        let at = file.metadata()?.len();
        Ok(Self { file, at, rest: Vec::new() })
    }

    /// Whole lines before those given last; none at the beginning, or when nothing is `left` to be looked at.
    fn block(&mut self, left: &mut u64) -> io::Result<Option<Vec<u8>>> {
        if self.at == 0 || *left == 0 {
            return Ok(None);
        }
        let length = BLOCK_BYTES.min(self.at).min(*left);
        self.at -= length;
        *left -= length;
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut block = vec![0; length as usize];
        self.file.read_exact(&mut block)?;
        block.append(&mut self.rest);
        if self.at > 0 {
            let begins = block.iter().position(|&b| b == b'\n').map_or(block.len(), |end| end + 1);
            let whole = block.split_off(begins);
            self.rest = std::mem::replace(&mut block, whole);
            if self.rest.len() > MAX_LINE_BYTES + BLOCK_BYTES as usize {
                self.rest.clear();
            }
        }
        Ok(Some(block))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn line(number: usize, who: &str) -> String {
        format!(
            "{{\"time\":\"2026-01-01T00:00:{:02}.000Z\",\"who\":\"{who}\",\"n\":{number},\"pad\":\"{}\"}}\n",
            number % 60,
            "x".repeat(5_000)
        )
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.lines.iter().map(|line| line["n"].as_u64().unwrap()).collect()
    }

    /// Guarantees: lines are found over several files and many blocks, each once and in their order, past one that was cut off; by who and when; and it
    /// is said whether there may be more.
    #[test]
    fn backwards_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, numbers: std::ops::Range<usize>, torn: &str| {
            let text: String = numbers.map(|n| line(n, if n % 7 == 0 { "ops" } else { "ci" })).collect();
            std::fs::write(directory.path().join(name), text + torn).unwrap();
        };
        write("audit.ndjson.2", 0..200, "");
        write("audit.ndjson.1", 200..400, "");
        write("audit.ndjson", 400..600, "{\"time\":\"20");
        let ask = |wanted: &Wanted, most| past(Book::Changes, directory.path(), wanted, most).unwrap();
        let all = ask(&Wanted::default(), 1_000);
        assert_eq!((numbers(&all), all.complete), ((0..600).collect(), true));
        let last = ask(&Wanted::default(), 300);
        assert_eq!((numbers(&last), last.complete), ((300..600).collect(), false));
        let ops = ask(&Wanted { who: Some("ops".to_owned()), ..Wanted::default() }, 20);
        let expected: Vec<u64> = (0..600).filter(|n| n % 7 == 0).collect();
        assert_eq!(numbers(&ops), expected[expected.len() - 20..]);
        let none = ask(&Wanted { about: Some("hot".to_owned()), ..Wanted::default() }, 20);
        assert_eq!((none.lines.len(), none.complete), (0, true));
        let nobody = past(Book::Denials, directory.path(), &Wanted::default(), 20).unwrap();
        assert_eq!((nobody.lines.len(), nobody.complete), (0, true));
    }

    /// Guarantees: what is older or newer than asked for is left out, wherever it stands: a clock may have been set.
    #[test]
    fn a_part_of_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let text: String = (0..60).map(|n| line((n + 12) % 60, "ops")).collect();
        std::fs::write(directory.path().join("denials.ndjson"), text).unwrap();
        let at = |second: u32| Some(format!("2026-01-01T00:00:{second:02}.000Z"));
        let wanted = Wanted { since: at(10), until: at(13), ..Wanted::default() };
        let found = past(Book::Denials, directory.path(), &wanted, 100).unwrap();
        assert_eq!((numbers(&found), found.complete), (vec![12, 10, 11], true));
    }

    /// Guarantees: a symlink in the place of a book is not followed.
    #[test]
    fn no_symlink() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, line(1, "ops")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.path().join("audit.ndjson")).unwrap();
        assert!(past(Book::Changes, directory.path(), &Wanted::default(), 1).is_err());
    }
}
