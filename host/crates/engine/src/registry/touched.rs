//! Whether a file has been touched since it was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// What tells whether a file is still the one that was read. Its time alone does not: images and archives give all of their files the same, and a copy may
/// keep that of its original. When the inode was changed nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    bytes: u64,
    inode: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Touched {
    /// Of a file as it is now.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// A file written a moment ago may be written again within the clock's grain: its times prove nothing yet.
    pub fn settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        now.saturating_sub(self.changed.0) > 2
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    /// Guarantees: a module is known to be another one although it is as long and, as in an image or archive, of the same time: one that was laid in its
    /// place, and one that was written over it. What was written a moment ago is read again in any case.
    #[test]
    fn another_module_of_the_same_length_and_time() {
        let directory = TempDir::new().unwrap();
        let (at, beside) = (directory.path().join("a.wasm"), directory.path().join("b.wasm"));
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
            Touched::of(&fs::metadata(path).unwrap())
        };
        let first = write(&at, "one");
        write(&beside, "two");
        fs::rename(&beside, &at).unwrap();
        let laid = Touched::of(&fs::metadata(&at).unwrap());
        assert_ne!(laid, first);
        assert_eq!((laid.bytes, laid.modified), (first.bytes, first.modified));
        // When it was changed, the clock's grain tells after some milliseconds; until then it does not count as settled.
        let over = std::iter::repeat_with(|| write(&at, "six")).find(|over| over.changed != laid.changed).unwrap();
        assert!(over != laid && over.inode == laid.inode && over.modified == laid.modified);
        assert!(!over.settled());
        assert!(Touched { changed: (over.changed.0 - 3, 0), ..over }.settled());
    }
}
