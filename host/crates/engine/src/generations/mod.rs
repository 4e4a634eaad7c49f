//! The generations of each rule that have served, kept on disk: a module by its digest, and the text of the rule's file.
//!
//! `<rule>.<number>.generation` is one of them, sealed by a digest of all that is in it; `<sha256>.wasm` is a module, once for all that use
//! it; `<rule>.serving` says which one serves, and is not there for a rule that is switched off or gone. Bounded: ten a rule, and in bytes.
//! Nothing is believed without its digest: what does not fit is as if it were not there, and is said.
//!
//! The registry writes here, on its own thread, once a generation serves; who asks for versions reads beside it.

mod names;
mod record;
mod room;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;

use crate::generations::names::{FileName, generation_name, module_name, serving_name};
use crate::generations::record::{MAX_RECORD_BYTES, Record};
use crate::module::{MAX_WASI_MODULE_BYTES, hex};
use crate::private_dir::{DirectoryError, PrivateDir};
use crate::words::cut;

pub use record::Version;
pub(crate) use room::Use;

/// What all of them may take up together; the oldest go first, those that serve stay.
const MAX_BYTES: u64 = 1 << 30;
/// The most kept of why a generation was quarantined: bytes.
const MAX_FAULT_BYTES: usize = 1_000;

/// The generations kept on disk.
#[derive(Debug)]
pub struct Generations {
    directory: PrivateDir,
    max_bytes: u64,
    rules: Mutex<BTreeMap<String, Kept>>,
    /// Names and sizes of the modules' files.
    modules: Mutex<BTreeMap<String, u64>>,
}

/// What is kept of one rule.
#[derive(Debug, Default)]
struct Kept {
    /// By number, so that the newest is last.
    versions: BTreeMap<u64, Version>,
    serving: Option<u64>,
}

/// A generation as it was admitted.
#[derive(Debug)]
pub struct Generation {
    /// What is known of it without its files.
    pub version: Version,
    /// What its rule's file said.
    pub file: RuleFile,
    /// The text of that file, comments and all.
    pub text: String,
    /// Its module.
    pub module: Vec<u8>,
    /// What vouched for it, where signatures are required.
    pub manifest: Option<String>,
}

impl Generations {
    /// Opens the directory, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// It cannot be made or read, belongs to somebody else, or somebody else may write to it.
    pub fn open(directory: &Path) -> Result<Self, DirectoryError> {
        let path = directory;
        let directory = PrivateDir::open(path)?;
        let unusable = |error| DirectoryError::Unusable { directory: path.to_owned(), error };
        let (mut rules, mut modules) = (BTreeMap::<String, Kept>::new(), BTreeMap::new());
        for entry in directory.entries().map_err(unusable)? {
            match FileName::of(&entry.name) {
                Some(FileName::Generation(rule, number)) => match read(&directory, &rule, number) {
                    Ok(record) => {
                        let version = record.version(entry.bytes);
                        rules.entry(rule).or_default().versions.insert(number, version);
                    }
                    Err(why) => tell_of_damage(&directory, &entry.name, &why),
                },
                Some(FileName::Serving(rule)) => {
                    let text = directory.read(&entry.name, 20).ok().flatten();
                    let number = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
                    rules.entry(rule).or_default().serving = number;
                }
                Some(FileName::Module) => drop(modules.insert(entry.name, entry.bytes)),
                None => {}
            }
        }
        Ok(Self { directory, max_bytes: MAX_BYTES, rules: Mutex::new(rules), modules: Mutex::new(modules) })
    }

    /// The highest number there is.
    pub fn newest(&self) -> u64 {
        self.rules().values().filter_map(|kept| kept.versions.keys().next_back()).copied().max().unwrap_or(0)
    }

    /// What is kept of a rule, the newest first.
    pub fn versions(&self, rule: &str) -> Vec<Version> {
        let rules = self.rules();
        let Some(kept) = rules.get(rule) else { return Vec::new() };
        let serves =
            |version: &Version| Version { serving: kept.serving == Some(version.generation), ..version.clone() };
        kept.versions.values().rev().map(serves).collect()
    }

    /// One generation of a rule, whole: both files fit their digests.
    ///
    /// # Errors
    /// What is not there, or does not fit, in words.
    pub fn generation(&self, rule: &str, number: u64) -> Result<Generation, String> {
        let known = self.rules().get(rule).and_then(|kept| kept.versions.get(&number).cloned());
        let version =
            known.ok_or_else(|| format!("generation {number} of rule {rule:?} is not kept, or not any more"))?;
        let record = read(&self.directory, rule, number).map_err(|why| format!("generation {number}: {why}"))?;
        let file = RuleFile::parse(&record.text, &format!("{rule}.toml")).map_err(|error| error.to_string())?;
        let module = self.module(&record.sha256)?;
        Ok(Generation { version, file, text: record.text, module, manifest: record.manifest })
    }

