//! Compiled modules on disk, so that a restart does not compile them again.
//!
//! A file is `<sha256 of the module>-<how it was compiled>.aot`: a mark, a SHA-256, machine code. The digest covers the file's name too,
//! so that one entry cannot stand in for another. What does not fit is compiled again, and counted; the directory must be ours
//! alone, for who may write to it could put machine code and its digest there.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::admission::native::Precompiled;

/// What all compiled modules may take up together; the ones not used for longest go first.
const MAX_BYTES: u64 = 1 << 30;
/// First bytes of a file; the number is that of the layout.
const MARK: &[u8; 16] = b"tidegate-aot-01\n";
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = MARK.len() + DIGEST_BYTES;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    max_bytes: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
}

/// What the cache has done since the start, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheTotals {
    /// Modules that needed no compiling.
    pub hits: u64,
    /// Modules that were not there.
    pub misses: u64,
    /// Files that did not fit their digest, and were compiled again.
    pub damaged: u64,
    /// Files removed for room.
    pub evicted: u64,
}

/// Why a directory cannot be the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("the directory of compiled modules {} cannot be used: {error}", directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else could put machine code there.
    #[error(
        "the directory of compiled modules {} {what}, so what is in it is not trusted: remove it, and it is made anew with mode 0700",
        directory.display()
    )]
    NotOurs {
        /// Which.
        directory: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Of which module, compiled how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// Both are hexadecimal.
    pub fn new(module_sha256: &str, compiled_how: &str) -> Self {
        Self(format!("{module_sha256}-{compiled_how}.aot"))
    }
}

impl Cache {
    /// Opens the directory, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// It cannot be made, belongs to somebody else, or somebody else may write to it.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let unusable = |error| CacheError::Unusable { directory: directory.to_owned(), error };
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(error)),
        }
        // Of the thing itself: through a link it could be changed for another directory at any time.
        let metadata = fs::symlink_metadata(directory).map_err(unusable)?;
        if let Some(what) = distrusted(&metadata, rustix::process::geteuid().as_raw()) {
            return Err(CacheError::NotOurs { directory: directory.to_owned(), what });
        }
        let cache = Self { directory: directory.to_owned(), max_bytes: MAX_BYTES, counts: Counts::default() };
        for (path, _, _) in cache.files("part").map_err(unusable)? {
            // Left by a process that was killed as it wrote; if it stays it only takes room.
            let _ = fs::remove_file(path);
        }
        Ok(cache)
    }

    /// The compiled module, if it is there and as it was stored.
    pub(super) fn load(&self, key: &Key) -> Option<Precompiled> {
        let path = self.directory.join(&key.0);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %path.display(), "a compiled module cannot be read, it is compiled again: {error}");
                }
                self.counts.misses.fetch_add(1, Relaxed);
                return None;
            }
        };
        match checked(key, bytes) {
            Some(compiled) => {
                self.counts.hits.fetch_add(1, Relaxed);
                // When it was last of use, for `evict`; if that cannot be noted, it goes earlier.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(compiled)
            }
            None => {
                self.refuse(key, "does not fit its digest");
                None
            }
        }
    }

    /// The file of that key is of no use: it goes, and is counted.
    pub(super) fn refuse(&self, key: &Key, why: &str) {
        self.counts.damaged.fetch_add(1, Relaxed);
        let path = self.directory.join(&key.0);
        tracing::warn!(file = %path.display(), "a compiled module {why}: it is removed, and the module is compiled again");
        // If it stays it is refused again.
        let _ = fs::remove_file(path);
    }

    /// Stores a compiled module, whole or not at all.
    pub(super) fn store(&self, key: &Key, compiled: &Precompiled) -> io::Result<()> {
        let body = compiled.bytes();
        self.make_room((HEAD_BYTES + body.len()) as u64)?;
        let part = self.directory.join(format!("{}.part", key.0));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(MARK)?;
        file.write_all(&digest(key, body))?;
        file.write_all(body)?;
        // No sync: after a power cut the digest tells whether it is whole.
        fs::rename(&part, self.directory.join(&key.0))
    }

    /// What it has done.
    pub fn totals(&self) -> CacheTotals {
        CacheTotals {
            hits: self.counts.hits.load(Relaxed),
            misses: self.counts.misses.load(Relaxed),
            damaged: self.counts.damaged.load(Relaxed),
            evicted: self.counts.evicted.load(Relaxed),
        }
    }

    fn make_room(&self, wanted: u64) -> io::Result<()> {
        let mut files = self.files("aot")?;
        files.sort_by_key(|&(_, _, used)| used);
        let mut taken: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (path, bytes, _) in files {
            if taken + wanted <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            taken -= bytes;
            self.counts.evicted.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Path, size and last use of the files with that ending.
    fn files(&self, ending: &str) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == ending)
                && let Ok(metadata) = fs::symlink_metadata(&path)
                && metadata.is_file()
            {
                found.push((path, metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
            }
        }
        Ok(found)
    }
}

