//! The rules directory and the rules that serve: what is dropped in runs, what is broken leaves the old one serving.
//!
//! One thread reads the directory when it changes (and now and then, should a change go unseen), compiles what is
//! new, and hands it to a [`Deploy`]. Lanes never wait for it. Who asks how the rules are reads a snapshot.

mod ahead;
mod first;
mod handle;
mod known;
mod look;
mod renamed;
mod retreat;
mod scan;
mod shadows;
mod signed;
mod status;
mod stored;
mod switch;
mod touched;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::RuleFile;

use crate::admission::{Admission, try_out};
use crate::generations::Generations;
use crate::load_error::LoadError;
use crate::module::Module;
use crate::registry::ahead::Ahead;
use crate::registry::first::FirstReading;
use crate::registry::handle::Ask;
use crate::registry::known::Known;
use crate::registry::scan::{Scanner, Wanted};
use crate::registry::shadows::Shadows;
use crate::registry::status::Snapshot;
use crate::rule::Rule;
use crate::shadow::ShadowReport;
use crate::stats::RuleStats;

pub use first::FirstLook;
pub use handle::{RegistryHandle, RescanError, RetryError};
pub use look::{Asked, look_over};
pub use shadows::{Candidate, PromoteState, ShadowOrder, ShadowStart, ShadowStatus};
pub use status::{RuleState, RuleStatus, STILL_CALLED};
pub use touched::Touched;

/// How long the directory must be quiet before it is read: editors and copies take several steps.
const QUIET: Duration = Duration::from_millis(100);
/// However restless it is, it is read after this long.
pub(crate) const RESTLESS: Duration = Duration::from_secs(2);
/// How often it is read without a sign: some file systems give none.
const POLL: Duration = Duration::from_secs(30);
/// The same where it cannot be watched at all.
const POLL_UNWATCHED: Duration = Duration::from_secs(2);

/// Why a rule goes whose files are gone.
const REMOVED: &str = "the rule was removed";
/// Said where there is nobody who reads the directory.
const FAILED: &str = "the first reading of the rules directory ended by a bug, which the log names";

/// Where rules are put to work.
pub trait Deploy: Send {
    /// Lets `rule` serve, in the place of its last generation if there is one; an error leaves that one serving.
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError>;
    /// Lets `rule`, which is new, serve in the place of the rule called `gone`, of the same scope, which serves no more from the very batch on that `rule`
    /// serves from: no row passes both, and none passes neither. Nothing of the state goes over. An error leaves `gone` serving, to be asked again.
    fn rename(&mut self, rule: &Arc<Rule>, gone: &str, reason: &str) -> Result<(), LoadError>;
    /// Lets the rule of that name serve no more. `reason` is for people. An error leaves it serving, to be asked again.
    fn remove(&mut self, rule: &str, reason: &str) -> Result<(), LoadError>;
    /// Gives `rule`, a candidate, what the rule of its name is given from now on, and compares what comes of it.
    fn shadow(&mut self, rule: &Arc<Rule>, report: &Arc<ShadowReport>, state: ShadowStart) -> Result<(), LoadError>;
    /// Lets the shadow of that rule go, if there is one; one whose report has ended is called no more even where this fails.
    fn end_shadow(&mut self, rule: &str) -> Result<(), LoadError>;
    /// Lets `rule`, which is a shadow, serve with the state that it has built.
    fn promote(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError>;
}

/// Watches a rules directory.
pub struct Registry {
    scanner: Scanner,
    deploy: Box<dyn Deploy>,
    rules: BTreeMap<String, Known>,
    generation: u64,
    admission: Arc<Admission>,
    /// What has served, on disk, if it is kept.
    generations: Option<Arc<Generations>>,
    snapshot: Arc<Snapshot>,
    shadows: Arc<Shadows>,
    first: Arc<FirstReading>,
    ask: SyncSender<Ask>,
    /// Whom to tell that what is there serves, until that is done.
    ahead: Option<SyncSender<Ahead>>,
    /// Held by who changes several files, and by who reads them: none is read in between.
    files: Arc<Mutex<()>>,
}

impl Registry {
    /// As [`Self::begin`], and returns when what was there serves.
    pub fn start(
        admission: Admission,
        directory: &Path,
        generations: Option<Generations>,
        deploy: Box<dyn Deploy>,
    ) -> std::io::Result<RegistryHandle> {
        let handle = Self::begin(admission, directory, generations, deploy)?;
        if handle.looked_over() { Ok(handle) } else { Err(std::io::Error::other(FAILED)) }
    }

