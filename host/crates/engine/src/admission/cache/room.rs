//! What the compiled modules may take up together, and what goes for room: first those that no generation names, then those that can be gone back to, then
//! those that serve; of each the ones not used for longest.
//!
//! So it does not depend on what others have compiled meanwhile whether a rule can go back at once: only on the kept generations themselves, ten a rule. Where
//! even those have more than the bytes here, the log tells what has gone, and to go back to that compiles it again.

use std::io;
use std::sync::Arc;

use crate::admission::cache::{Cache, Key};
use crate::generations::{Generations, Use};

/// What all of them may take up together: bytes. A module of 130 KB has 800 KB here, one made of Python 33 MiB.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// What may go for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MayGo {
    /// Nothing: there is another process that knows what is of use.
    Nothing,
    /// What no generation names.
    Unnamed,
    /// Anything else too, the least useful first.
    Any,
}

impl Cache {
    /// The same with so many bytes: for tests.
    #[must_use]
    pub fn of_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The same for a process beside the one whose cache it is: what finds no room is not kept.
    #[must_use]
    pub fn displacing_nothing(self) -> Self {
        Self { may_go: MayGo::Nothing, ..self }
    }

    /// The same, sparing the modules of what `kept` has.
    pub(in crate::admission) fn sparing(self, kept: Option<Arc<Generations>>) -> Self {
        Self { kept, ..self }
    }

    /// Makes room for so many bytes more of the module of `key`, of which nothing goes.
    pub(super) fn make_room(&self, key: &Key, wanted: u64, may_go: MayGo) -> io::Result<()> {
        let mut files = self.directory.entries()?;
        let taken: u64 = files.iter().map(|file| file.bytes).sum();
        let mut over = (taken + wanted).saturating_sub(self.max_bytes);
        if over == 0 {
            return Ok(());
        }
        let uses = self.kept.as_ref().map(|kept| kept.uses()).unwrap_or_default();
        // Compiled by another version it is of use to nobody who goes back here.
        let use_of = |name: &str| uses.get(key.same_how(name)?).copied();
        let may_go = may_go.min(self.may_go);
        files.retain(|file| match may_go {
            MayGo::Nothing => false,
            MayGo::Unnamed => use_of(&file.name).is_none(),
            MayGo::Any => true,
        });
        files.retain(|file| key.same_how(&file.name) != Some(key.digest()));
        files.sort_by_cached_key(|file| (use_of(&file.name), file.modified));
        let enough = files.iter().position(|file| {
            over = over.saturating_sub(file.bytes);
            over == 0
        });
        let Some(last) = enough else {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "there is no room for it beside what is worth more",
            ));
        };
        for file in files.drain(..=last) {
            self.directory.remove(&file.name)?;
            self.counts.evicted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if let Some(of) = use_of(&file.name).filter(|_| file.name.ends_with(".aot")) {
                let path = self.directory.shown(&file.name);
                let what = if of == Use::Serves { "serves" } else { "can be gone back to" };
                tracing::warn!(file = %path.display(), "a compiled module goes for room although a generation {what} that has it: it is compiled again then");
            }
        }
        Ok(())
    }
}

impl Key {
    /// The module's.
    fn digest(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(digest, _)| digest)
    }

    /// The digest of the module whose file or note that is, if it was compiled as this one.
    fn same_how<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (digest, how) = name.split_once('-')?;
        how.starts_with(&self.0[self.digest().len() + 1..]).then_some(digest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;
    use tidegate_config::RuleFile;

    use super::*;
    use crate::admission::cache::{CacheTotals, TAIL_BYTES};
    use crate::admission::native::Precompiled;

    const FILE_BYTES: u64 = TAIL_BYTES as u64 + 100;

    fn key(name: &str) -> Key {
        Key::new(name, "how")
    }

    fn body() -> Precompiled {
        Precompiled::vouched_for(vec![0; 100])
    }

    /// Stores modules, of which each was used a minute after the one before it.
    fn filled(path: &Path, names: &[&str], cache: &Cache) {
        for (age, name) in (1..).zip(names.iter().rev()) {
            cache.store(&key(name), &body()).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age * 60);
            File::open(path.join(format!("{name}-how.aot"))).unwrap().set_modified(used).unwrap();
        }
    }

    fn there(cache: &Cache, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| cache.has(&key(name))).collect()
    }

    /// Guarantees: the cache stays within its bytes, and what was used last stays.
    #[test]
    fn bounded() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("cache");
        let cache = Cache::open(&path).unwrap().of_bytes(3 * FILE_BYTES);
        filled(&path, &["a", "b", "c"], &cache);
        assert!(cache.load(&key("a")).is_some(), "and so it is the one used last");
        cache.store(&key("d"), &body()).unwrap();
        assert_eq!(there(&cache, &["a", "b", "c", "d"]), [true, false, true, true]);
        assert_eq!(cache.totals(), CacheTotals { hits: 1, evicted: 1, ..CacheTotals::default() });
        let large = Precompiled::vouched_for(vec![0; 3 * FILE_BYTES as usize]);
        assert!(cache.store(&key("e"), &large).is_err());
        assert_eq!(there(&cache, &["a", "c", "d"]), [true; 3], "nothing goes for what finds no room anyhow");
    }

    /// Guarantees: what a generation is of that serves goes last, and before it, what can be gone back to, however long ago it was of use; what another
    /// version has compiled of it is as good as any. What is compiled only to go back to displaces nothing of that, and a process beside the host nothing at all.
    #[test]
    fn the_most_useful_goes_last() {
        let directory = TempDir::new().unwrap();
        let (path, kept) = (directory.path().join("cache"), directory.path().join("generations"));
        let kept = Arc::new(Generations::open(&kept).unwrap());
        let file =
            |order: u32| RuleFile::parse(&format!("module = \"m.wasm\"\norder = {order}\n"), "r.toml").unwrap();
        for (number, sha256) in [(1, "serves"), (2, "kept"), (3, "serves")] {
            kept.keep("r", number, sha256, &file(number as u32), "", None).unwrap();
        }
        let open = || Cache::open(&path).unwrap().of_bytes(4 * FILE_BYTES).sparing(Some(kept.clone()));
        let cache = open();
        filled(&path, &["serves", "kept", "new"], &cache);
        cache.store(&Key::new("kept", "ancient"), &body()).unwrap();
        assert!(
            Cache::open(&path)
                .unwrap()
                .of_bytes(4 * FILE_BYTES)
                .displacing_nothing()
                .store(&key("x"), &body())
                .is_err()
        );
        let all = ["serves", "kept", "new", "other", "last"];
        assert!(cache.store_beside_kept(&key("other"), &body()).is_ok());
        assert_eq!(there(&cache, &all), [true, true, false, true, false]);
        assert!(cache.store(&key("last"), &body()).is_ok());
        assert_eq!(there(&cache, &all), [true, true, false, true, true], "the one of another version went");
        cache.note_passed(&key("other")).unwrap();
        assert_eq!(there(&cache, &all), [true, true, false, true, false], "never for its own note");

        let cache = open().of_bytes(2 * FILE_BYTES);
        assert!(cache.store_beside_kept(&key("new"), &body()).is_err());
        assert_eq!(there(&cache, &all[..4]), [true, true, false, true], "that would not have been enough");
        cache.store(&key("last"), &body()).unwrap();
        assert_eq!(there(&cache, &all), [true, false, false, false, true]);
    }
}
