//! The desk at which rules and modules are changed: one change at a time, tried before it is written, and taken back whole if it
//! cannot serve after all. What it writes is files in the rules directory, so that they and the API never disagree.

mod change;
mod compare;
mod condition;
mod desired;
mod directory;
mod document;
mod examine;
mod intent;
mod left;
mod linked;
mod merge;
mod modules;
mod on_trial;
mod prune;
mod rollback;
mod schema;
mod shadow;
mod signatures;
mod staged;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_config::{Changes, RuleFile};
use tidegate_engine::{
    Confined, RegistryHandle, RescanError, RetryError, RuleState, RuleStatus, STILL_CALLED, Touched,
};
use tidegate_pipeline::ResetError;

pub(crate) use condition::Condition;
pub(crate) use desired::{Mode, Others};
use directory::FileError;
pub(crate) use directory::RulesDir;
pub use intent::{mend_rules, tell_of_half};
use merge::merge;
use on_trial::OnTrial;
pub(crate) use prune::Which as WhichModules;
use schema::Schemas;
pub use schema::validate_and_exit;
pub(crate) use signatures::{ManifestShape, Signature};

use crate::gate::Changed;
use crate::problem::Problem;
use crate::rules::change::{AfterCrash, Change, HELD_BACK, Write};
use crate::shapes::Description;

/// The most rules that are named in an answer.
const MOST_TOLD: usize = 10;
/// The largest file of a rule, as the registry reads it.
const MAX_RULE_FILE_BYTES: u64 = 1 << 20;

/// Where rules and modules are changed.
pub(crate) struct Desk {
    directory: RulesDir,
    registry: RegistryHandle,
    schemas: Schemas,
    changes: Changes,
    one_at_a_time: Mutex<()>,
    /// Digests of module files that have not been touched since.
    digests: Mutex<HashMap<String, (Touched, String)>>,
    /// What modules say of themselves, by digest.
    descriptions: Mutex<HashMap<String, Description>>,
    on_trial: Arc<OnTrial>,
}

/// A rule as it is, with what its file says.
pub(crate) struct Known {
    pub status: RuleStatus,
    pub file: Option<RuleFile>,
}

/// What a change came to.
pub(crate) struct Outcome {
    pub rule: Known,
    pub created: bool,
    pub changed: Changed,
}

impl Known {
    /// The version of its file and module: opaque, quoted, as in `ETag`.
    pub fn etag(&self) -> &str {
        &self.status.etag
    }

    /// The same for the audit log.
    fn digest(&self) -> String {
        self.etag().trim_matches('"').to_owned()
    }
}

impl Desk {
    /// `schemas` is a child under whose arguments [`validate_and_exit`] is called. Where no changes are allowed, nothing is tidied up either.
    pub fn new(directory: RulesDir, registry: RegistryHandle, schemas: Confined, changes: Changes) -> Self {
        Self {
            directory,
            registry,
            schemas: Schemas::new(schemas),
            changes,
            one_at_a_time: Mutex::default(),
            digests: Mutex::default(),
            descriptions: Mutex::default(),
            on_trial: Arc::default(),
        }
    }

    /// The modules that are only to be tried.
    pub fn on_trial(&self) -> Arc<OnTrial> {
        self.on_trial.clone()
    }

    /// A rule as it is. Does not block.
    pub fn rule(&self, name: &str) -> Result<Known, Problem> {
        self.known(name).ok_or_else(|| self.no_rule(name))
    }

    /// Who has misspelt a name hears which was meant.
    fn no_rule(&self, name: &str) -> Problem {
        let rules = self.registry.rules();
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let meant = tidegate_config::nearest(name, &names).map(|meant| format!("; did you mean {meant:?}?"));
        let meant = meant.unwrap_or_default();
        Problem::missing(format!("there is no rule {name:?}{meant}; GET /api/v1/rules lists them"))
    }

    fn known(&self, name: &str) -> Option<Known> {
        self.registry.rule(name).map(|status| Known { status, file: self.registry.file(name) })
    }