    fn module(&self, sha256: &str) -> Result<Vec<u8>, String> {
        let name = module_name(sha256);
        let missing = |why: String| format!("its module {sha256} cannot be used: {why}");
        let bytes = self.directory.read(&name, MAX_WASI_MODULE_BYTES as u64).map_err(|e| missing(e.to_string()))?;
        let bytes = bytes.ok_or_else(|| missing("it is not kept any more".to_owned()))?;
        if hex(&Sha256::digest(&bytes)) != sha256 {
            tell_of_damage(&self.directory, &name, "it does not fit its digest");
            // The next generation that has it writes it anew.
            let _ = self.directory.remove(&name);
            self.modules().remove(&name);
            return Err(missing("what was kept does not fit its digest".to_owned()));
        }
        Ok(bytes)
    }

    /// The digest of the module that a generation is of, if it is kept.
    pub(crate) fn sha256(&self, rule: &str, number: u64) -> Option<String> {
        Some(self.rules().get(rule)?.versions.get(&number)?.sha256.clone())
    }

    /// The number under which exactly this is kept already.
    pub(crate) fn same(&self, rule: &str, sha256: &str, file: &RuleFile) -> Option<u64> {
        let digest = record::digest_of(file);
        let rules = self.rules();
        let mut versions = rules.get(rule)?.versions.values().rev();
        versions.find(|version| version.is(sha256, &digest)).map(|version| version.generation)
    }

    /// The generation that is exactly this, and why it was quarantined, if it was.
    pub(crate) fn blamed(&self, rule: &str, sha256: &str, file: &RuleFile) -> Option<(u64, String)> {
        let number = self.same(rule, sha256, file)?;
        let fault = self.rules().get(rule)?.versions.get(&number)?.fault.clone()?;
        Some((number, fault))
    }

    /// The number of the generation that served last, if the rule has not been switched off or taken away since, and it was good.
    pub(crate) fn serving(&self, rule: &str) -> Option<u64> {
        let rules = self.rules();
        let kept = rules.get(rule)?;
        let version = kept.versions.get(&kept.serving?)?;
        version.fault.is_none().then_some(version.generation)
    }

    /// The numbers of the good generations of a rule, if it has not been switched off or taken away: the one that served last, and then the newest first.
    pub(crate) fn to_revive(&self, rule: &str) -> Vec<u64> {
        let rules = self.rules();
        let Some((kept, last)) = rules.get(rule).and_then(|kept| Some((kept, kept.serving?))) else {
            return Vec::new();
        };
        let good = kept.versions.values().rev().filter(|version| version.fault.is_none());
        let mut numbers: Vec<u64> = good.map(|version| version.generation).collect();
        numbers.sort_by_key(|&number| number != last);
        numbers
    }

    /// Whether another served in the place of the quarantined `bad` when the host ended: also where nothing good is kept of that one any more.
    pub(crate) fn was_replaced(&self, rule: &str, bad: u64) -> bool {
        let rules = self.rules();
        let Some((kept, serving)) = rules.get(rule).and_then(|kept| Some((kept, kept.serving?))) else {
            return false;
        };
        serving != bad && kept.versions.get(&serving).is_none_or(|version| version.returned_for == Some(bad))
    }

    /// The generations of a rule, other than `but` in what they are, that nothing is known against; the newest first.
    pub(crate) fn good_but(&self, rule: &str, but: u64) -> Vec<u64> {
        let rules = self.rules();
        let Some(versions) = rules.get(rule).map(|kept| &kept.versions) else { return Vec::new() };
        let Some(but) = versions.get(&but) else { return Vec::new() };
        let other = |version: &&Version| version.fault.is_none() && !version.is(&but.sha256, &but.file_digest);
        versions.values().rev().filter(other).map(|version| version.generation).collect()
    }

    /// The name of the module's file of a rule's newest generation.
    pub(crate) fn module_file(&self, rule: &str) -> Option<String> {
        self.rules().get(rule)?.versions.values().next_back().map(|version| version.module.clone())
    }

    /// Keeps a module, if it is not kept yet. What was kept for rules that did not come to serve goes where that becomes too much; who needs it after all
    /// keeps it again.
    pub(crate) fn keep_module(&self, sha256: &str, bytes: &[u8]) -> io::Result<()> {
        let name = module_name(sha256);
        if !self.directory.has(&name) {
            self.directory.write(&name, &[bytes])?;
            self.modules().insert(name.clone(), bytes.len() as u64);
            self.bound_unnamed(&name)?;
        }
        Ok(())
    }

    /// Whether a module is kept.
    pub(crate) fn has_module(&self, sha256: &str) -> bool {
        self.directory.has(&module_name(sha256))
    }

