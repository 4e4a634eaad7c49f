//! A change of a rule's files, whole over a crash: modules first, where nothing runs them; then the rule's file, in one step, which is the
//! change. If the rule cannot serve after all, everything is put back.
//!
//! A module that the change leaves without a rule would run by its own defaults. So that there is no moment at which it does, a hidden file
//! says first that it waits (`.<module>.waits`, with its digest, which the registry heeds); afterwards the module is renamed to its digest
//! and that file goes. What a crash leaves of this is done at the next change. A module behind a symlink is not renamed: it goes on waiting.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;
use tidegate_engine::{MAX_WASI_MODULE_BYTES, RuleStatus};

use super::directory::{FileError, Open};
use super::signatures::{beside, move_module};
use super::staged::Staged;
use super::{Desk, Known, Outcome, hex, modules};
use crate::problem::Problem;

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
    /// The generation that is to serve then, where no other will do.
    pub generation: Option<u64>,
}

impl Desk {
    /// Makes a change, and gives the rule as it serves then.
    pub(super) fn apply(&self, name: &str, change: Change<'_>, before: Option<Known>) -> Result<Outcome, Problem> {
        let Change { file, text, module, manifest, generation } = change;
        let directory = self.directory.open()?;
        let left = before.as_ref().map(|it| it.status.module.as_str()).filter(|left| *left != file.module);
        let text = text.map(|text| (format!("{name}.toml"), text.as_bytes().to_vec()));
        let manifest = manifest.map(|manifest| (beside(&file.module), manifest.into_bytes()));
        let kept = self.named_for_others(&directory, [&*file.module], |rule| rule == name)?;
        let writes =
            kept.into_iter().chain(manifest).chain(module).chain(text).map(|(name, bytes)| (name, Some(bytes)));
        let first = || left.map_or(Ok(()), |left| self.let_wait(&directory, left, name));
        self.write_whole(&directory, &writes.collect::<Vec<_>>(), first, || {
            // It passed every test and still does not serve, as when a lane is held back: as if nothing had been asked.
            if !file.enabled {
                return self.still_called([name]);
            }
            let rule = self.registry.rule(name)?;
            if rule.problem.is_none() && generation.is_some_and(|generation| generation != rule.generation) {
                let detail =
                    "the shadow ended before it could serve, and what it has built with it; the rule is as it was";
                return Some(Problem::conflict("shadow_ended", detail));
            }
            not_serving(rule, "the rule is as it was")
        })?;
        self.outcome(name, before.as_ref())
    }

    /// Writes files, and removes those without bytes, in this order; has the directory read; and puts everything back if that failed, or if
    /// `fault` finds one then. `first` is done once it is known that nothing stands in the way, a full disk included.
    pub(super) fn write_whole(
        &self,
        directory: &Open,
        writes: &[(String, Option<Vec<u8>>)],
        first: impl FnOnce() -> Result<(), Problem>,
        fault: impl FnOnce() -> Option<Problem>,
    ) -> Result<(), Problem> {
        let mut staged = Vec::with_capacity(writes.len());
        for (name, bytes) in writes {
            staged.push(Staged::of(directory, name, bytes.as_deref(), MAX_WASI_MODULE_BYTES as u64)?);
        }
        let written = first().and_then(|()| Ok(staged.iter_mut().try_for_each(Staged::put)?));
        let done = written.and_then(|()| {
            // What nobody has read does not serve.
            self.registry.rescan().map_err(Problem::internal)?;
            fault().map_or(Ok(()), Err)
        });
        let done = done.map_err(|problem| {
            let back = staged.iter().rev().filter_map(|file| file.back().err());
            let not_back: Vec<String> = back.map(|error| error.to_string()).collect();
            // If it cannot be read now, it is read later.
            let _ = self.registry.rescan();
            if not_back.is_empty() {
                return problem;
            }
            problem.adding(&format!("; and not all could be put back, mend it by hand: {}", not_back.join(", ")))
        });
        // The old files and the drafts go before anything else takes room.
        drop(staged);
        self.tidy(directory);
        done
    }

    /// A module that no file names runs as a rule of its own name, until a file names it: then that rule would be gone. For rules of modules that are about
    /// to be named, but for those that `is_meant`, files that say what they are.
    pub(super) fn named_for_others<'a>(
        &self,
        directory: &Open,
        modules: impl IntoIterator<Item = &'a str>,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Vec<u8>)>, Problem> {
        let rules = self.registry.rules();
        let mut files = Vec::new();
        for module in modules.into_iter().collect::<BTreeSet<_>>() {
            let Some(stem) = module.strip_suffix(".wasm").filter(|stem| !is_meant(stem)) else { continue };
            let runs = rules.iter().any(|rule| rule.name == stem && rule.module == module);
            let file = format!("{stem}.toml");
            if runs && !directory.has(&file)? {
                files.push((file, RuleFile::naming(module).into_bytes()));
            }
        }
        Ok(files)
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
    /// If it cannot be done now, it is done with the next change.
    pub(super) fn tidy(&self, directory: &Open) {
        if let Err(error) = self.try_to_tidy(directory) {
            tracing::warn!("the rules directory cannot be tidied up: {error}");
        }
    }

    fn try_to_tidy(&self, directory: &Open) -> Result<(), FileError> {
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

/// Why a rule does not serve as its files say, if it does not; `end` says what has become of the change. One for which a lane has no time is busy, and comes
/// to nothing all the same: its files are put back.
pub(super) fn not_serving(rule: RuleStatus, end: &str) -> Option<Problem> {
    let why = rule.problem?;
    Some(match rule.problem_code {
        Some("busy") => Problem::busy(format!("a lane is held back, as by a sink that is away: {why}; {end}")),
        _ => Problem::conflict("not_serving", format!("{why}; {end}")),
    })
}
