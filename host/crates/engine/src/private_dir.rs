//! A directory that is ours alone: what we wrote there is what we read there.
//!
//! It is opened and looked at once, and worked on through that one handle: whatever is laid in its place later leads nowhere. Names of files
//! are made of digests, numbers and checked names; a link is never followed. What is in a file is still believed only by its digest: that is
//! for who reads it.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// The ending of a file that is being written.
const PART: &str = ".part";

/// A directory that is ours alone, open.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
    fd: OwnedFd,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or looked at.
    #[error("the directory {} cannot be used: {error}", directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else could put things there.
    #[error(
        "the directory {} {what}, so what is in it is not trusted: remove it, and it is made anew with mode 0700",
        directory.display()
    )]
    NotOurs {
        /// Which.
        directory: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A plain file in the directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: String,
    pub bytes: u64,
    /// When it was last written or used: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

impl PrivateDir {
    /// Opens the directory, made with mode 0700 if it is missing, and removes what a write that was cut short has left.
    ///
    /// # Errors
    /// It cannot be made, is a link, belongs to somebody else, or somebody else may write to it.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let unusable = |error| DirectoryError::Unusable { directory: path.to_owned(), error };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        Self::opened(path.to_owned(), rustix::fs::open(path, flags(), Mode::empty()))
    }

    fn opened(path: PathBuf, fd: Result<OwnedFd, Errno>) -> Result<Self, DirectoryError> {
        let not_ours = |what| DirectoryError::NotOurs { directory: path.clone(), what };
        let unusable = |error: io::Error| DirectoryError::Unusable { directory: path.clone(), error };
        let fd = match fd {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(not_ours("is no directory of its own")),
            Err(error) => return Err(unusable(error.into())),
        };
        let stat = fstat(&fd).map_err(|error| unusable(error.into()))?;
        if let Some(what) = distrusted(&stat, rustix::process::geteuid().as_raw()) {
            return Err(not_ours(what));
        }
        let directory = Self { path, fd };
        let rests = directory
            .entries()
            .map_err(|error| DirectoryError::Unusable { directory: directory.path.clone(), error })?;
        for rest in rests.iter().filter(|entry| entry.name.ends_with(PART)) {
            // Left by a process that was killed as it wrote; if it stays it only takes room.
            let _ = directory.remove(&rest.name);
        }
        Ok(directory)
    }

    /// Where a file of it is, for people.
    pub fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's bytes, at most so many; none if it is not there.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_plain(&stat))
    }

    /// Notes that a file was of use just now.
    pub fn touch(&self, name: &str) -> io::Result<()> {
        match self.file(name)? {
            Some(file) => file.set_modified(SystemTime::now()),
            None => Ok(()),
        }
    }

    /// Writes a file, whole or not at all, and on the disk when this returns. The pieces stand one after another in it.
    pub fn write(&self, name: &str, pieces: &[&[u8]]) -> io::Result<()> {
        self.write_each([(name, pieces)])
    }

    /// The same with several, one after another: a failure or a crash leaves the first of them.
    pub fn write_each<const N: usize>(&self, files: [(&str, &[&[u8]]); N]) -> io::Result<()> {
        for (name, pieces) in files {
            let part = format!("{name}{PART}");
            let written = self.draft(&part, pieces);
            let placed = written.and_then(|()| Ok(renameat(&self.fd, &part, &self.fd, name)?));
            if let Err(error) = placed {
                // A rest that cannot be removed goes at the next start.
                let _ = self.remove(&part);
                return Err(error);
            }
        }
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn draft(&self, part: &str, pieces: &[&[u8]]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.fd, part, flags, Mode::RUSR | Mode::WUSR)?);
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        file.sync_all()
    }

    /// Removes a file; it need not be there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Its plain files.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for name in self.names()? {
            let Ok(stat) = statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if is_plain(&stat) {
                let modified = (stat.st_mtime, stat.st_mtime_nsec as i64);
                found.push(Entry { name, bytes: stat.st_size as u64, modified });
            }
        }
        Ok(found)
    }

    /// All names in it that could be of ours.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_str().map(str::to_owned);
            names.extend(name.ok().filter(|name| !name.starts_with('.')));
        }
        Ok(names)
    }

    /// A file, open to be read; none if it is not there.
    pub fn file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// What speaks against a directory, for the user `me`.
fn distrusted(stat: &Stat, me: u32) -> Option<&'static str> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        Some("is no directory of its own")
    } else if stat.st_uid != me {
        Some("belongs to another user")
    } else if stat.st_mode & 0o022 != 0 {
        Some("can be written to by others")
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    /// Guarantees: a directory that others may write to, that belongs to somebody else, or that is a link is refused; the one we make
    /// ourselves is ours alone.
    #[test]
    fn only_a_directory_of_our_own() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("ours");
        drop(PrivateDir::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for mode in [0o720, 0o702, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = PrivateDir::open(&path).unwrap_err();
            assert!(matches!(refused, DirectoryError::NotOurs { .. }), "{mode:o}: {refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        assert_eq!(distrusted(&stat, stat.st_uid), None);
        assert_eq!(distrusted(&stat, stat.st_uid + 1), Some("belongs to another user"));
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(PrivateDir::open(&link), Err(DirectoryError::NotOurs { .. })));
    }

    /// Guarantees: what is laid in the directory's place while it is open is neither read nor written, and no link in it is followed.
    #[test]
    fn what_is_swapped_in_leads_nowhere() {
        let directory = TempDir::new().unwrap();
        let (path, elsewhere) = (directory.path().join("ours"), directory.path().join("elsewhere"));
        let ours = PrivateDir::open(&path).unwrap();
        ours.write("a", &[b"1", b"2"]).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("a"), "theirs").unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(ours.read("a", 10).unwrap().unwrap(), b"12");
        ours.write("b", &[b"3"]).unwrap();
        assert!(!elsewhere.join("b").exists() && directory.path().join("moved/b").exists());
        symlink(elsewhere.join("a"), directory.path().join("moved/c")).unwrap();
        assert!(ours.read("c", 10).is_err() && !ours.has("c"));
        assert!(ours.read("a", 1).is_err(), "more than asked for");
        assert_eq!(ours.read("none", 1).unwrap(), None);
    }

    /// Guarantees: what a write that was cut short has left goes at the next start, and is never taken for a file.
    #[test]
    fn rests_go() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("ours");
        PrivateDir::open(&path).unwrap().write("a", &[b"1"]).unwrap();
        fs::write(path.join("b.part"), "half").unwrap();
        let names: Vec<String> =
            PrivateDir::open(&path).unwrap().entries().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a"]);
    }
}
