//! Files that change together, or not at all, also on a full disk.
//!
//! Everything that takes room is done first, under hidden names: the new files are written and synced, and the old ones kept by a second
//! name. Up to there nobody sees anything. What is left are renames, each of which happens or does not; to put everything back takes
//! renames and removals only.

use fail::fail_point;

use super::directory::{FileError, Open};
use super::intent::Entry;

/// One file on its way to its new content, or to its end. What is not needed any more goes when this is dropped.
pub(super) struct Staged<'a> {
    directory: &'a Open,
    name: &'a str,
    /// Its new content; none if it is to go.
    bytes: Option<&'a [u8]>,
    /// Under what name the new file waits; none if the file is to go.
    new: Option<String>,
    /// Under what name the old one is kept; none if there is none.
    old: Option<String>,
    /// It may have been changed.
    touched: bool,
}

impl<'a> Staged<'a> {
    /// Makes a file ready: `bytes` is its new content; without any it is to go. `most` is how large an old one may be.
    pub fn of(directory: &'a Open, name: &'a str, bytes: Option<&'a [u8]>, most: u64) -> Result<Self, FileError> {
        directory.ours(name)?;
        let mut staged = Self { directory, name, bytes, new: None, old: None, touched: false };
        staged.old = directory.keep_old(name, most)?;
        staged.new = bytes.map(|bytes| directory.filled(name, bytes)).transpose()?;
        Ok(staged)
    }

    /// What is to become of it, for who finds it half done.
    pub fn entry(&self) -> Entry {
        Entry::of(self.name, self.new.as_deref().zip(self.bytes), self.old.as_deref())
    }

    /// Lets everybody see it.
    pub fn put(&mut self) -> Result<(), FileError> {
        self.directory.ours(self.name)?;
        self.touched = true;
        match &self.new {
            Some(draft) => self.directory.place(draft, self.name),
            None => self.directory.remove(self.name).map(drop),
        }
    }

    /// Puts it back, if it has been changed.
    pub fn back(&self) -> Result<(), FileError> {
        fail_point!("rules-back", |_| Err(FileError::Io(self.name.to_owned(), std::io::ErrorKind::Other.into())));
        match &self.old {
            _ if !self.touched => Ok(()),
            Some(old) => self.directory.place(old, self.name),
            None => self.directory.remove(self.name).map(drop),
        }
    }
}

impl Staged<'_> {
    /// Leaves its drafts where they are: it could not be put back, and who does that later needs them.
    pub fn leave(mut self) {
        (self.new, self.old) = (None, None);
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        self.new.iter().chain(&self.old).for_each(|draft| self.directory.discard(draft));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rules::RulesDir;

    fn files(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|it| (it.file_name().into_string().unwrap(), std::fs::read_to_string(it.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Guarantees: until files are put in place nobody sees anything of them but hidden names; put back they are what they were; and nothing
    /// is left over, whichever way it went.
    #[test]
    fn put_and_put_back() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.toml"), "old a").unwrap();
        std::fs::write(directory.path().join("b.toml"), "old b").unwrap();
        let before = files(directory.path());
        let open = RulesDir::new(directory.path()).open().unwrap();
        let stage = || {
            let wanted = [("a.toml", Some("new a")), ("b.toml", None), ("c.toml", Some("new c"))];
            wanted.map(|(name, text)| Staged::of(&open, name, text.map(str::as_bytes), 100).unwrap())
        };
        let seen =
            || -> Vec<_> { files(directory.path()).into_iter().filter(|(name, _)| !name.starts_with('.')).collect() };

        drop(stage());
        assert_eq!(files(directory.path()), before, "dropped before it was put in place");
        for most in 0..=3 {
            let mut staged = stage();
            staged.iter_mut().take(most).for_each(|file| file.put().unwrap());
            assert_eq!(seen() == before, most == 0, "{most}");
            // All of them: whoever puts back does not know how far it came.
            staged.iter().rev().for_each(|file| file.back().unwrap());
            assert_eq!(seen(), before, "{most} were put in place, and put back");
            drop(staged);
            assert_eq!(files(directory.path()), before, "{most}");
        }
        let mut staged = stage();
        staged.iter_mut().for_each(|file| file.put().unwrap());
        drop(staged);
        let after = [("a.toml", "new a"), ("c.toml", "new c")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(files(directory.path()), after);
    }

    /// Guarantees: a file that cannot be made ready leaves nothing behind, and says so before anything has changed.
    #[test]
    fn not_ready() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("d.toml")).unwrap();
        let open = RulesDir::new(directory.path()).open().unwrap();
        assert!(matches!(Staged::of(&open, "d.toml", Some(b"x"), 100), Err(FileError::NotPlain(_))));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