    /// Makes a rule, or makes it anew. Blocks.
    pub fn put(&self, name: &str, definition: &Value, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name);
        condition.check(before.as_ref())?;
        let (file, text) = RuleFile::from_json(definition, &format!("{name}.toml"))?;
        self.replace(name, &file, &text, before)
    }

    /// Changes parts of a rule, by a merge patch (RFC 7396). Blocks.
    pub fn patch(&self, name: &str, patch: &Value, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        let old = before.file.as_ref().ok_or_else(|| unreadable(name))?;
        let mut definition = serde_json::to_value(old).map_err(|error| Problem::internal(error.to_string()))?;
        merge(&mut definition, patch);
        let own = format!("{name}.toml");
        let (file, _) = RuleFile::from_json(&definition, &own)?;
        let text =
            self.directory.open()?.read(&own, MAX_RULE_FILE_BYTES)?.and_then(|text| String::from_utf8(text).ok());
        let text = text.map_or_else(|| file.to_toml(), |text| file.patched(&text, patch))?;
        self.replace(name, &file, &text, Some(before))
    }

    /// Takes a rule away. Its module stays; where that would then run by itself, it is renamed to its digest. Blocks.
    pub fn delete(&self, name: &str, condition: &Condition) -> Result<Changed, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        let (directory, toml) = (self.directory.open()?, format!("{name}.toml"));
        directory.ours(&toml)?;
        let mut writes: Vec<Write> = self.waiting(&before.status.module, name).into_iter().collect();
        writes.extend(self.waiting_beside(&directory, name)?);
        if directory.has(&toml)? {
            writes.push((toml, None));
        }
        self.write_whole(&directory, &[writes], AfterCrash::Stands, |_| {
            self.still_called(&[name]).or_else(|| self.still_there(name))
        })?;
        Ok(Changed { before: Some(before.digest()), after: None })
    }

    /// Switches a rule on or off; when it returns, that holds. Blocks.
    pub fn switch(&self, name: &str, enabled: bool, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        let (directory, own) = (self.directory.open()?, format!("{name}.toml"));
        directory.ours(&own)?;
        if enabled && before.file.as_ref().is_none_or(|file| file.enabled) {
            // Its file says so already, so what is left to do is another try.
            self.registry.retry(name)?;
            return self.outcome(name, Some(&before));
        }
        let old = directory.read(&own, MAX_RULE_FILE_BYTES)?;
        let old = old.map(String::from_utf8).transpose().map_err(|_| unreadable(name))?;
        let text = RuleFile::with_enabled(old.as_deref(), &before.status.module, enabled);
        let text = text.map_err(|_| unreadable(name))?;
        let file = RuleFile::parse(&text, &own).map_err(|_| unreadable(name))?;
        // It is tried as any other change is, and put back if that does not hold.
        self.replace(name, &file, &text, Some(before))
    }

    /// Lets a rule out of quarantine. Blocks.
    pub fn retry(&self, name: &str, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        if before.status.state == RuleState::Disabled {
            return Err(Problem::conflict("disabled", "the rule is disabled; enable it"));
        }
        self.registry.retry(name)?;
        self.outcome(name, Some(&before))
    }

    /// Does something with a rule that leaves its files as they are, alone at the desk. Blocks.
    pub fn with_rule<T>(
        &self,
        name: &str,
        condition: &Condition,
        work: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let _alone = self.begin()?;
        condition.check(Some(&self.rule(name)?))?;
        work(name)
    }

    fn replace(&self, name: &str, file: &RuleFile, text: &str, before: Option<Known>) -> Result<Outcome, Problem> {
        if file.enabled {
            self.examine(name, file)?;
        }
        self.apply(name, Change { file, text: Some(text), module: None, manifest: None, generation: None }, before)
    }

    /// Whether one of these rules, whose files want it gone, is called still: a lane is held back.
    fn still_called(&self, rules: &[&str]) -> Option<Problem> {
        let held = |name: &str| self.registry.rule(name).filter(|rule| rule.problem_code == Some(STILL_CALLED));
        let (name, why) = rules.iter().find_map(|name| Some((name, held(name)?.problem.unwrap_or_default())))?;
        Some(Problem::busy(format!("rule {name:?}: {why}; everything is as it was{}", self.but_for(rules))))
    }

    /// Of rules that were to go and are to be put back: what is said of those that went, since no file brings back what they knew.
    fn but_for(&self, rules: &[&str]) -> String {
        let went: Vec<&&str> =
            rules.iter().filter(|rule| self.registry.rule(rule).is_none()).take(MOST_TOLD).collect();
        if went.is_empty() {
            return String::new();
        }
        format!(", but for the state and the alerts of rules that had gone already, which begin anew: {went:?}")
    }

    /// Whether a rule that was deleted is one all the same: its module runs by itself, and nobody could say that it waits.
    fn still_there(&self, name: &str) -> Option<Problem> {
        let detail =
            format!("rule {name:?} is there still: {name}.wasm runs by itself; remove that file, or mend it");
        self.registry.rule(name).map(|_| Problem::conflict("still_there", detail))
    }

    fn outcome(&self, name: &str, before: Option<&Known>) -> Result<Outcome, Problem> {
        let rule = self.rule(name)?;
        let changed = Changed { before: before.map(Known::digest), after: Some(rule.digest()) };
        Ok(Outcome { rule, created: before.is_none(), changed })
    }

    /// Begins a change: nobody else is at one, none is left half made, and what the files say now is known, if they can be read.
    fn begin(&self) -> Result<MutexGuard<'_, ()>, Problem> {
        let alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        // If it cannot be opened or read, the change itself will hear of it.
        let directory = self.directory.open().ok().filter(|_| self.changes == Changes::Allowed);
        directory.iter().try_for_each(intent::mend)?;
        let _ = self.registry.rescan();
        // What a crash has left of the change before. Where another host is at one, it is for that to do.
        for (directory, locked) in directory.iter().filter_map(|directory| Some((directory, directory.lock()?))) {
            self.tidy(directory, &locked);
        }
        Ok(alone)
    }

    /// The same for what judges by the rules and cannot be taken back: by old ones it might delete what has just been put to use.
    fn begin_knowing(&self) -> Result<MutexGuard<'_, ()>, Problem> {
        let alone = self.begin()?;
        self.registry.rescan()?;
        Ok(alone)
    }
}

