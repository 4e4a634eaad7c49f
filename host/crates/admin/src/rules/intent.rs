//! What a change of several files is about to do, written down before its first step and removed after its last: if the host ends between,
//! its next start finds how far that came, and undoes it before anybody reads the directory.
//!
//! Who changes the directory, or mends it, holds a lock on it: a second host that is started by mistake leaves alone what the first is at.
//!
//! It is undone, and not finished, since nobody was told that it was made, and whether all would have served is not known. What somebody has
//! changed by hand meanwhile is left as it is. The file can be written by whoever may write rules: no name in it leads out of the directory, nor
//! to anything that is no rule's.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_engine::{MAX_WASI_MODULE_BYTES, SIGNATURE_SUFFIX};

use super::change::waits;
use super::digest;
use super::directory::{FileError, Open, RulesDir, is_draft};
use crate::problem::Problem;

/// Its name: hidden, so that nobody takes it for a rule.
const INTENT: &str = ".change.intent";
/// The most of it: a document has some ten thousand files at most.
const MOST_BYTES: u64 = 16 << 20;

/// One file of a change.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    name: String,
    /// The draft that takes its place, and the digest of that; none if it is to go.
    new: Option<(String, String)>,
    /// Where the old one is kept; none if there was none.
    old: Option<String>,
}

/// Undoes what a crash has left of a change of several files, and removes what else it has left. For the start of a host, before anything reads the
/// directory; not for one that changes no files.
pub fn mend_rules(directory: &Path) {
    let rules = RulesDir::new(directory);
    // One that is not there yet needs no mending; of one that cannot be read the registry will speak.
    let Ok(open) = rules.open() else { return };
    let Some(_locked) = open.lock() else {
        return tracing::warn!("another host is changing the rules in {}: they are left to it", directory.display());
    };
    match undo(&open) {
        Ok(_) => rules.discard_drafts(),
        // What is needed to put them back stays for the next start.
        Err(error) => tracing::error!(
            "a change of rules was under way when the host ended, and cannot be taken back: {error}; mend it, or remove {INTENT}"
        ),
    }
}

/// For a host that changes no files: says so if its rules are half of a change.
pub fn tell_of_half(directory: &Path) {
    let open = RulesDir::new(directory).open();
    if open.is_ok_and(|open| open.lock().is_some() && is_noted(&open)) {
        tracing::error!(
            "a change of the rules in {} was under way when a host ended, and this one may not take it back (`[admin] changes`): what serves may be half of it; start a host that may, or mend it and remove {INTENT}",
            directory.display()
        );
    }
}

/// Takes back what is left of a change that could not be taken back at once. Until that is done there is no other.
pub(super) fn mend(directory: &Open) -> Result<(), Problem> {
    // Another host is at a change, which is its own to take back; what is to be changed here will hear of it.
    let Some(_locked) = directory.lock() else { return Ok(()) };
    undo(directory).map(drop).map_err(|error| {
        let what = format!(
            "; a change that came to nothing is to be taken back before any other: mend it, or remove {INTENT}"
        );
        Problem::from(error).adding(&what)
    })
}

/// Whether there is one that is neither done nor taken back.
pub(super) fn is_noted(directory: &Open) -> bool {
    directory.has(INTENT).unwrap_or(true)
}

/// Notes what is about to be done; it is on the disk when this returns.
pub(super) fn note(directory: &Open, entries: &[Entry]) -> Result<(), FileError> {
    let text = serde_json::to_vec(entries).map_err(|error| FileError::Io(INTENT.to_owned(), error.into()))?;
    directory.write(INTENT, &text)
}

/// It is done, or taken back.
pub(super) fn forget(directory: &Open) -> Result<(), FileError> {
    directory.remove(INTENT).map(drop)
}

/// Takes back what was begun, last things first; gives how many files that were. Begun anew after a crash, it goes on.
fn undo(directory: &Open) -> Result<usize, FileError> {
    let Some(text) = directory.read(INTENT, MOST_BYTES)? else { return Ok(0) };
    // It took its place whole: one that cannot be read is not ours.
    let entries: Vec<Entry> = serde_json::from_slice(&text).unwrap_or_default();
    let mut undone = 0;
    for entry in entries.iter().rev().filter(|entry| entry.is_sound()) {
        undone += usize::from(entry.undo(directory)?);
    }
    if undone > 0 {
        tracing::warn!("a change of rules came to nothing, as by the host's end: {undone} files are put back");
    }
    forget(directory)?;
    let sound = entries.iter().filter(|entry| entry.is_sound());
    sound.flat_map(Entry::drafts).for_each(|draft| directory.discard(draft));
    Ok(undone)
}

impl Entry {
    pub fn of(name: &str, new: Option<(&str, &[u8])>, old: Option<&str>) -> Self {
        let new = new.map(|(draft, bytes)| (draft.to_owned(), digest(bytes)));
        Self { name: name.to_owned(), new, old: old.map(str::to_owned) }
    }

