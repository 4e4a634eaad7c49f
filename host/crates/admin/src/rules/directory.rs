//! The rules directory, as the API writes to it: whole files or nothing, and never through a symlink.
//!
//! Each operation opens the directory once and goes on from there by plain file names, so that nothing that is laid or swapped
//! in it meanwhile can lead elsewhere. File names come from checked names and digests only, or from reading the directory itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fail::fail_point;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fchmod, flock, fstat, linkat,
    open, openat, renameat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

/// How a draft's name ends.
const DRAFT: &str = ".part";

/// The rules directory.
#[derive(Clone, Debug)]
pub(crate) struct RulesDir {
    path: PathBuf,
}

/// The directory, open.
pub(super) struct Open {
    path: PathBuf,
    fd: OwnedFd,
}

/// The directory, while nobody else changes it.
pub(super) struct Locked<'a>(&'a Open);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // By hand: a child that is just being started may hold the directory open a little longer.
        let _ = flock(&self.0.fd, FlockOperation::Unlock);
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Its name leads elsewhere, as in a ConfigMap.
    #[error(
        "{0} is a symlink, which the API does not write through: its content comes from elsewhere; change it there"
    )]
    Symlink(String),
    #[error("{0} is no plain file")]
    NotPlain(String),
    #[error("{0} is larger than {1} bytes")]
    TooLarge(String, u64),
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl RulesDir {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Removes the drafts that a crash has left.
    pub(super) fn discard_drafts(&self) {
        let (Ok(open), Ok(entries)) = (self.open(), std::fs::read_dir(&self.path)) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // One that is being filled is another host's, to which an upload comes in just now.
        let left = |name: &String| is_draft(name) && !open.file(name).is_ok_and(|file| file.is_some_and(is_held));
        names.filter(left).for_each(|name| open.discard(&name));
    }

    pub(super) fn open(&self) -> Result<Open, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let failed = |error: Errno| FileError::Io(self.path.display().to_string(), error.into());
        let fd = open(&self.path, flags, Mode::empty()).map_err(failed)?;
        Ok(Open { path: self.path.clone(), fd })
    }
}

