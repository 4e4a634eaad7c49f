//! The rules directory and the rules that serve: what is dropped in runs, what is broken leaves the old one serving.
//!
//! One thread reads the directory when it changes (and now and then, should a change go unseen), compiles what is
//! new, and hands it to a [`Deploy`]. Lanes never wait for it. Who asks how the rules are reads a snapshot.

mod scan;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate_config::RuleFile;
use tidegate_model::TopicFilter;

use crate::engine::Engine;
use crate::module::{LoadError, Module};
use crate::registry::scan::{Scanner, Wanted};
use crate::rule::{Limits, Rule};
use crate::stats::{RuleStats, RuleTotals};

/// How long the directory must be quiet before it is read: editors and copies take several steps.
const QUIET: Duration = Duration::from_millis(100);
/// However restless it is, it is read after this long.
const RESTLESS: Duration = Duration::from_secs(2);
/// How often it is read without a sign: some file systems give none.
const POLL: Duration = Duration::from_secs(30);
/// The same where it cannot be watched at all.
const POLL_UNWATCHED: Duration = Duration::from_secs(2);

/// Where rules are put to work.
pub trait Deploy: Send {
    /// Lets `rule` serve, in the place of its last generation if there is one; an error leaves that one serving.
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError>;
    /// Lets the rule of that name serve no more. `reason` is for people.
    fn remove(&mut self, rule: &str, reason: &str);
}

/// How a rule is.
#[derive(Clone, Debug, Serialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// Whether it serves.
    pub state: RuleState,
    /// What is wrong: with the newest file, while an older generation may serve; or why it is called no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The module's file.
    pub module: String,
    /// The module's sha256, of the generation that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `decoder` or `processor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The module's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Topics it gets.
    pub topics: Vec<String>,
    /// Its place in the chain.
    pub order: i32,
    /// Counts up with every change.
    pub generation: u64,
    /// What it has done.
    pub stats: RuleTotals,
}

/// Whether a rule serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// It gets its rows.
    Serving,
    /// Its file says `enabled = false`.
    Disabled,
    /// It cannot be loaded, and no older generation is there.
    Failed,
    /// It failed again and again, and is called no more.
    Quarantined,
}

/// Watches a rules directory.
pub struct Registry {
    engine: Engine,
    scanner: Scanner,
    deploy: Box<dyn Deploy>,
    rules: BTreeMap<String, Known>,
    generation: u64,
    snapshot: Arc<Snapshot>,
}

/// What is known of one rule.
struct Known {
    wanted: Wanted,
    serving: Option<Arc<Rule>>,
    stats: Arc<RuleStats>,
    problem: Option<String>,
    /// The last attempt failed for something that passes by itself.
    again: bool,
}

type Snapshot = Mutex<Vec<Entry>>;

/// One rule in the snapshot; its counters are read when it is asked for.
struct Entry {
    status: RuleStatus,
    stats: Arc<RuleStats>,
}

