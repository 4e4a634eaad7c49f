//! A change of a rule's files, whole over a crash: modules first, where nothing runs them; then the rule's file, in one step, which is the
//! change. If the rule cannot serve after all, everything is put back; if the host ends in the midst of several files, its next start does that
//! (`intent.rs`).
//!
//! A module that the change leaves without a rule would run by its own defaults. So that there is no moment at which it does, a hidden file
//! says first that it waits (`.<module>.waits`, with its digest, which the registry heeds); afterwards the module is renamed to its digest
//! and that file goes. It is a file of the change like any other, and put back with it: what is said to wait and has no file is no rule. What a crash leaves
//! of the renaming is done at the next change. A module behind a symlink is not renamed: it goes on waiting.

use std::collections::BTreeSet;

use fail::fail_point;
use tidegate_config::RuleFile;
use tidegate_engine::{MAX_WASI_MODULE_BYTES, RuleStatus};

use super::directory::{FileError, Locked, Open};
use super::signatures::{beside, move_module};
use super::staged::Staged;
use super::{Desk, Known, Outcome, digest, intent, modules};
use crate::problem::Problem;

/// The largest file there is.
const MAX_FILE_BYTES: u64 = MAX_WASI_MODULE_BYTES as u64;

/// Why it is busy for which a lane has no time.
pub(super) const HELD_BACK: &str = "a lane is held back, as by a sink that is away";

/// A file to be written, by its name; without bytes it is to go.
pub(super) type Write = (String, Option<Vec<u8>>);

