//! Back to a generation that served before: its files are written as they were, and it serves when this returns.

use tidegate_config::RuleFile;
use tidegate_engine::{Generation, MAX_WASI_MODULE_BYTES, Version};

use super::change::Change;
use super::directory::{FileError, Open};
use super::{Condition, Desk, Known, Outcome, digest, modules};
use crate::problem::Problem;

/// Where the module of a generation stands.
enum Place {
    /// In the file that its rule names.
    There,
    /// It is to be put back into that file, which no other rule uses.
    Back,
    /// It is to be put beside it, under its digest: that file is another's, or must not change apart from the rule's own.
    Beside,
}

impl Desk {
    /// The generations of a rule that it can go back to, the newest first. Does not block.
    pub fn versions(&self, name: &str) -> Result<Vec<Version>, Problem> {
        self.rule(name).map(|_| self.registry.versions(name))
    }

    /// Goes back to generation `to`, or to the one before. Blocks.
    pub fn rollback(&self, name: &str, to: Option<u64>, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        let directory = self.directory.open()?;
        let number = to.map_or_else(|| self.one_before(&directory, &before), Ok)?;
        let generation = self.registry.generation(name, number).map_err(|why| Problem::conflict("not_kept", why))?;
        let Generation { version, file, text, module, manifest } = generation;
        let as_it_is = before.file.as_ref() == Some(&file);
        let (file, text, module) = match self.place(&directory, name, &file, &version.sha256, as_it_is)? {
            Place::There => (file, text, None),
            Place::Back => (file.clone(), text, Some((file.module, module))),
            Place::Beside => {
                let beside = modules::kept_name(&version.sha256);
                let text = RuleFile::with_module(&text, &beside)?;
                let file = RuleFile { module: beside.clone(), ..file };
                (file, text, Some((beside, module)))
            }
        };
        let text = (before.file.as_ref() != Some(&file)).then_some(text.as_str());
        if text.is_none() && module.is_none() && self.serves(&before, number) {
            return Err(Problem::conflict("serves_already", format!("generation {number} is what serves")));
        }
        if text.is_none() && module.is_none() {
            // Its files are there already: it is quarantined, or waits for something.
            self.registry.retry(name)?;
            return self.outcome(name, Some(&before));
        }
        let manifest = manifest.filter(|_| module.is_some());
        self.apply(name, Change { file: &file, text, module, manifest, generation: None }, Some(before))
    }

    /// The one to go back to: what serves, where the files ask for something else that cannot; else the newest other one that is not known
    /// to be bad.
    fn one_before(&self, directory: &Open, before: &Known) -> Result<u64, Problem> {
        let name = &before.status.name;
        let versions = self.registry.versions(name);
        let serving = versions.iter().find(|version| version.serving);
        let asked_for = |version: &Version| {
            let kept = self.registry.generation(name, version.generation).ok();
            let same = kept.is_some_and(|kept| before.file.as_ref() == Some(&kept.file));
            same && has(directory, &version.module, &version.sha256).unwrap_or(false)
        };
        let good = |version: &&Version| version.fault.is_none();
        let found = match serving {
            Some(serving) if !asked_for(serving) => Some(serving).filter(good),
            _ => versions.iter().filter(good).find(|version| !version.serving),
        };
        let none = || {
            let detail = format!("rule {name:?} has no generation to go back to; `versions` lists what is kept");
            Problem::conflict("no_version", detail)
        };
        found.map(|version| version.generation).ok_or_else(none)
    }

    /// Whether that generation is what is called.
    fn serves(&self, rule: &Known, number: u64) -> bool {
        rule.status.problem.is_none() && rule.status.generation == number
    }

    fn place(
        &self,
        directory: &Open,
        name: &str,
        file: &RuleFile,
        sha256: &str,
        as_it_is: bool,
    ) -> Result<Place, Problem> {
        let ours = match has(directory, &file.module, sha256) {
            Ok(true) => return Ok(Place::There),
            Ok(false) => true,
            Err(FileError::Symlink(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let shared = self.registry.rules().iter().any(|rule| rule.module == file.module && rule.name != name);
        let is_digest = file.module.strip_suffix(".wasm") == Some(sha256);
        Ok(if ours && !shared && (as_it_is || is_digest) { Place::Back } else { Place::Beside })
    }
}

/// Whether the directory has that module under that name.
fn has(directory: &Open, module: &str, sha256: &str) -> Result<bool, FileError> {
    let bytes = directory.read(module, MAX_WASI_MODULE_BYTES as u64)?;
    Ok(bytes.is_some_and(|bytes| digest(&bytes) == sha256))
}