/// Asks the registry, from any thread.
#[derive(Clone)]
pub struct RegistryHandle {
    ask: SyncSender<Ask>,
    snapshot: Arc<Snapshot>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Ask {
    /// Something in the directory has changed.
    Changed,
    SetEnabled {
        rule: String,
        enabled: bool,
        reply: SyncSender<Result<(), String>>,
    },
    Rescan {
        reply: SyncSender<()>,
    },
    Stop,
}

impl Registry {
    /// Reads `directory` (made if it is missing), puts its rules to work, and goes on watching it. Returns when what
    /// was there serves.
    pub fn start(engine: Engine, directory: &Path, deploy: Box<dyn Deploy>) -> std::io::Result<RegistryHandle> {
        std::fs::create_dir_all(directory)?;
        let snapshot = Arc::<Snapshot>::default();
        let mut registry = Registry {
            engine,
            scanner: Scanner::new(directory.to_owned()),
            deploy,
            rules: BTreeMap::new(),
            generation: 0,
            snapshot: snapshot.clone(),
        };
        let (ask, asked) = mpsc::sync_channel(64);
        let watcher = watch::watch(directory, ask.clone());
        registry.read();
        let thread = tidegate_telemetry::thread("rules", move || {
            let poll = if watcher.is_some() { POLL } else { POLL_UNWATCHED };
            registry.run(&asked, poll);
            drop(watcher);
        })?;
        Ok(RegistryHandle { ask, snapshot, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    fn run(&mut self, asked: &Receiver<Ask>, poll: Duration) {
        loop {
            let wait = if self.rules.values().any(|known| known.again) { POLL_UNWATCHED } else { poll };
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
            Ask::SetEnabled { rule, enabled, reply } => {
                let done = self.set_enabled(&rule, enabled);
                // Who asked may have stopped waiting.
                let _ = reply.send(done);
            }
            Ask::Rescan { reply } => {
                self.read();
                let _ = reply.send(());
            }
            Ask::Stop => return false,
        }
        true
    }

    /// Reads the directory and brings what serves in line with it.
    fn read(&mut self) {
        let wanted = match self.scanner.scan() {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!("the rules directory cannot be read, the rules stay as they are: {error}");
                return;
            }
        };
        let gone: Vec<String> = self.rules.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(known) = self.rules.remove(&name)
                && known.serving.is_some()
            {
                self.deploy.remove(&name, "the rule was removed");
                tracing::info!(rule = name, "rule removed");
            }
        }
        for (name, wanted) in wanted {
            self.bring(name, wanted);
        }
        self.publish();
    }

    /// Brings one rule in line with its files.
    fn bring(&mut self, name: String, wanted: Wanted) {
        let known = self.rules.entry(name.clone()).or_insert_with(|| Known {
            wanted: Wanted::default(),
            serving: None,
            stats: Arc::default(),
            problem: None,
            again: false,
        });
        if known.wanted == wanted && !known.again {
            return;
        }
        known.wanted = wanted;
        known.again = false;
        let file = match &known.wanted.file {
            Ok(file) if file.enabled => file.clone(),
            Ok(_) => {
                known.problem = None;
                known.stats.release();
                if known.serving.take().is_some() {
                    self.deploy.remove(&name, "the rule was disabled");
                    tracing::info!(rule = name, "rule disabled");
                }
                return;
            }
            Err(reason) => {
                let reason = reason.clone();
                return Self::failed(known, &name, &LoadError::File(reason));
            }
        };
        let stats = known.stats.clone();
        self.generation += 1;
        let generation = self.generation;
        let loaded = self.load(&name, &file, stats, generation).and_then(|rule| {
            self.deploy.install(&rule)?;
            Ok(rule)
        });
        let Some(known) = self.rules.get_mut(&name) else { return };
        match loaded {
            Ok(rule) => {
                tracing::info!(
                    rule = name,
                    generation,
                    kind = rule.kind().as_str(),
                    sha256 = &**rule.module.sha256(),
                    "rule serves"
                );
                known.problem = None;
                known.serving = Some(rule);
            }
            Err(error) => Self::failed(known, &name, &error),
        }
    }

    fn failed(known: &mut Known, name: &str, error: &LoadError) {
        let reason = error.to_string();
        let old = if known.serving.is_some() { "; the generation before it goes on serving" } else { "" };
        tracing::error!(rule = name, "the rule was refused: {reason}{old}");
        known.problem = Some(reason);
        known.again = matches!(error, LoadError::Busy(_));
    }

    fn load(
        &mut self,
        name: &str,
        file: &RuleFile,
        stats: Arc<RuleStats>,
        generation: u64,
    ) -> Result<Arc<Rule>, LoadError> {
        let module: Arc<Module> = self.scanner.module(&self.engine, file)?;
        let description = module.description();
        let filters: Vec<TopicFilter> = match &file.topics {
            Some(topics) => topics.clone(),
            None => description
                .default_topics
                .iter()
                .map(|topic| topic.parse().map_err(|e| LoadError::Description(format!("default-topics: {e}"))))
                .collect::<Result<_, _>>()?,
        };
        if filters.is_empty() {
            return Err(LoadError::Config(format!(
                "the module has no default topics: say which in {name}.toml, as in `topics = [\"dev/#\"]`"
            )));
        }
        let limits = Limits {
            memory_bytes: (file.limits.memory_mib as usize) << 20,
            batch_cpu: Duration::from_millis(u64::from(file.limits.cpu_ms)),
            ..Limits::default()
        };
        Ok(Arc::new(Rule {
            name: name.into(),
            generation,
            module,
            config: file.config.to_string(),
            filters,
            order: file.order,
            commands: file.commands.clone(),
            limits,
            stats,
        }))
    }

    fn set_enabled(&mut self, rule: &str, enabled: bool) -> Result<(), String> {
        let known =
            self.rules.get(rule).ok_or_else(|| format!("there is no rule {rule:?} in the rules directory"))?;
        let module = known.wanted.module.clone();
        self.scanner.write_enabled(rule, &module, enabled)?;
        if enabled {
            // A quarantined rule is given another try, though its files have not changed.
            if let Some(known) = self.rules.get_mut(rule)
                && known.stats.quarantined().is_some()
            {
                known.again = true;
            }
        }
        self.read();
        match self.rules.get(rule).and_then(|known| known.problem.clone()) {
            Some(problem) if enabled => Err(problem),
            _ => Ok(()),
        }
    }

    fn publish(&self) {
        let entries = self.rules.iter().map(|(name, known)| known.entry(name)).collect();
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = entries;
    }
}

impl Known {
    fn entry(&self, name: &str) -> Entry {
        let description = self.serving.as_ref().map(|rule| rule.module.description());
        let file = self.wanted.file.as_ref().ok();
        let state = match (&self.serving, file.map(|file| file.enabled)) {
            (Some(_), _) => RuleState::Serving,
            (None, Some(false)) => RuleState::Disabled,
            (None, _) => RuleState::Failed,
        };
        let topics = match &self.serving {
            Some(rule) => rule.filters.iter().map(ToString::to_string).collect(),
            None => file.and_then(|f| f.topics.as_ref()).into_iter().flatten().map(ToString::to_string).collect(),
        };
        let status = RuleStatus {
            name: name.to_owned(),
            state,
            problem: self.problem.clone(),
            module: self.wanted.module.clone(),
            sha256: self.serving.as_ref().map(|rule| rule.module.sha256().to_string()),
            kind: self.serving.as_ref().map(|rule| rule.kind().as_str()),
            version: description.map(|d| d.version.clone()),
            summary: description.map(|d| d.summary.clone()),
            topics,
            order: file.map_or(0, |file| file.order),
            generation: self.serving.as_ref().map_or(0, |rule| rule.generation),
            stats: RuleTotals::default(),
        };
        Entry { status, stats: self.stats.clone() }
    }
}

impl Entry {
    fn status(&self) -> RuleStatus {
        let mut status = RuleStatus { stats: self.stats.totals(), ..self.status.clone() };
        if let Some(reason) = self.stats.quarantined()
            && status.state == RuleState::Serving
        {
            status.state = RuleState::Quarantined;
            status.problem = Some(reason);
        }
        status
    }
}

impl RegistryHandle {
    /// All rules, by name.
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Entry::status).collect()
    }

    /// One rule.
    pub fn rule(&self, name: &str) -> Option<RuleStatus> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.iter().find(|entry| entry.status.name == name).map(Entry::status)
    }

    /// Writes into the rule's file whether it is enabled, and returns when that holds. Blocks: not for a runtime's thread.
    pub fn set_enabled(&self, rule: &str, enabled: bool) -> Result<(), String> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ask = Ask::SetEnabled { rule: rule.to_owned(), enabled, reply };
        self.ask.send(ask).map_err(|_| "the host is shutting down".to_owned())?;
        answer.recv().map_err(|_| "the host is shutting down".to_owned())?
    }

    /// Reads the directory now, and returns when what is there serves. Blocks: not for a runtime's thread.
    pub fn rescan(&self) {
        let (reply, answer) = mpsc::sync_channel(1);
        if self.ask.send(Ask::Rescan { reply }).is_ok() {
            // It answers, or is shutting down.
            let _ = answer.recv();
        }
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

/// The file of a rule's settings, by its name.
fn toml_path(directory: &Path, rule: &str) -> PathBuf {
    directory.join(format!("{rule}.toml"))
}
