//! A change of a rule's files, whole over a crash: modules first, where nothing runs them; then the rule's file, in one step, which is the
//! change. If the rule cannot serve after all, everything is put back.
//!
//! A module that the change leaves without a rule would run by its own defaults. So that there is no moment at which it does, a hidden file
//! says first that it waits (`.<module>.waits`, with its digest, which the registry heeds); afterwards the module is renamed to its digest
//! and that file goes. What a crash leaves of this is done at the next change. A module behind a symlink is not renamed: it goes on waiting.

use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;
use tidegate_engine::MAX_WASI_MODULE_BYTES;

use super::directory::Open;
use super::signatures::{beside, move_module};
use super::{Desk, Known, Outcome, hex, modules};
use crate::problem::Problem;

/// The largest rule file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is to be written.
pub(super) struct Change<'a> {
    /// What the rule's file says then.
    pub file: &'a RuleFile,
    /// Its text; none if it stays as it is.
    pub text: Option<&'a str>,
    /// A module's file name and bytes, if one is to be written.
    pub module: Option<(String, Vec<u8>)>,
    /// What vouches for the module and is to be written beside it.
    pub manifest: Option<String>,
}

impl Desk {
    /// Makes a change, and gives the rule as it serves then.
    pub(super) fn apply(&self, name: &str, change: Change<'_>, before: Option<Known>) -> Result<Outcome, Problem> {
        let Change { file, text, module, manifest } = change;
        let directory = self.directory.open()?;
        let left = before.as_ref().map(|it| it.status.module.as_str()).filter(|left| *left != file.module);
        let text = text.map(|text| (format!("{name}.toml"), text.as_bytes().to_vec()));
        let manifest = manifest.map(|manifest| (beside(&file.module), manifest.into_bytes()));
        let writes: Vec<(String, Vec<u8>)> = manifest.into_iter().chain(module).chain(text).collect();
        // Everything that could stand in the way is known before anything is written.
        let old = writes.iter().map(|(name, bytes)| {
            let most = (MAX_FILE_BYTES as usize).max(bytes.len()).max(MAX_WASI_MODULE_BYTES) as u64;
            directory.read(name, most)
        });
        let old = old.collect::<Result<Vec<_>, _>>()?;
        if let Some(left) = left {
            self.let_wait(&directory, left, name)?;
        }
        let mut written = Ok(());
        for (name, bytes) in &writes {
            written = written.and_then(|()| directory.write(name, bytes));
        }
        self.registry.rescan();
        let problem = self.registry.rule(name).filter(|_| file.enabled).and_then(|rule| rule.problem);
        let failed = match (written, problem) {
            (Err(error), _) => Some(Problem::from(error)),
            // It passed every test and still does not serve, as when a lane is held back: as if nothing had been asked.
            (Ok(()), Some(why)) => Some(Problem::conflict("not_serving", format!("{why}; the rule is as it was"))),
            (Ok(()), None) => None,
        };
        if let Some(problem) = failed {
            for ((name, _), old) in writes.iter().zip(old).rev() {
                match old {
                    Some(old) => directory.write(name, &old)?,
                    None => drop(directory.remove(name)?),
                }
            }
            self.registry.rescan();
            self.tidy(&directory)?;
            return Err(problem);
        }
        self.tidy(&directory)?;
        self.outcome(name, before.as_ref())
    }

    /// Whether a module would run under its own name if `rule` did not name it.
    fn runs_by_itself(&self, module: &str, rule: &str) -> bool {
        !modules::is_kept(module) && !self.registry.rules().iter().any(|it| it.module == module && it.name != rule)
    }

    /// Sees to it that the module which `rule` is about to name no more does not run by itself then.
    pub(super) fn let_wait(&self, directory: &Open, module: &str, rule: &str) -> Result<(), Problem> {
        if self.runs_by_itself(module, rule)
            && let Some(digest) = self.registry.module_digest(rule)
        {
            directory.write(&waits(module), digest.as_bytes())?;
        }
        Ok(())
    }

    /// Modules that wait, and that no rule names, are renamed to their digests; of others nothing needs to be said any more.
    pub(super) fn tidy(&self, directory: &Open) -> Result<(), Problem> {
        let waiting = directory.waiting()?;
        if waiting.is_empty() {
            return Ok(());
        }
        let rules = self.registry.rules();
        for module in waiting {
            let named = rules.iter().any(|rule| rule.module == module);
            if !named {
                match directory.read(&module, MAX_WASI_MODULE_BYTES as u64) {
                    Ok(Some(bytes)) => {
                        let digest = hex(&Sha256::digest(&bytes));
                        let waits = directory.read(&waits(&module), 64)?.unwrap_or_default();
                        if waits == digest.as_bytes() {
                            move_module(directory, &module, &modules::kept_name(&digest))?;
                        }
                    }
                    Ok(None) => {}
                    // A link cannot be renamed to what it leads to: it waits as it is.
                    Err(_) => continue,
                }
            }
            directory.remove(&waits(&module))?;
        }
        Ok(())
    }
}

/// The file that says that a module waits.
pub(super) fn waits(module: &str) -> String {
    format!(".{module}.waits")
}