impl Open {
    /// Keeps other hosts from changing what is here; none if one is at it. Does not wait. The host's end lets go of it, however it ends.
    pub fn lock(&self) -> Option<Locked<'_>> {
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => None,
            // Not every file system can: then it is for who runs the hosts that there is one.
            Ok(()) | Err(_) => Some(Locked(self)),
        }
    }

    /// The names that end in `.wasm`, in order; hidden ones left out.
    pub fn modules(&self) -> Result<Vec<String>, FileError> {
        let failed = |error| FileError::Io(self.path.display().to_string(), error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().into_string();
            names.extend(name.ok().filter(|name| name.ends_with(".wasm") && !name.starts_with('.')));
        }
        names.sort();
        Ok(names)
    }

    /// The modules of which a hidden file says that they wait.
    pub fn waiting(&self) -> Result<Vec<String>, FileError> {
        let failed = |error| FileError::Io(self.path.display().to_string(), error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().into_string().unwrap_or_default();
            let module = name.strip_prefix('.').and_then(|name| name.strip_suffix(".waits"));
            names.extend(module.filter(|module| module.ends_with(".wasm")).map(str::to_owned));
        }
        Ok(names)
    }

    /// The bytes of a file; none if it is not there.
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, FileError> {
        let Some(mut file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let failed = |error| FileError::Io(name.to_owned(), error);
        Read::by_ref(&mut file).take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most {
            return Err(FileError::TooLarge(name.to_owned(), most));
        }
        Ok(Some(bytes))
    }

    /// A file, open for reading; none if it is not there.
    pub fn file(&self, name: &str) -> Result<Option<File>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(FileError::Symlink(name.to_owned())),
            Err(error) => return Err(FileError::Io(name.to_owned(), error.into())),
        };
        let kind = fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::RegularFile) => Ok(Some(File::from(fd))),
            Ok(_) => Err(FileError::NotPlain(name.to_owned())),
            Err(error) => Err(FileError::Io(name.to_owned(), error.into())),
        }
    }

    /// Refuses unless `name` is a plain file or not there.
    pub fn ours(&self, name: &str) -> Result<(), FileError> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) | Err(Errno::NOENT) => Ok(()),
            Ok(FileType::Symlink) => Err(FileError::Symlink(name.to_owned())),
            Ok(_) => Err(FileError::NotPlain(name.to_owned())),
            Err(error) => Err(FileError::Io(name.to_owned(), error.into())),
        }
    }

    /// Whether there is something of that name, be it a link.
    pub fn has(&self, name: &str) -> Result<bool, FileError> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(FileError::Io(name.to_owned(), error.into())),
        }
    }

    /// How many bytes a link leads to; none of them is read.
    pub fn linked_bytes(&self, name: &str) -> Result<u64, FileError> {
        let found = statat(&self.fd, name, AtFlags::empty());
        let found = found.map_err(|error| FileError::Io(name.to_owned(), error.into()))?;
        Ok(u64::try_from(found.st_size).unwrap_or_default())
    }

    /// A new hidden file, to be filled, synced, and then put in place by [`Self::place`].
    pub fn draft(&self) -> Result<(String, File), FileError> {
        let name = hidden();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        match openat(&self.fd, &name, flags, mode) {
            Ok(fd) => {
                // For who finds it: it is not left over. Where that cannot be said, it is for who runs the hosts that there is one.
                let _ = flock(&fd, FlockOperation::NonBlockingLockExclusive);
                Ok((name, File::from(fd)))
            }
            Err(error) => Err(FileError::Io(name, error.into())),
        }
    }

    /// A hidden file with these bytes, which are on the disk when this returns; it is there for `name`, and for those only who may read that now.
    pub fn filled(&self, name: &str, bytes: &[u8]) -> Result<String, FileError> {
        let (draft, mut file) = self.draft()?;
        let old = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let readable = old.map_or(Ok(()), |old| fchmod(&file, Mode::from_raw_mode(old.st_mode)));
        let readable = readable.map_err(std::io::Error::from);
        let done = readable.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
        match done {
            Ok(()) => Ok(draft),
            Err(error) => {
                self.discard(&draft);
                Err(FileError::Io(name.to_owned(), error))
            }
        }
    }

    /// A hidden name under which a file stays what it is, whatever becomes of its own; none if it is not there.
    pub fn keep_old(&self, name: &str, most: u64) -> Result<Option<String>, FileError> {
        let kept = hidden();
        match linkat(&self.fd, name, &self.fd, &kept, AtFlags::empty()) {
            // Whoever has swapped it for a link meanwhile has linked that.
            Ok(()) => match self.ours(&kept) {
                Ok(()) => Ok(Some(kept)),
                Err(_) => {
                    self.discard(&kept);
                    Err(FileError::NotPlain(name.to_owned()))
                }
            },
            Err(Errno::NOENT) => Ok(None),
            // Not every file system has links, nor may everybody make them to files of others: a copy does as well, for more room.
            Err(_) => self.read(name, most)?.map(|bytes| self.filled(name, &bytes)).transpose(),
        }
    }

    /// Puts a filled draft in the place of `name`, in one step that a crash cannot halve.
    pub fn place(&self, draft: &str, name: &str) -> Result<(), FileError> {
        self.ours(name)?;
        fail_point!("rules-place-before", |_| std::process::abort());
        renameat(&self.fd, draft, &self.fd, name).map_err(|error| FileError::Io(name.to_owned(), error.into()))?;
        fail_point!("rules-place-after", |_| std::process::abort());
        self.sync(name)
    }

    /// Writes a file, whole.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.ours(name)?;
        let draft = self.filled(name, bytes)?;
        let done = self.place(&draft, name);
        if done.is_err() {
            self.discard(&draft);
        }
        done
    }

    /// Gives a file another name; what had that name is gone.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        self.ours(from)?;
        self.ours(to)?;
        let failed = |error: Errno| FileError::Io(from.to_owned(), error.into());
        renameat(&self.fd, from, &self.fd, to).map_err(failed)?;
        self.sync(to)
    }

    /// Makes a file as new as one that is written now.
    pub fn touch(&self, name: &str) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Where that cannot be done it is as old as it was.
        let _ = utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW);
    }

    /// Removes a file; false if it was not there.
    pub fn remove(&self, name: &str) -> Result<bool, FileError> {
        self.ours(name)?;
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => self.sync(name).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(FileError::Io(name.to_owned(), error.into())),
        }
    }

    /// Removes a draft that came to nothing.
    pub fn discard(&self, draft: &str) {
        // What cannot be removed stays hidden, and is looked at by nobody.
        let _ = unlinkat(&self.fd, draft, AtFlags::empty());
    }

    fn sync(&self, name: &str) -> Result<(), FileError> {
        rustix::fs::fsync(&self.fd).map_err(|error| FileError::Io(name.to_owned(), error.into()))
    }
}