    /// Keeps a generation that serves from now on. One that was the same in all is kept under its new number only.
    pub(crate) fn keep(
        &self,
        rule: &str,
        number: u64,
        sha256: &str,
        file: &RuleFile,
        text: &str,
        manifest: Option<&[u8]>,
    ) -> io::Result<()> {
        let manifest = manifest.map(|manifest| String::from_utf8_lossy(manifest).into_owned());
        self.write(rule, Record { manifest, ..Record::new(rule, number, sha256, file, text) })?;
        self.prune()
    }

    /// A generation returns under a new number, in the place of `bad`.
    pub(crate) fn returns(&self, rule: &str, old: u64, new: u64, bad: u64) -> io::Result<()> {
        let record = read(&self.directory, rule, old).map_err(io::Error::other)?;
        self.write(rule, Record { generation: new, returned_for: Some(bad), ..record })
    }

    /// The quarantined generation in whose place that one returned, if it has not served for its own files since.
    pub(crate) fn returned_for(&self, rule: &str, number: u64) -> Option<u64> {
        self.rules().get(rule)?.versions.get(&number)?.returned_for
    }

    /// A generation that is kept already serves.
    pub(crate) fn serves(&self, rule: &str, number: u64) -> io::Result<()> {
        let mut rules = self.rules();
        let Some(kept) = rules.get_mut(rule).filter(|kept| kept.serving != Some(number)) else { return Ok(()) };
        let text = number.to_string();
        self.directory.write(&serving_name(rule), &[text.as_bytes()])?;
        kept.serving = Some(number);
        Ok(())
    }

    /// The rule is switched off or gone: nothing of it is to return by itself.
    pub(crate) fn rest(&self, rule: &str) {
        let mut rules = self.rules();
        let Some(kept) = rules.get_mut(rule).filter(|kept| kept.serving.is_some()) else { return };
        kept.serving = None;
        if let Err(error) = self.directory.remove(&serving_name(rule)) {
            tracing::warn!(rule, "that the rule serves no more cannot be noted on disk: {error}");
        }
    }

    /// Lets all rules rest but those that `there` knows.
    pub(crate) fn rest_but(&self, there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.rules().keys().filter(|rule| !there(rule)).cloned().collect();
        gone.iter().for_each(|rule| self.rest(rule));
    }

    /// A generation was quarantined: it is not gone back to by itself. Gives whether that is news.
    pub(crate) fn blame(&self, rule: &str, number: u64, why: &str) -> bool {
        let known = self.rules().get(rule).and_then(|kept| kept.versions.get(&number)?.fault.clone());
        if known.is_some() {
            return false;
        }
        let Ok(record) = read(&self.directory, rule, number) else { return false };
        let mut fault = why.to_owned();
        cut(&mut fault, MAX_FAULT_BYTES);
        let record = Record { fault: Some(fault), ..record };
        let bytes = record.sealed();
        if let Err(error) = self.directory.write(&record.name(), &[&bytes]) {
            tracing::warn!(rule, generation = number, "that it was quarantined cannot be noted on disk: {error}");
        }
        if let Some(kept) = self.rules().get_mut(rule) {
            kept.versions.insert(number, record.version(bytes.len() as u64));
        }
        true
    }

    fn write(&self, rule: &str, record: Record) -> io::Result<()> {
        let bytes = record.sealed();
        let version = record.version(bytes.len() as u64);
        let number = version.generation;
        let (name, serving) = (record.name(), number.to_string());
        // That it serves is written last: it is there by then.
        self.directory.write_each([(&name, &[&bytes]), (&serving_name(rule), &[serving.as_bytes()])])?;
        let mut rules = self.rules();
        let kept = rules.entry(rule.to_owned()).or_default();
        let same = |old: &&Version| old.is(&version.sha256, &version.file_digest) && old.generation != number;
        let old: Vec<u64> = kept.versions.values().filter(same).map(|old| old.generation).collect();
        kept.versions.insert(number, version);
        kept.serving = Some(number);
        drop(rules);
        for old in old {
            self.forget(rule, old)?;
        }
        Ok(())
    }

    fn forget(&self, rule: &str, number: u64) -> io::Result<()> {
        self.directory.remove(&generation_name(rule, number))?;
        let mut rules = self.rules();
        if let Some(kept) = rules.get_mut(rule) {
            kept.versions.remove(&number);
            if kept.versions.is_empty() && kept.serving.is_none() {
                rules.remove(rule);
            }
        }
        Ok(())
    }

    fn modules(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(directory: &PrivateDir, rule: &str, number: u64) -> Result<Record, String> {
    let bytes = directory.read(&generation_name(rule, number), MAX_RECORD_BYTES);
    let bytes = bytes.map_err(|error| error.to_string())?.ok_or("it is not there any more")?;
    Record::unsealed(&bytes, rule, number)
}

fn tell_of_damage(directory: &PrivateDir, name: &str, why: &str) {
    let file = directory.shown(name);
    tracing::warn!(file = %file.display(), "a kept generation cannot be used, as if it were not there: {why}");
}

#[cfg(test)]
mod tests;
