//! Compiled modules on disk, so that a restart does not compile them again.
//!
//! A file is `<sha256 of the module>-<how it was compiled>.aot`: machine code, a mark, a SHA-256. The digest covers the file's name too,
//! so that one entry cannot stand in for another. What does not fit is compiled again, and counted; the directory must be ours
//! alone, for who may write to it could put machine code and its digest there.
//!
//! Beside it may stand `<the same>.passed`, a mark and a digest of its own name: the module's test cases passed, under this very version. They are
//! not run again then. Nothing but the name tells what passed, and nobody but us writes there.
//!
//! And `<the same>.refused` says that to compile it took more than it may, and by which limit: then that is not tried at every start anew. Under a
//! wider limit it is.
//!
//! What all of it may take up, and what goes for room, stands in `room.rs`.
//!
//! The code stands first so that the file can be mapped: of a rule's some 800 KB only what runs is in memory then.

mod room;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::admission::cache::room::MayGo;
use crate::admission::compile::CompileLimits;
use crate::admission::native::Precompiled;
use crate::generations::Generations;
use crate::load_error::{LoadError, Told};
use crate::private_dir::{DirectoryError, PrivateDir};

/// The most that are known to have been compiled ahead, and not asked for yet.
const MOST_AHEAD: usize = 64;
/// What stands behind the code; the number is that of the layout.
const MARK: &[u8; 16] = b"tidegate-aot-02\n";
/// What stands in the note that a module has passed its test cases.
const PASSED: &[u8; 16] = b"tidegate-cases1\n";
/// What the note begins with that a module was refused; the limit follows.
const REFUSED: &[u8; 16] = b"tidegate-refuse1";
const DIGEST_BYTES: usize = 32;
/// Which limit, and how much.
const LIMIT_BYTES: usize = 1 + size_of::<u64>();
const TAIL_BYTES: usize = MARK.len() + DIGEST_BYTES;
/// How much of a file is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Cache {
    directory: PrivateDir,
    max_bytes: u64,
    may_go: MayGo,
    /// What can be gone back to: its modules go last.
    kept: Option<Arc<Generations>>,
    /// What was compiled ahead, until it is asked for.
    ahead: Mutex<BTreeSet<Key>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    ahead: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
}

/// What the cache has done since the start, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CacheTotals {
    /// Modules that needed no compiling.
    pub hits: u64,
    /// Modules compiled as they came, before a rule asked for them: they are no hits when it does.
    pub ahead: u64,
    /// Modules that were not there.
    pub misses: u64,
    /// Files that did not fit their digest, and were compiled again.
    pub damaged: u64,
    /// Files removed for room.
    pub evicted: u64,
}

/// Of which module, compiled how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

impl Key {
    /// Both are hexadecimal.
    pub fn new(module_sha256: &str, compiled_how: &str) -> Self {
        Self(format!("{module_sha256}-{compiled_how}.aot"))
    }

    /// The note that its test cases have passed.
    fn passed(&self) -> Self {
        Self(format!("{}.passed", self.0))
    }

    /// The note that it takes more to be compiled than it may.
    fn refused(&self) -> Self {
        Self(format!("{}.refused", self.0))
    }
}

impl Cache {
    /// Opens the directory, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// It cannot be made, belongs to somebody else, or somebody else may write to it.
    pub fn open(directory: &Path) -> Result<Self, DirectoryError> {
        let directory = PrivateDir::open(directory)?;
        let (ahead, counts) = (Mutex::default(), Counts::default());
        Ok(Self { directory, max_bytes: room::MAX_BYTES, may_go: MayGo::Any, kept: None, ahead, counts })
    }

    /// The compiled module, if it is there and as it was stored.
    pub(super) fn load(&self, key: &Key) -> Option<Precompiled> {
        match self.checked(key) {
            Ok(Some(file)) => {
                if !self.ahead().remove(key) {
                    self.counts.hits.fetch_add(1, Relaxed);
                }
                // When it was last of use, for `make_room`; if that cannot be noted, it goes earlier.
                let _ = self.directory.touch(&key.0);
                return Some(Precompiled::vouched_for_file(file));
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.refuse(key, "does not fit its digest");
                return None;
            }
            Err(error) => {
                let path = self.directory.shown(&key.0);
                tracing::warn!(file = %path.display(), "a compiled module cannot be read, it is compiled again: {error}");
            }
        }
        self.counts.misses.fetch_add(1, Relaxed);
        None
    }