/// A name for a draft.
fn hidden() -> String {
    format!(".{:016x}{DRAFT}", fastrand::u64(..))
}

/// Whether somebody has it open to fill it.
fn is_held(file: File) -> bool {
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Whether [`hidden`] has given this name.
pub(super) fn is_draft(name: &str) -> bool {
    let digits = name.strip_prefix('.').and_then(|name| name.strip_suffix(DRAFT));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Guarantees: what a symlink leads to is neither read, nor written, nor removed; nor is the link.
    #[test]
    fn symlinks_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let (rules, secret) = (directory.path().join("rules.d"), directory.path().join("secret"));
        std::fs::create_dir(&rules).unwrap();
        std::fs::write(&secret, "hunter2").unwrap();
        symlink(&secret, rules.join("a.toml")).unwrap();
        symlink("/dev/zero", rules.join("b.toml")).unwrap();
        let open = RulesDir::new(&rules).open().unwrap();
        for name in ["a.toml", "b.toml"] {
            assert!(matches!(open.read(name, 10), Err(FileError::Symlink(_))), "{name}");
            assert!(matches!(open.write(name, b"x"), Err(FileError::Symlink(_))), "{name}");
            assert!(matches!(open.remove(name), Err(FileError::Symlink(_))), "{name}");
            assert!(matches!(open.rename(name, "c.toml"), Err(FileError::Symlink(_))), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "hunter2");
        assert_eq!(std::fs::read_dir(&rules).unwrap().count(), 2, "no draft is left");
    }

    /// Guarantees: a directory that is swapped for a symlink while it is worked on leads nowhere either.
    #[test]
    fn a_swapped_directory_leads_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let (rules, elsewhere) = (directory.path().join("rules.d"), directory.path().join("elsewhere"));
        std::fs::create_dir(&rules).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        let open = RulesDir::new(&rules).open().unwrap();
        std::fs::rename(&rules, directory.path().join("moved")).unwrap();
        symlink(&elsewhere, &rules).unwrap();
        open.write("a.toml", b"x").unwrap();
        assert!(std::fs::read_dir(&elsewhere).unwrap().next().is_none());
        assert!(directory.path().join("moved/a.toml").exists());
    }

    /// Guarantees: a file that some may not read is not read by them once it is written anew.
    #[test]
    fn who_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let open = RulesDir::new(directory.path()).open().unwrap();
        let mode = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
        open.write("a.toml", b"new").unwrap();
        assert_eq!(mode("a.toml") & 0o700, 0o600);
        std::fs::set_permissions(directory.path().join("a.toml"), Permissions::from_mode(0o640)).unwrap();
        open.write("a.toml", b"newer").unwrap();
        assert_eq!(mode("a.toml"), 0o640);
        assert_eq!(std::fs::read(directory.path().join("a.toml")).unwrap(), b"newer");
    }

    /// Guarantees: what a crash has left of a change is removed, and nothing else.
    #[test]
    fn drafts_are_tidied() {
        let directory = tempfile::tempdir().unwrap();
        let rules = RulesDir::new(directory.path());
        let (draft, file) = rules.open().unwrap().draft().unwrap();
        rules.discard_drafts();
        assert!(directory.path().join(&draft).exists(), "somebody fills it");
        drop(file);
        for name in [".hot.toml.part", "0123456789abcdef.part", ".0123456789abcde.part", ".hidden", "a.wasm"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert!(directory.path().join(&draft).exists());
        rules.discard_drafts();
        assert!(!directory.path().join(&draft).exists());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 5);
    }

    /// Guarantees: what is no plain file is not waited for, and what is too large is not read to its end.
    #[test]
    fn odd_files() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("d.wasm")).unwrap();
        std::fs::write(directory.path().join("big.wasm"), [0; 11]).unwrap();
        let open = RulesDir::new(directory.path()).open().unwrap();
        assert!(matches!(open.read("d.wasm", 10), Err(FileError::NotPlain(_))));
        assert!(matches!(open.read("big.wasm", 10), Err(FileError::TooLarge(..))));
        assert!(open.read("none.wasm", 10).unwrap().is_none());
        assert!(!open.remove("none.wasm").unwrap());
    }
}