/// What the next start makes of a change if the host ends when the last of its files is in place, and nobody was told yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterCrash {
    /// It takes it back: whether all would have served is not known.
    Undone,
    /// It leaves it: rules go, and no file would bring back their state and their alerts.
    Stands,
}

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
        let waiting = left.and_then(|left| self.waiting(left, name));
        // What runs as this very rule, since no file says otherwise, is this rule until its file stands there.
        let (first, last) = if left == Some(&*format!("{name}.wasm")) { (None, waiting) } else { (waiting, None) };
        let files = kept.into_iter().chain(manifest).chain(module).chain(text);
        let files = files.map(|(name, bytes)| (name, Some(bytes)));
        let writes: Vec<Write> = first.into_iter().chain(files).chain(last).collect();
        self.write_whole(&directory, &[writes], AfterCrash::Undone, |_| {
            // It passed every test and still does not serve, as when a lane is held back: as if nothing had been asked.
            if !file.enabled {
                return self.still_called(&[name]);
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

    /// Makes a change in steps: writes the files of each, removes those without bytes, in this order, and has the directory read. Puts everything back, the
    /// last thing first, if that failed, or if `fault` finds one after a step; a later one is not begun before. It is known by then that nothing stands in the way,
    /// a full disk included; and what a crash leaves of it, the next start undoes, but for what is to stand `after_crash` once all files are in place. What cannot
    /// be put back now stays noted, and is tried again before any other change.
    pub(super) fn write_whole(
        &self,
        directory: &Open,
        steps: &[Vec<Write>],
        after_crash: AfterCrash,
        fault: impl Fn(usize) -> Option<Problem>,
    ) -> Result<(), Problem> {
        // Another host may have begun one since this one was: the note would be lost of whichever comes first.
        let locked = directory.lock().filter(|_| !intent::is_noted(directory)).ok_or_else(another_host)?;
        let mut staged = Vec::with_capacity(steps.len());
        for step in steps {
            let files = step.iter();
            let files = files.map(|(name, bytes)| Staged::of(directory, name, bytes.as_deref(), MAX_FILE_BYTES));
            staged.push(files.collect::<Result<Vec<_>, _>>()?);
        }
        let entries: Vec<_> = staged.iter().flatten().map(Staged::entry).collect();
        // One file changes whole as it is.
        let several = entries.len() > 1;
        if several {
            intent::note(directory, &entries)?;
        }
        let mut noted = several;
        let done = staged.iter_mut().enumerate().try_for_each(|(step, files)| {
            let put = {
                // Who reads in between would have rules go before others come in their place.
                let _unread = self.registry.keep_unread();
                files.iter_mut().try_for_each(Staged::put)
            };
            put?;
            if noted && after_crash == AfterCrash::Stands && step + 1 == steps.len() {
                intent::forget(directory)?;
                noted = false;
            }
            // What nobody has read does not serve.
            self.registry.rescan()?;
            fault(step).map_or(Ok(()), Err)
        });
        fail_point!("rules-change-made", |_| std::process::abort());
        // As long as it is noted, the next start would undo it.
        let done = done.and_then(|()| if noted { Ok(intent::forget(directory)?) } else { Ok(()) });
        let Err(problem) = done else {
            // The old files and the drafts go before anything else takes room.
            drop(staged);
            self.tidy(directory, &locked);
            return Ok(());
        };
        // Where there is no room for it, a crash in the midst of this would leave half of it.
        let noted = noted || several && intent::note(directory, &entries).is_ok();
        let not_back: Vec<String> = {
            let _unread = self.registry.keep_unread();
            let back = staged.iter().flatten().rev().filter_map(|file| file.back().err());
            back.map(|error| error.to_string()).collect()
        };
        // If it cannot be read now, it is read later.
        let _ = self.registry.rescan();
        if not_back.is_empty() {
            let forgotten = if noted { intent::forget(directory) } else { Ok(()) };
            drop(staged);
            self.tidy(directory, &locked);
            return Err(match forgotten {
                Ok(()) => problem,
                Err(error) => problem.adding(&format!("; and the note of it is there still: {error}")),
            });
        }
        let noted = noted || intent::note(directory, &entries).is_ok();
        staged.into_iter().flatten().for_each(Staged::leave);
        let then = if noted { "that is tried again before the next change" } else { "mend it by hand" };
        Err(problem.adding(&format!("; and not all could be put back, {then}: {}", not_back.join(", "))))
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

    /// What says that the module which `rule` is about to name no more waits, where it would run by itself then.
    pub(super) fn waiting(&self, module: &str, rule: &str) -> Option<Write> {
        let digest = self.registry.module_digest(rule).filter(|_| self.runs_by_itself(module, rule))?;
        Some((waits(module), Some(digest.into_bytes())))
    }

    /// The same of the module beside the file of `rule`, which names another and is about to go.
    pub(super) fn waiting_beside(&self, directory: &Open, rule: &str) -> Result<Option<Write>, FileError> {
        let module = format!("{rule}.wasm");
        let named = self.registry.rules().iter().any(|it| it.module == module);
        if named || modules::is_kept(&module) {
            return Ok(None);
        }
        let bytes = match directory.read(&module, MAX_FILE_BYTES) {
            // It could not run; or it is a link, of which nobody can say that it waits: whether the rule is there still is looked at when its file has gone.
            Err(FileError::NotPlain(_) | FileError::TooLarge(..) | FileError::Symlink(_)) => None,
            bytes => bytes?,
        };
        Ok(bytes.map(|bytes| (waits(&module), Some(digest(&bytes).into_bytes()))))
    }

    /// Modules that wait, and that no rule names, are renamed to their digests; of others nothing needs to be said any more.
    /// If it cannot be done now, it is done with the next change. Only for who keeps other hosts out: what stands there in the midst of a change of theirs is not meant yet.
    pub(super) fn tidy(&self, directory: &Open, _locked: &Locked<'_>) {
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
                match directory.read(&module, MAX_FILE_BYTES) {
                    Ok(Some(bytes)) => {
                        let digest = digest(&bytes);
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

/// Keeps other hosts from changing what is here.
pub(super) fn lock(directory: &Open) -> Result<Locked<'_>, Problem> {
    directory.lock().ok_or_else(another_host)
}

fn another_host() -> Problem {
    Problem::busy("another host is at a change of these rules; nothing was changed")
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
        Some("busy") => Problem::busy(format!("{HELD_BACK}: {why}; {end}")),
        _ => Problem::conflict("not_serving", format!("{why}; {end}")),
    })
}