    fn is_sound(&self) -> bool {
        let plain = self.name.len() <= 255 && !self.name.contains(['/', '\0']);
        let shown = !self.name.starts_with('.');
        let module = self.name.strip_prefix('.').and_then(|name| name.strip_suffix(".waits")).unwrap_or_default();
        let is_rules = shown && [".toml", ".wasm", SIGNATURE_SUFFIX].iter().any(|end| self.name.ends_with(end));
        let is_waits = self.name == waits(module) && module.ends_with(".wasm");
        plain && (is_rules || is_waits) && self.drafts().all(|draft| is_draft(draft))
    }

    fn drafts(&self) -> impl Iterator<Item = &String> {
        self.new.iter().map(|(draft, _)| draft).chain(&self.old)
    }

    /// Gives whether there was something to undo.
    fn undo(&self, directory: &Open) -> Result<bool, FileError> {
        let made = match &self.new {
            Some((draft, sha256)) => !directory.has(draft)? && self.is(directory, sha256)?,
            None => self.old.is_some() && !directory.has(&self.name)?,
        };
        if !made {
            return Ok(false);
        }
        match &self.old {
            Some(old) if directory.has(old)? => directory.place(old, &self.name).map(|()| true),
            Some(_) => Ok(false),
            None => directory.remove(&self.name),
        }
    }

    /// Whether the file is what the change has made of it.
    fn is(&self, directory: &Open, sha256: &str) -> Result<bool, FileError> {
        match directory.read(&self.name, MAX_WASI_MODULE_BYTES as u64) {
            Ok(bytes) => Ok(bytes.is_some_and(|bytes| digest(&bytes) == sha256)),
            Err(error @ FileError::Io(..)) => Err(error),
            // Somebody has put something else there.
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rules::staged::Staged;

    fn files(directory: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        let each =
            entries.map(|it| (it.file_name().into_string().unwrap(), std::fs::read_to_string(it.path()).unwrap()));
        each.collect()
    }

    /// Guarantees: however far a change had come when the host ended, in putting it in place or in putting it back, the next start has every file as it
    /// was, and nothing is left over; what somebody has changed meanwhile is left alone, and so is all of it while another host is at it.
    #[test]
    fn undone_from_everywhere() {
        for (made, back, meddled) in
            (0..=3).flat_map(|made| (0..=made).flat_map(move |back| [(made, back, false), (made, back, true)]))
        {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            std::fs::write(path.join("a.toml"), "old a").unwrap();
            std::fs::write(path.join("b.toml"), "old b").unwrap();
            let mut before = files(path);
            let open = RulesDir::new(path).open().unwrap();
            let writes = [("a.toml", Some("new a")), ("b.toml", None), (".c.wasm.waits", Some("new c"))];
            let mut staged: Vec<_> = writes
                .iter()
                .map(|(name, text)| Staged::of(&open, name, text.map(str::as_bytes), 100).unwrap())
                .collect();
            note(&open, &staged.iter().map(Staged::entry).collect::<Vec<_>>()).unwrap();
            staged.iter_mut().take(made).for_each(|file| file.put().unwrap());
            staged.iter().take(made).rev().take(back).for_each(|file| file.back().unwrap());
            // As if the host had ended: nothing is tidied.
            staged.into_iter().for_each(std::mem::forget);
            if meddled {
                for name in ["a.toml", "b.toml", ".c.wasm.waits"] {
                    std::fs::write(path.join(name), "mine").unwrap();
                    before.insert(name.to_owned(), "mine".to_owned());
                }
            }
            let noted = files(path);
            {
                let at_it = RulesDir::new(path).open().unwrap();
                let _locked = at_it.lock().unwrap();
                mend_rules(path);
                mend(&open).unwrap();
                assert_eq!(files(path), noted, "another host is at it");
            }
            if made == 3 {
                mend(&open).unwrap();
                assert!(!is_noted(&open));
            }
            mend_rules(path);
            assert_eq!(files(path), before, "{made} made, {back} back, meddled: {meddled}");
            mend_rules(path);
            assert_eq!(files(path), before);
        }
    }

    /// Guarantees: a file that says of others that they are to be put back leads nowhere but to rules: not out of the directory, not to hidden files.
    #[test]
    fn made_up() {
        let house = tempfile::tempdir().unwrap();
        let rules = house.path().join("rules.d");
        std::fs::create_dir(&rules).unwrap();
        let draft = ".0123456789abcdef.part";
        for (path, text) in
            [("secret.toml", "x"), ("rules.d/.hidden", "x"), ("rules.d/a.toml", "x"), ("rules.d/b.txt", "x")]
        {
            std::fs::write(house.path().join(path), text).unwrap();
        }
        let entry = |name: &str, old: Option<&str>| serde_json::json!({"name": name, "new": [draft, digest(b"x")], "old": old});
        for made_up in [
            serde_json::json!([entry("../secret.toml", None), entry(".hidden", None), entry("b.txt", None)]),
            serde_json::json!([entry("a.toml", Some("../secret.toml")), entry(".change.intent", None)]),
            serde_json::json!({"name": "a.toml"}),
        ] {
            std::fs::write(rules.join(INTENT), made_up.to_string()).unwrap();
            mend_rules(&rules);
            assert_eq!(files(&rules).into_keys().collect::<Vec<_>>(), [".hidden", "a.toml", "b.txt"], "{made_up}");
            assert!(house.path().join("secret.toml").exists());
        }
    }
}