/// What speaks against a directory, for the user `me`.
fn distrusted(metadata: &Metadata, me: u32) -> Option<&'static str> {
    if !metadata.is_dir() {
        Some("is no directory of its own")
    } else if metadata.uid() != me {
        Some("belongs to another user")
    } else if metadata.mode() & 0o022 != 0 {
        Some("can be written to by others")
    } else {
        None
    }
}

fn digest(key: &Key, body: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new_with_prefix(&key.0).chain_update(body).finalize().into()
}

/// The body of a file, if its digest fits.
fn checked(key: &Key, mut bytes: Vec<u8>) -> Option<Precompiled> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let fits = head.starts_with(MARK) && head[MARK.len()..] == digest(key, body);
    fits.then(|| Precompiled::vouched_for(bytes.split_off(HEAD_BYTES)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name, "how")
    }

    fn body(bytes: &[u8]) -> Precompiled {
        Precompiled::vouched_for(bytes.to_owned())
    }

    /// Guarantees: what was stored is given back; a bit that has flipped anywhere in the file, a cut and an entry under another
    /// name are not, and are counted; the file is gone then.
    #[test]
    fn nothing_without_its_digest() {
        let directory = TempDir::new().unwrap();
        let cache = Cache::open(&directory.path().join("cache")).unwrap();
        cache.store(&key("a"), &body(b"machine code")).unwrap();
        assert_eq!(cache.load(&key("a")).unwrap().bytes(), b"machine code");
        assert!(cache.load(&key("b")).is_none());
        let file = directory.path().join("cache").join("a-how.aot");
        let sound = fs::read(&file).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &flipped).unwrap();
            assert!(cache.load(&key("a")).is_none(), "bit {bit}");
            assert!(!file.exists());
        }
        for cut in 0..sound.len() {
            fs::write(&file, &sound[..cut]).unwrap();
            assert!(cache.load(&key("a")).is_none(), "the first {cut} bytes");
        }
        fs::write(directory.path().join("cache").join("b-how.aot"), &sound).unwrap();
        assert!(cache.load(&key("b")).is_none(), "another module's code");
        let damaged = (sound.len() * 9 + 1) as u64;
        assert_eq!(cache.totals(), CacheTotals { hits: 1, misses: 1, damaged, evicted: 0 });
    }

    /// Guarantees: a directory that others may write to, that belongs to somebody else, or that is a link is refused; the one we make
    /// ourselves is ours alone.
    #[test]
    fn only_a_directory_of_our_own() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("cache");
        drop(Cache::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for mode in [0o720, 0o702, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = Cache::open(&path).unwrap_err();
            assert!(matches!(refused, CacheError::NotOurs { .. }), "{mode:o}: {refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(distrusted(&metadata, metadata.uid()), None);
        assert_eq!(distrusted(&metadata, metadata.uid() + 1), Some("belongs to another user"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Cache::open(&link), Err(CacheError::NotOurs { .. })));
    }

    /// Guarantees: the cache stays within its bytes, and what was used last stays; rests of a write that was cut short go.
    #[test]
    fn bounded() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("cache");
        let mut cache = Cache::open(&path).unwrap();
        cache.max_bytes = 3 * (HEAD_BYTES as u64 + 100);
        for (age, name) in [(3, "a"), (2, "b"), (1, "c")] {
            cache.store(&key(name), &body(&[0; 100])).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(age * 60);
            File::open(path.join(format!("{name}-how.aot"))).unwrap().set_modified(used).unwrap();
        }
        assert!(cache.load(&key("a")).is_some(), "and so it is the one used last");
        cache.store(&key("d"), &body(&[0; 100])).unwrap();
        let there: Vec<bool> = ["a", "b", "c", "d"].iter().map(|name| cache.load(&key(name)).is_some()).collect();
        assert_eq!((there, cache.totals().evicted), (vec![true, false, true, true], 1));
        fs::write(path.join("e-how.aot.part"), b"half").unwrap();
        drop(Cache::open(&path).unwrap());
        assert!(!path.join("e-how.aot.part").exists());
    }
}
