//! Asking the registry, from any thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;

use crate::admission::{Admission, CacheTotals};
use crate::generations::{Generation, Generations, Version};
use crate::load_error::LoadError;
use crate::module::{Module, hex};
use crate::registry::first::{FirstLook, FirstReading};
use crate::registry::look::tried;
use crate::registry::shadows::{Candidate, PromoteState, ShadowOrder, ShadowStatus, Shadows};
use crate::registry::status::{Entry, RuleStatus, Snapshot};
use crate::rule::Rule;
use crate::shadow::ShadowTotals;
use crate::signature::Trust;
use crate::terms::Terms;

/// Why the directory was not read.
#[derive(Debug, thiserror::Error)]
pub enum RescanError {
    /// Nobody reads it any more.
    #[error("the host is shutting down")]
    Ending,
    /// It cannot be read.
    #[error("the rules directory cannot be read, the rules stay as they are: {0}")]
    Unreadable(std::io::Error),
}

/// Why a rule was given no other try, or serves no better for it.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The directory was not read.
    #[error(transparent)]
    Unread(#[from] RescanError),
    /// A lane has no time to let it serve.
    #[error("{0}")]
    Busy(String),
    /// It cannot serve.
    #[error("{0}")]
    NotServing(String),
}

/// Asks the registry, from any thread.
#[derive(Clone)]
pub struct RegistryHandle {
    pub(super) ask: SyncSender<Ask>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) shadows: Arc<Shadows>,
    pub(super) first: Arc<FirstReading>,
    pub(super) admission: Arc<Admission>,
    pub(super) generations: Option<Arc<Generations>>,
    pub(super) files: Arc<Mutex<()>>,
    pub(super) thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the registry is asked.
pub(super) enum Ask {
    /// Something in the directory has changed.
    Changed,
    /// A generation is called no more.
    Quarantined,
    Retry {
        rule: String,
        reply: SyncSender<Result<(), RetryError>>,
    },
    Shadow {
        rule: String,
        order: Box<ShadowOrder>,
        reply: SyncSender<Result<(), LoadError>>,
    },
    EndShadow {
        rule: String,
        reply: SyncSender<bool>,
    },
    Rescan {
        reply: SyncSender<Result<(), RescanError>>,
    },
    Stop,
}