    /// The file of that key, once its digest has been found right; none if it is not there. [`io::ErrorKind::InvalidData`]: it is not.
    fn checked(&self, key: &Key) -> io::Result<Option<File>> {
        let Some(file) = self.directory.file(&key.0)? else { return Ok(None) };
        let code = file.metadata()?.len().checked_sub(TAIL_BYTES as u64);
        let code = code.filter(|&bytes| bytes <= self.max_bytes).ok_or(io::ErrorKind::InvalidData)?;
        let mut digest = Sha256::new_with_prefix(&key.0);
        let mut pieces = BufReader::with_capacity(PIECE_BYTES, (&file).take(code));
        loop {
            let piece = pieces.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            digest.update(piece);
            let read = piece.len();
            pieces.consume(read);
        }
        let mut tail = [0; TAIL_BYTES];
        (&file).read_exact(&mut tail).map_err(|_| io::ErrorKind::InvalidData)?;
        let fits = tail.starts_with(MARK) && tail[MARK.len()..] == digest.finalize()[..];
        if fits { Ok(Some(file)) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// The file of that key is of no use: it goes, and is counted.
    pub(super) fn refuse(&self, key: &Key, why: &str) {
        self.counts.damaged.fetch_add(1, Relaxed);
        let path = self.directory.shown(&key.0);
        tracing::warn!(file = %path.display(), "a compiled module {why}: it is removed, and the module is compiled again");
        // If it stays it is refused again.
        let _ = self.directory.remove(&key.0);
    }

    /// Stores a compiled module, whole or not at all, and gives it as it lies there.
    pub(super) fn store(&self, key: &Key, compiled: &Precompiled) -> io::Result<Option<Precompiled>> {
        self.store_at(key, compiled, MayGo::Any)
    }

    /// The same before anybody has asked for it.
    pub(super) fn store_ahead(&self, key: &Key, compiled: &Precompiled) -> io::Result<()> {
        self.store(key, compiled)?;
        self.counts.ahead.fetch_add(1, Relaxed);
        let mut ahead = self.ahead();
        if ahead.len() == MOST_AHEAD {
            // Nobody asks for them any more; if somebody does, that counts as a hit.
            ahead.clear();
        }
        ahead.insert(key.clone());
        Ok(())
    }

    fn ahead(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same in the place of what no generation names; an error where that is not enough.
    pub(super) fn store_beside_kept(&self, key: &Key, compiled: &Precompiled) -> io::Result<()> {
        self.store_at(key, compiled, MayGo::Unnamed).map(drop)
    }

    fn store_at(&self, key: &Key, compiled: &Precompiled, may_go: MayGo) -> io::Result<Option<Precompiled>> {
        let Some(code) = compiled.bytes() else { return Ok(None) };
        self.make_room(key, (code.len() + TAIL_BYTES) as u64, may_go)?;
        // Synced, though it could be made again: what is mapped as code must not differ from what is read for its digest, and its pages
        // are the kernel's to take back only once they are on the disk.
        self.directory.write(&key.0, &[code, MARK, &digest(key, code)])?;
        Ok(self.checked(key)?.map(Precompiled::vouched_for_file))
    }

    /// Whether that module has passed its test cases. Where that cannot be told they are run again.
    pub(super) fn has_passed(&self, key: &Key) -> bool {
        let note = key.passed();
        let kept = self.directory.read(&note.0, (PASSED.len() + DIGEST_BYTES) as u64).ok().flatten();
        if kept.is_none_or(|kept| kept[..] != [&PASSED[..], &digest(&note, PASSED)].concat()) {
            return false;
        }
        // When it was last of use, for `make_room`; if that cannot be noted, it goes earlier.
        let _ = self.directory.touch(&note.0);
        true
    }

    /// Notes that it has.
    pub(super) fn note_passed(&self, key: &Key) -> io::Result<()> {
        let note = key.passed();
        self.make_room(key, (PASSED.len() + DIGEST_BYTES) as u64, MayGo::Any)?;
        self.directory.write(&note.0, &[PASSED, &digest(&note, PASSED)])
    }

    /// Whether that module is there, compiled; what that is worth is seen when it is loaded.
    pub(super) fn has(&self, key: &Key) -> bool {
        matches!(self.directory.file(&key.0), Ok(Some(_)))
    }

    /// Why that module was refused, if it takes more to be compiled than these limits. Where that cannot be told it is tried.
    pub(super) fn refusal(&self, key: &Key, limits: CompileLimits) -> Option<LoadError> {
        let note = key.refused();
        let most = (REFUSED.len() + LIMIT_BYTES + DIGEST_BYTES) as u64;
        let kept = self.directory.read(&note.0, most).ok().flatten()?;
        let (said, seal) = kept.split_at_checked(REFUSED.len() + LIMIT_BYTES)?;
        if !said.starts_with(REFUSED) || seal != digest(&note, said) {
            return None;
        }
        let (what, limit) = said[REFUSED.len()..].split_first()?;
        let limit = u64::from_le_bytes(limit.try_into().ok()?);
        let refusal = match what {
            b't' if limits.time <= Duration::from_millis(limit) => {
                LoadError::CompileTime { limit: limits.time, told: Told::ByANote }
            }
            b'm' if limits.memory_bytes <= limit => LoadError::CompileMemory {
                limit_bytes: limits.memory_bytes,
                container_bytes: None,
                told: Told::ByANote,
            },
            _ => return None,
        };
        // As above.
        let _ = self.directory.touch(&note.0);
        Some(refusal)
    }

    /// Notes why a module was refused, if that is by a limit which it would run into again.
    pub(super) fn note_refused(&self, key: &Key, why: &LoadError) -> io::Result<()> {
        let (what, limit) = match why {
            LoadError::CompileTime { limit, told: Told::ByItsLimit } => (b't', limit.as_millis() as u64),
            LoadError::CompileMemory { limit_bytes, told: Told::ByItsLimit, .. } => (b'm', *limit_bytes),
            _ => return Ok(()),
        };
        let note = key.refused();
        let said = [&REFUSED[..], &[what], &limit.to_le_bytes()].concat();
        self.make_room(key, (said.len() + DIGEST_BYTES) as u64, MayGo::Any)?;
        self.directory.write(&note.0, &[&said, &digest(&note, &said)])
    }

    /// Has that module tried again.
    pub(super) fn forget_refusal(&self, key: &Key) -> io::Result<()> {
        match self.directory.remove(&key.refused().0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What it has done.
    pub fn totals(&self) -> CacheTotals {
        CacheTotals {
            hits: self.counts.hits.load(Relaxed),
            ahead: self.counts.ahead.load(Relaxed),
            misses: self.counts.misses.load(Relaxed),
            damaged: self.counts.damaged.load(Relaxed),
            evicted: self.counts.evicted.load(Relaxed),
        }
    }
}

fn digest(key: &Key, body: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new_with_prefix(&key.0).chain_update(body).finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

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
        assert!(cache.load(&key("a")).is_some());
        assert!(cache.load(&key("b")).is_none());
        let file = directory.path().join("cache").join("a-how.aot");
        let sound = fs::read(&file).unwrap();
        assert!(sound.starts_with(b"machine code"));
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
        assert_eq!(cache.totals(), CacheTotals { hits: 1, misses: 1, damaged, ..CacheTotals::default() });
    }

    /// Guarantees: only the note of that very module, whole, says that it has passed.
    #[test]
    fn what_has_passed() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("cache");
        let cache = Cache::open(&path).unwrap();
        assert!(!cache.has_passed(&key("a")));
        cache.note_passed(&key("a")).unwrap();
        assert!(cache.has_passed(&key("a")) && !cache.has_passed(&key("b")));
        let note = |name: &str| path.join(format!("{name}-how.aot.passed"));
        fs::copy(note("a"), note("b")).unwrap();
        assert!(!cache.has_passed(&key("b")), "another module's note");
        let sound = fs::read(note("a")).unwrap();
        for cut in [0, 1, sound.len() - 1] {
            fs::write(note("a"), &sound[..cut]).unwrap();
            assert!(!cache.has_passed(&key("a")), "the first {cut} bytes");
        }
        fs::write(note("a"), [&sound[..], b"x"].concat()).unwrap();
        assert!(!cache.has_passed(&key("a")), "a byte too many");
    }
}