    /// Reads `directory` (made if it is missing), puts its rules to work, and goes on watching it, all on a thread of its own; what serves is kept
    /// in `generations`.
    pub fn begin(
        admission: Admission,
        directory: &Path,
        generations: Option<Generations>,
        deploy: Box<dyn Deploy>,
    ) -> std::io::Result<RegistryHandle> {
        std::fs::create_dir_all(directory)?;
        let (snapshot, shadows) = (Arc::<Snapshot>::default(), Arc::<Shadows>::default());
        let first = Arc::<FirstReading>::default();
        let generations = generations.map(Arc::new);
        let admission = Arc::new(admission.sparing(generations.clone()));
        let ahead = ahead::start(admission.clone());
        let (ask, asked) = mpsc::sync_channel(64);
        let files = Arc::<Mutex<()>>::default();
        let mut registry = Registry {
            scanner: Scanner::new(directory.to_owned(), admission.clone(), generations.clone()),
            deploy,
            rules: BTreeMap::new(),
            generation: generations.as_ref().map_or(0, |store| store.newest()),
            admission: admission.clone(),
            generations: generations.clone(),
            snapshot: snapshot.clone(),
            shadows: shadows.clone(),
            first: first.clone(),
            ask: ask.clone(),
            ahead: ahead.clone(),
            files: files.clone(),
        };
        let watcher = watch::watch(directory, ask.clone(), ahead);
        let thread = tidegate_telemetry::thread("rules", move || {
            tidegate_telemetry::give_way();
            let first = registry.first.clone();
            let under_way = first.begin();
            registry.read();
            drop(under_way);
            let poll = if watcher.is_some() { POLL } else { POLL_UNWATCHED };
            registry.run(&asked, poll);
            drop(watcher);
        })?;
        Ok(RegistryHandle {
            ask,
            snapshot,
            shadows,
            first,
            admission,
            generations,
            files,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    fn run(&mut self, asked: &Receiver<Ask>, poll: Duration) {
        loop {
            let wait = if self.rules.values().any(Known::is_unfinished) { POLL_UNWATCHED } else { poll };
            match asked.recv_timeout(wait) {
                Ok(Ask::Changed) => {
                    if !self.settle(asked) {
                        return;
                    }
                }
                Ok(ask) => {
                    if !self.answer(ask) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.read(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits until the directory is quiet, then reads it. Gives whether to go on.
    fn settle(&mut self, asked: &Receiver<Ask>) -> bool {
        let began = Instant::now();
        while began.elapsed() < RESTLESS {
            match asked.recv_timeout(QUIET) {
                Ok(Ask::Changed) => {}
                Ok(ask) => {
                    if !self.answer(ask) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        self.read();
        true
    }

    fn answer(&mut self, ask: Ask) -> bool {
        match ask {
            Ask::Changed => {}
            Ask::Quarantined => {
                self.retreat();
                self.publish();
            }
            Ask::Retry { rule, reply } => {
                // Who asked may have stopped waiting.
                let _ = reply.send(self.retry(&rule));
            }
            Ask::Shadow { rule, order, reply } => {
                // As above.
                let _ = reply.send(self.start_shadow(&rule, *order));
            }
            Ask::EndShadow { rule, reply } => {
                // As above.
                let _ = reply.send(self.end_shadow(&rule));
            }
            Ask::Rescan { reply } => {
                // As above.
                let _ = reply.send(self.read_now());
            }
            Ask::Stop => return false,
        }
        true
    }

    /// Reads the directory and brings what serves in line with it. Where it cannot be read the log has said so, and it is read again later.
    fn read(&mut self) {
        let _ = self.read_now();
    }

    /// The same for who needs to know whether it was read.
    fn read_now(&mut self) -> Result<(), RescanError> {
        let files = self.files.clone();
        let unchanged = files.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.scanner.scan().map_err(|error| {
            let why = RescanError::Unreadable(error);
            tracing::error!("{why}");
            why
        })?;
        drop(unchanged);
        let gone: BTreeSet<String> = self.rules.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let renamed = self.renamed(&gone, &wanted);
        let old: BTreeSet<&String> = renamed.values().collect();
        let held = self.let_all_go(gone.into_iter().filter(|name| !old.contains(name)));
        // What has yet to be compiled comes last: it may take a minute each, for which nobody else should wait.
        let (at_hand, mut rest): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, wanted)| self.scanner.is_at_hand(wanted));
        self.expect(&mut rest);
        let at_once = at_hand.len();
        for (at, (name, wanted)) in at_hand.into_iter().chain(rest).enumerate() {
            if at == at_once {
                // Their modules are at hand: who has not come by now does not.
                self.let_renamed_go(&renamed);
            }
            // The rule before it may have had the same module compiled.
            if at >= at_once && self.is_new(&name, &wanted) && !self.scanner.is_at_hand(&wanted) {
                // Who looks meanwhile sees what serves already.
                self.publish();
            }
            self.bring(name.clone(), wanted, held.as_deref(), renamed.get(&name).map(String::as_str));
            if let Some(known) = self.rules.get_mut(&name) {
                known.met = !known.waits_to_return();
                let serves = known.serving.is_some();
                if self.first.ends_with(&name) {
                    // Who goes on now sees what serves.
                    self.publish();
                }
                self.first.met(&name, serves);
            }
        }
        self.let_renamed_go(&renamed);
        if let Some(store) = &self.generations {
            // Those that are called still are here yet.
            store.rest_but(|rule| self.rules.contains_key(rule));
        }
        self.retreat();
        self.publish();
        self.tell_ahead();
        Ok(())
    }

    /// What is there serves: now there is time for what can be gone back to.
    fn tell_ahead(&mut self) {
        let (Some(ahead), Some(store)) = (&self.ahead, &self.generations) else { return };
        if let Err(TrySendError::Full(_)) = ahead.try_send(Ahead::Kept(store.clone())) {
            // Then after the next reading.
            return;
        }
        self.ahead = None;
    }

    /// Whether that is not what a rule's files said already when they were last looked at for good.
    fn is_new(&self, name: &str, wanted: &Wanted) -> bool {
        self.rules.get(name).is_none_or(|known| known.is_due() || known.wanted != *wanted)
    }

    /// Brings one rule in line with its files. `held` is a rule that is to go before any new one comes; `renamed` is one that serves, which this one was until now.
    fn bring(&mut self, name: String, wanted: Wanted, held: Option<&str>, renamed: Option<&str>) {
        let ask = &self.ask;
        let known = self.rules.entry(name.clone()).or_insert_with(|| Known::new(counted(ask)));
        if known.wanted == wanted && !known.is_due() {
            known.held = None;
            return;
        }
        if wanted.file.as_ref().is_ok_and(|file| !file.enabled) {
            return self.switch_off(&name, wanted);
        }
        known.held = None;
        if known.stays_returned(&wanted) {
            return;
        }
        known.begins(wanted);
        let file = match &known.wanted.file {
            Ok(file) => file.clone(),
            Err(reason) => {
                let reason = reason.clone();
                return self.failed(&name, &LoadError::File(reason));
            }
        };
        if self.stays_returned(&name, &file) {
            return;
        }
        let Some(known) = self.rules.get_mut(&name) else { return };
        if let Some(held) = held.filter(|_| known.serving.is_none()) {
            // The one may take the place of the other: never both over the same rows.
            let why = format!("rule {held:?}, which is to go first, is called still");
            return known.failed(&name, &LoadError::Busy(why));
        }
        let stats = known.stats.clone();
        let good = known.serving.clone().filter(|rule| !stats.is_quarantined(rule.generation));
        let manifest = known.wanted.manifest.clone();
        let mut number = None;
        let loaded = match self.promoted(&name, &file) {
            Some(rule) => self.promote(rule, manifest.as_deref()),
            None => self.load(&name, &file, manifest.as_deref(), stats).and_then(|rule| {
                number = Some(rule.generation);
                match renamed {
                    Some(old) => self.deploy.rename(&rule, old, REMOVED)?,
                    None => self.deploy.install(&rule)?,
                }
                Ok(rule)
            }),
        };
        let rule = match loaded {
            Ok(rule) => rule,
            Err(error) => {
                let number = number.filter(|_| matches!(error, LoadError::Busy(_)));
                self.rules.get_mut(&name).into_iter().for_each(|known| known.number = number);
                return self.failed(&name, &error);
            }
        };
        if let Some(old) = renamed {
            self.has_gone(old, REMOVED);
            self.rules.remove(old);
        }
        if let Some(known) = self.rules.get_mut(&name) {
            known.serves(rule.clone());
            known.returned = false;
            known.stands_in = None;
            known.served = known.wanted.clone();
            // Where the one it follows was no good, the one before that may still be waiting.
            known.before = good.or(known.before.take());
        }
        self.shadows.end(&name, "the rule was replaced");
        self.note_signature(&rule, manifest.as_deref());
        self.remember(&rule, &file, manifest.as_deref());
    }

    /// A rule's newest files cannot serve.
    fn failed(&mut self, name: &str, error: &LoadError) {
        self.revive(name, error);
        if let Some(known) = self.rules.get_mut(name) {
            known.failed(name, error);
        }
    }

    /// The number of a new generation of a rule. What is tried again every other second takes one in all.
    fn next_number(&mut self, rule: &str) -> u64 {
        self.rules.get_mut(rule).and_then(Known::left_number).unwrap_or_else(|| {
            self.generation += 1;
            self.generation
        })
    }

    fn load(
        &mut self,
        name: &str,
        file: &RuleFile,
        manifest: Option<&[u8]>,
        stats: Arc<RuleStats>,
    ) -> Result<Arc<Rule>, LoadError> {
        let module: Arc<Module> = self.scanner.module(file, manifest)?;
        let generation = self.number(name, module.sha256(), file);
        let rule = Rule::of_file(name, file, module, stats, generation)?;
        try_out(&rule)?;
        Ok(Arc::new(Rule { signature_expires: self.scanner.trust().expires(manifest), ..rule }))
    }

    fn publish(&self) {
        let entries = self.rules.iter().map(|(name, known)| known.entry(name)).collect();
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = entries;
    }
}

/// The account of a rule, which rings when that is quarantined.
fn counted(ask: &SyncSender<Ask>) -> Arc<RuleStats> {
    let (stats, ask) = (Arc::new(RuleStats::default()), ask.clone());
    // A full queue has it read the directory soon, which looks after those in quarantine too.
    stats.on_quarantine(move || drop(ask.try_send(Ask::Quarantined)));
    stats
}

/// The file of a rule's settings, by its name.
fn toml_path(directory: &Path, rule: &str) -> PathBuf {
    directory.join(format!("{rule}.toml"))
}