impl RegistryHandle {
    /// All rules, by name.
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Entry::status).collect()
    }

    /// Whether the directory is being read for the first time, and somebody waits for that.
    pub fn is_starting(&self) -> bool {
        self.first.is_awaited()
    }

    /// Waits until the directory has been read for the first time and what was there serves, or was refused; false if that ended by a
    /// bug. Blocks: not for a runtime's thread.
    pub fn looked_over(&self) -> bool {
        self.first.over()
    }

    /// The same, but gives up once no rule has come to serve for `patience`, and those are through that served before or are decoders.
    pub fn looked_over_or_stuck(&self, patience: Duration) -> FirstLook {
        self.first.over_or_stuck(patience)
    }

    /// One rule.
    pub fn rule(&self, name: &str) -> Option<RuleStatus> {
        self.entry(name, |entry| Some(entry.status()))
    }

    /// The generations that serve, by name, without those that are called no more.
    pub fn serving(&self) -> Vec<Arc<Rule>> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = snapshot.iter().filter_map(|entry| entry.serving.clone());
        serving.filter(|rule| !rule.stats.is_quarantined(rule.generation)).collect()
    }

    /// What the file of a rule said when the directory was last read; none without such a rule, or if it cannot be read.
    pub fn file(&self, name: &str) -> Option<RuleFile> {
        self.entry(name, |entry| entry.file.clone())
    }

    /// The digest of the module that a rule's file names, as it was when the directory was last read.
    pub fn module_digest(&self, name: &str) -> Option<String> {
        self.entry(name, |entry| entry.digest.clone())
    }

    /// They stand in the order of their names, and may be many, each of which is asked for.
    fn entry<T>(&self, name: &str, of: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let at = snapshot.binary_search_by(|entry| entry.status.name.as_str().cmp(name)).ok()?;
        of(snapshot.get(at)?)
    }

    /// The module with this digest, if a rule serves with it.
    pub fn module(&self, sha256: &str) -> Option<Arc<Module>> {
        self.serving_module(|module| &**module.sha256() == sha256)
    }

    fn serving_module(&self, wanted: impl Fn(&Module) -> bool) -> Option<Arc<Module>> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = snapshot.iter().filter_map(|entry| entry.serving.as_ref());
        serving.map(|rule| &rule.module).find(|module| wanted(module)).cloned()
    }

    /// Looks over a module as before it serves, without letting it. Blocks, for as long as it compiles: not for a runtime's thread. One that a rule
    /// serves with on these terms is that one.
    ///
    /// # Errors
    /// It cannot serve.
    pub fn admit(
        &self,
        bytes: &[u8],
        manifest: Option<&[u8]>,
        terms: impl Into<Terms>,
    ) -> Result<Arc<Module>, LoadError> {
        let (sha256, terms) = (hex(&Sha256::digest(bytes)), terms.into());
        if let Some(serving) = self.serving_module(|module| **module.sha256() == *sha256 && module.terms() == terms) {
            // What vouches for it may be another now, or have expired.
            self.trust().check(&sha256, manifest)?;
            return Ok(serving);
        }
        self.admission.admit(bytes, manifest, terms)
    }

    /// Whose modules are taken.
    pub fn trust(&self) -> &Trust {
        self.admission.trust()
    }

    /// The rule that `file` would make of a module, tried on scratch instances; it serves nowhere. Blocks like [`Self::admit`].
    ///
    /// # Errors
    /// It could not serve.
    pub fn examine(&self, name: &str, file: &RuleFile, module: &Arc<Module>) -> Result<Arc<Rule>, LoadError> {
        tried(name, file, module.clone()).map(Arc::new)
    }

    /// The generations of a rule that are kept on disk, the newest first.
    pub fn versions(&self, rule: &str) -> Vec<Version> {
        self.generations.as_ref().map(|store| store.versions(rule)).unwrap_or_default()
    }

    /// The digests of all modules that generations kept on disk were of.
    pub fn kept_modules(&self) -> BTreeSet<String> {
        self.generations.as_ref().map(|store| store.digests()).unwrap_or_default()
    }

    /// One of them, whole. Blocks.
    ///
    /// # Errors
    /// It is not kept, or does not fit its digest.
    pub fn generation(&self, rule: &str, number: u64) -> Result<Generation, String> {
        let store = self.generations.as_ref().ok_or("this host keeps no generations: its log says why")?;
        store.generation(rule, number)
    }

    /// Gives a rule that is called no more, in whole or for some partitions, another try, and returns when it serves. Its file is
    /// not touched. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// It serves no better for it, or the directory cannot be read.
    pub fn retry(&self, rule: &str) -> Result<(), RetryError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ask = Ask::Retry { rule: rule.to_owned(), reply };
        self.ask.send(ask).map_err(|_| RescanError::Ending)?;
        answer.recv().map_err(|_| RescanError::Ending)?
    }

    /// Starts a shadow of a rule, in the place of the one it has. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// It cannot be one.
    pub fn start_shadow(&self, rule: &str, order: ShadowOrder) -> Result<(), LoadError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let gone = || LoadError::Busy("the host is shutting down".to_owned());
        let ask = Ask::Shadow { rule: rule.to_owned(), order: Box::new(order), reply };
        self.ask.send(ask).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Lets the shadow of a rule go; false if it has none. Blocks: not for a runtime's thread.
    pub fn end_shadow(&self, rule: &str) -> bool {
        let (reply, answer) = mpsc::sync_channel(1);
        let ask = Ask::EndShadow { rule: rule.to_owned(), reply };
        self.ask.send(ask).is_ok() && answer.recv().unwrap_or(false)
    }

    /// What the shadow of a rule has found.
    pub fn shadow(&self, rule: &str) -> Option<ShadowStatus> {
        self.shadows.status(rule)
    }

    /// What all shadows have found, by rule, without the differences themselves.
    pub fn shadows(&self) -> BTreeMap<String, ShadowTotals> {
        self.shadows.totals()
    }

    /// What the shadow of a rule would be as its next generation, as long as it runs.
    pub fn candidate(&self, rule: &str) -> Option<Candidate> {
        self.shadows.candidate(rule)
    }

    /// With which state the shadow of a rule is to serve once its file is written; none, if it is not to serve.
    pub fn promote_with(&self, rule: &str, state: Option<PromoteState>) {
        self.shadows.promote_with(rule, state);
    }

    /// What the cache of compiled modules has done, if there is one.
    pub fn cache(&self) -> Option<CacheTotals> {
        self.admission.cache()
    }

    /// Keeps the directory from being read as long as this is held, so that several files of it change as one. Whoever holds it asks nothing else of the registry.
    /// Blocks while it is being read.
    pub fn keep_unread(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the directory now, and returns when what is there serves. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// It is not read, so that the rules are what they were.
    pub fn rescan(&self) -> Result<(), RescanError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.ask.send(Ask::Rescan { reply }).map_err(|_| RescanError::Ending)?;
        answer.recv().map_err(|_| RescanError::Ending)?
    }

    /// Ends the watching; the rules go on serving. Blocks until a change under way is done.
    pub fn stop(&self) {
        // Already ended is as good.
        let _ = self.ask.send(Ask::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