fn unreadable(name: &str) -> Problem {
    let detail = format!("{name}.toml cannot be read, so no part of it can be changed; PUT it whole, or delete it");
    Problem::conflict("unreadable", detail)
}

impl From<ResetError> for Problem {
    fn from(error: ResetError) -> Self {
        let text = error.to_string();
        match error {
            ResetError::NotServing(_) => Problem::conflict("not_serving", text),
            ResetError::Busy => Problem::busy(text),
            ResetError::Refused(_) => Problem::conflict("state_refused", text),
        }
    }
}

impl From<RetryError> for Problem {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Unread(error) => error.into(),
            RetryError::Busy(why) => Problem::busy(format!("{HELD_BACK}: {why}")),
            RetryError::NotServing(why) => Problem::conflict("not_serving", why),
        }
    }
}

impl From<RescanError> for Problem {
    fn from(error: RescanError) -> Self {
        match error {
            RescanError::Ending => Problem::busy(error.to_string()),
            RescanError::Unreadable(_) => Problem::internal(error.to_string()),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let text = error.to_string();
        match error {
            FileError::Symlink(_) => Problem::conflict("symlink", text),
            FileError::NotPlain(_) | FileError::TooLarge(..) => Problem::conflict("not_a_file", text),
            FileError::Io(_, error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                Problem::conflict("readonly", format!("the rules directory cannot be written: {text}"))
            }
            FileError::Io(_, error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                let detail = format!("there is no room for the rules directory: {text}");
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", detail)
            }
            FileError::Io(..) => Problem::internal(format!("the rules directory cannot be used: {text}")),
        }
    }
}

/// The sha256 of `bytes`, in hex: what the configuration says of a token.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
