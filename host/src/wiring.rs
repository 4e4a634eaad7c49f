//! The one place that knows every crate: from a configuration to a host that runs.

pub mod backfill;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tidegate_admin::{Admin, Status, View};
use tidegate_config::{Changes, Config, Journal, Name, Offsets, SinkSettings, SourceSettings};
use tidegate_engine::{
    Admission, Asked, Cache, ChildProcess, Confined, DirectoryError, Engine, Examination, FirstLook, Generations,
    Registry, RegistryHandle, RuleState, RuleStatus, SIGNATURE_SUFFIX, Scope, Terms, Trust,
};
use tidegate_model::{
    Books, Clock, History, Limits, Logs, ParcelLimits, Sink, Source, Spool, StateStore, SystemClock,
};
use tidegate_pipeline::{Drained, Pipeline, PipelineSettings, SinkLimits, SinkSetup};
use tidegate_sinks::{
    DeadLetters, Discard, Kafka, Mqtt, Ndjson, SourcePositions, Sqlite, SqliteHistory, Timescale, TimescaleHistory,
    watch_jobs,
};
use tidegate_sources::{KafkaLogs, KafkaSource, MqttSource, ReplaySource};
use tidegate_spool::SpoolQueue;
use tidegate_state::StateFile;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::check::{Found, Inspected};
use crate::descriptors;
use crate::letters::LetterFile;
use crate::sharing::{Scattered, StateOf, scattered};
use crate::unpark::unpark;

/// The most points produced to Kafka in one write: a write ends with a round trip, so it should be worth one.
const KAFKA_ROWS: usize = 20_000;

/// Behind a sink's name: the sink for its late points. No name has a dot.
const LATE: &str = ".late";

/// How long after the start the state of rules that are not there, or are disabled, is kept.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// How long sources wait where no rule comes to serve any more and modules are still to be compiled. The compiler has its say on most within this
/// time; what comes of a module after it begins with the messages that come then.
const RULES_PATIENCE: Duration = Duration::from_secs(30);

/// How long a module may take to be compiled for its author, whom nobody waits for.
const AUTHORS_PATIENCE: Duration = Duration::from_secs(120);

/// A running host.
pub struct Host {
    view: View,
    admin: Admin,
    /// What goes on beside the data path until the host ends.
    chores: Vec<JoinHandle<()>>,
    /// Over when sources take messages.
    started: JoinHandle<anyhow::Result<()>>,
    shutdown_timeout: Duration,
}

impl Host {
    /// Starts everything, sinks and rules before sources, so that the first message meets a complete house; the API before the rules, so that it can be asked
    /// what takes so long. Does not wait for the rules: that is [`Self::started_or`]. Not for a runtime's thread.
    pub fn start(config: &Config, runtime: &Handle) -> anyhow::Result<Self> {
        let open = descriptors::raise();
        let settings_of_admin = descriptors::within(&config.admin, open);
        if let Some(warning) = descriptors::warning(&config.admin, open) {
            tracing::warn!("{warning}");
        }
        make_data_dir(&config.data_dir)?;
        let books = Arc::new(Books::new(config.max_series));
        let clock = Arc::new(SystemClock);
        let _in_runtime = runtime.enter();
        let mut chores = Vec::new();
        let mut setup = |name: &Name, called: String, settings: &SinkSettings| -> anyhow::Result<SinkSetup> {
            let (sink, limits) = sink(settings, &books, &mut chores);
            let spool = config.spools.get(name).map(|settings| -> anyhow::Result<Arc<dyn Spool>> {
                let (books, clock) = (books.clone(), clock.clone());
                let spool = SpoolQueue::new(&config.data_dir, &called, *settings, sink.wants(), books, clock);
                Ok(Arc::new(spool.context("the spools cannot start")?))
            });
            Ok(SinkSetup { limits, spool: spool.transpose()?, ..SinkSetup::new(called, sink) })
        };
        let sinks = config.sinks.iter().map(|(name, settings)| {
            let late = late(name, settings).map(|(called, settings)| setup(name, called, &settings)).transpose()?;
            Ok(SinkSetup { late: late.map(Box::new), ..setup(name, name.to_string(), settings)? })
        });
        let sinks = sinks.collect::<anyhow::Result<Vec<_>>>()?;
        for (settings, setup) in config.sinks.values().zip(&sinks) {
            if let SinkSettings::Timescale(settings) = settings {
                let watch = watch_jobs(settings.clone(), setup.failed_jobs.clone());
                chores.push(tidegate_telemetry::spawn("jobs", watch));
            }
        }
        tell_of_forgotten_spools(config);
        let dead_letters = Box::new(DeadLetters::new(&config.data_dir, config.dead_letters, clock.clone()));
        chores.push(tidegate_telemetry::spawn("dead-letters", dead_letters.upkeep()));
        let (account, replays) = (dead_letters.account(), dead_letters.replays());
        let known = books.clone();
        let parked_clock = clock.clone();
        let state = StateFile::open(&config.data_dir, books.clone(), clock.clone());
        let state: Arc<dyn StateStore> = Arc::new(state.context("the store of the rules' state cannot start")?);
        let settings = pipeline_settings(config, books, clock, Some(state.clone()));
        let lanes = settings.lanes;
        let pipeline =
            Arc::new(Pipeline::start(settings, sinks, dead_letters, runtime).context("the lanes cannot start")?);
        let trust = Trust::open(&config.signatures, Some(&config.data_dir))?;
        let admission = admission(open_cache(&config.data_dir), config.compile_timeout)?.trusting(trust);
        let generations = open_generations(&config.data_dir);
        match config.admin.changes {
            // Before anything of a change that was half made is read.
            Changes::Allowed => tidegate_admin::mend_rules(&config.rules_dir),
            Changes::Refused => tidegate_admin::tell_of_half(&config.rules_dir),
        }
        let registry = Registry::begin(admission, &config.rules_dir, generations, Box::new(pipeline.deploy()))
            .with_context(|| format!("the rules directory {} cannot be used", config.rules_dir.display()))?;
        chores.push(tidegate_telemetry::spawn("forget-state", forget_state(pipeline.clone(), registry.clone())));
        let letters = DeadLetters::path(&config.data_dir);
        chores.push(tidegate_telemetry::spawn(
            "unpark",
            unpark(letters, registry.clone(), known.clone(), parked_clock),
        ));
        let view = View {
            pipeline,
            registry,
            dead_letters: account,
            books: known,
            letters: Arc::new(LetterFile(DeadLetters::path(&config.data_dir))),
            histories: histories(config, runtime),
            logs: logs(config),
            rules_dir: config.rules_dir.clone(),
            data_dir: config.data_dir.clone(),
            schemas: Confined::of_this_binary(&["validate"]),
            configuration: config.shown.as_str().into(),
            started: Instant::now(),
        };
        let admin = Admin::start(&settings_of_admin, view.clone())?;
        let (open, opened) = watch::channel(false);
        for (name, settings) in &config.sources {
            let limits = config.limits.get(name).copied().unwrap_or_default();
            view.pipeline.add_source_after(
                name.as_str(),
                source(settings, config, &state),
                limits,
                passed(opened.clone()),
            );
        }
        let by_name = config.sources.iter().map(|(name, settings)| (name.to_string(), settings.clone()));
        let replay = ReplaySource::new(Arc::new(replays), by_name.collect());
        view.pipeline.add_source_after("replay", Box::new(replay), Limits::default(), passed(opened));
        let (address, sinks) = (admin.address(), config.sinks.len());
        let (registry, sources) = (view.registry.clone(), config.sources.clone());
        let started = tokio::task::spawn_blocking(move || {
            rules_looked_over(&registry)?;
            tell_of_scattered_rules(&sources, &registry);
            open.send_replace(true);
            let (sources, rules) = (sources.len(), registry.rules().len());
            tracing::info!(%address, lanes, sources, sinks, rules, "tidegate runs");
            Ok(())
        });
        Ok(Self { view, admin, chores, started, shutdown_timeout: config.shutdown_timeout })
    }

    /// Waits until the rules that are there serve, or no more of them do for [`RULES_PATIENCE`]: sources take messages from then on. Or until it is `told`
    /// to end. An error if nobody looks after the rules: end it then. To be asked once.
    pub async fn started_or(&mut self, told: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = told => Ok(()),
            started = &mut self.started => started.context("the start ended by a bug, which the log names")?,
        }
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.view.status()
    }

    /// Where its HTTP interface listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.admin.address()
    }

    /// Ends it in order; gives how that went and its last state.
    pub async fn shutdown(self) -> (Drained, Status) {
        let (registry, began) = (self.view.registry.clone(), Instant::now());
        // A change of rules under way is finished first, since lanes must be there for it; but where a sink holds a lane back, only the
        // pipeline's own end sets it free.
        let stopping = tokio::task::spawn_blocking(move || registry.stop());
        let _ = tokio::time::timeout(self.shutdown_timeout / 4, stopping).await;
        let left = self.shutdown_timeout.saturating_sub(began.elapsed());
        let drained = self.view.pipeline.shutdown(left).await;
        for chore in &self.chores {
            chore.abort();
        }
        let status = self.view.status();
        // Last of all, so that it answers until there is nothing more to ask.
        drop(self.admin);
        (drained, status)
    }
}

/// A rule that went while the host was away is forgotten, but not at once: its directory may be filled by somebody who starts as late as we do.
async fn forget_state(pipeline: Arc<Pipeline>, registry: RegistryHandle) {
    loop {
        tokio::time::sleep(FORGET_AFTER).await;
        let (pipeline, registry) = (pipeline.clone(), registry.clone());
        let forgotten = tokio::task::spawn_blocking(move || {
            let gone = |rule: &RuleStatus| rule.state == RuleState::Disabled;
            let rules: Vec<String> =
                registry.rules().into_iter().filter(|rule| !gone(rule)).map(|rule| rule.name).collect();
            // An empty directory may be one that is not mounted.
            if rules.is_empty() { Ok(()) } else { pipeline.forget_all_but(&rules) }
        });
        // Where a lane is held back it is tried again. A panic in it has been said by the thread it was in.
        if !matches!(forgotten.await, Ok(Err(_))) {
            return;
        }
    }
}

/// Rows that wait for a sink that is no more, or has no spool any more, wait for ever: that is said.
fn tell_of_forgotten_spools(config: &Config) {
    let there = tidegate_spool::list(&config.data_dir).unwrap_or_default();
    let late_of = |name: &Name| late(name, config.sinks.get(name)?);
    let is_of =
        |name: &Name, sink: &str| name.as_str() == sink || late_of(name).is_some_and(|(late, _)| late == sink);
    for (sink, path) in there.iter().filter(|(sink, _)| !config.spools.keys().any(|name| is_of(name, sink))) {
        if let Ok(found) = tidegate_spool::inspect(path)
            && found.rows > 0
        {
            let way_back = way_back(sink);
            tracing::warn!(sink, rows = found.rows, path = %path.display(),
                "rows stand in a spool that no sink empties: {way_back}, or export them (tidegate spool export {sink}) and delete the file");
        }
    }
}

/// What has to be configured for the spool of that name to be emptied.
fn way_back(spool: &str) -> String {
    match spool.strip_suffix(LATE) {
        // No configuration has a sink of that name.
        Some(name) => format!(
            "they are late rows of sink {name}, stored while that has a spool, two `connections` or more and no `exactly_once`; let it have these until they are"
        ),
        None => "bring that sink back, with its spool".to_owned(),
    }
}

/// Resolves when the gate is opened; never, where nobody is left to open it.
async fn passed(mut gate: watch::Receiver<bool>) {
    if gate.wait_for(|open| *open).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Blocks until the rules that are there serve, or nobody should wait for more of them.
fn rules_looked_over(registry: &RegistryHandle) -> anyhow::Result<()> {
    match registry.looked_over_or_stuck(RULES_PATIENCE) {
        FirstLook::Over => Ok(()),
        FirstLook::Stuck => {
            let rules = registry.rules().into_iter().filter(|rule| rule.state == RuleState::Pending);
            let rules: Vec<String> = rules.map(|rule| rule.name).collect();
            tracing::warn!(?rules, "the sources start without rules whose modules are still being compiled");
            Ok(())
        }
        FirstLook::Failed => anyhow::bail!("the rules cannot be looked after: the thread for it ended by a bug"),
    }
}

/// What `check` refuses or warns of: a host that is brought up again must not stay down for it.
fn tell_of_scattered_rules(sources: &BTreeMap<Name, SourceSettings>, registry: &RegistryHandle) {
    for rule in registry.serving() {
        let state = state_of(rule.module.description().scope);
        if let Some(Scattered::Wrong(why) | Scattered::Partial(why)) =
            scattered(sources, &rule.name, state, &rule.filters)
        {
            tracing::warn!("{why}");
        }
    }
}

fn state_of(scope: Scope) -> StateOf {
    match scope {
        Scope::None => StateOf::Nothing,
        Scope::Series => StateOf::Series,
        Scope::Partition => StateOf::Partition,
        Scope::Node => StateOf::Node,
    }
}

fn pipeline_settings(
    config: &Config,
    books: Arc<Books>,
    clock: Arc<dyn Clock>,
    state: Option<Arc<dyn StateStore>>,
) -> PipelineSettings {
    let lanes = config.lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let (batch_rows, parcel) = (config.batch_rows, ParcelLimits::default());
    PipelineSettings { lanes, batch_rows, parcel, books, clock, state }
}

fn make_data_dir(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("data_dir {} cannot be made; make it, or set another", directory.display()))
}

fn source(settings: &SourceSettings, config: &Config, state: &Arc<dyn StateStore>) -> Box<dyn Source> {
    match settings {
        SourceSettings::Mqtt(settings) => {
            let source = MqttSource::new(settings.clone()).remembering(config.data_dir.clone(), client_ids(config));
            Box::new(match settings.journal {
                Journal::On => source.journaled(state.clone()),
                Journal::Off => source,
            })
        }
        SourceSettings::Kafka(settings) => {
            let exact = config.sinks.values().find_map(|sink| match sink {
                SinkSettings::Timescale(sink) if sink.offsets == Offsets::WithPoints => Some(sink),
                _ => None,
            });
            let source = KafkaSource::new(settings.clone());
            Box::new(match (exact, settings.journal) {
                (Some(sink), _) => source.stored_by(Arc::new(SourcePositions::new(sink.clone()))),
                (None, Journal::On) => source.journaled(state.clone()),
                (None, Journal::Off) => source,
            })
        }
    }
}

/// The client ids of all MQTT connections.
fn client_ids(config: &Config) -> Vec<String> {
    let sources = config.sources.values().flat_map(|source| match source {
        SourceSettings::Mqtt(settings) => MqttSource::new(settings.clone()).client_ids(),
        SourceSettings::Kafka(_) => Vec::new(),
    });
    let sinks = config.sinks.values().filter_map(|sink| match sink {
        SinkSettings::Mqtt(settings) => Some(settings.endpoint.client_id.clone()),
        _ => None,
    });
    sources.chain(sinks).collect()
}

fn sink(
    settings: &SinkSettings,
    books: &Arc<Books>,
    chores: &mut Vec<JoinHandle<()>>,
) -> (Box<dyn Sink>, SinkLimits) {
    let mut limits = SinkLimits::default();
    let sink: Box<dyn Sink> = match settings {
        SinkSettings::Sqlite(settings) => Box::new(Sqlite::new(settings.clone(), books.clone())),
        SinkSettings::Timescale(settings) => {
            limits.rows = Timescale::rows_at_once(settings);
            Box::new(Timescale::new(settings.clone(), books.clone()))
        }
        SinkSettings::Mqtt(settings) => {
            let sink = Mqtt::new(settings.clone());
            chores.extend(sink.presence().map(|presence| tidegate_telemetry::spawn("presence", presence)));
            Box::new(sink)
        }
        SinkSettings::Kafka(settings) => {
            limits.rows = KAFKA_ROWS;
            Box::new(Kafka::new(settings.clone(), books.clone()))
        }
        SinkSettings::Ndjson(settings) => Box::new(Ndjson::new(settings.clone(), books.clone())),
        SinkSettings::Discard => Box::new(Discard::new()),
    };
    (sink, limits)
}

/// The sink for the late points of a sink, where it has one: what it is called, which no other can be, and how it is set up.
fn late(name: &Name, settings: &SinkSettings) -> Option<(String, SinkSettings)> {
    let SinkSettings::Timescale(settings) = settings else { return None };
    Some((format!("{name}{LATE}"), SinkSettings::Timescale(Timescale::for_late_points(settings)?)))
}

/// The sinks whose rows can be read again.
fn histories(config: &Config, runtime: &Handle) -> BTreeMap<String, Arc<dyn History>> {
    let each = config.sinks.iter().filter_map(|(name, settings)| {
        let history: Arc<dyn History> = match settings {
            SinkSettings::Sqlite(settings) => Arc::new(SqliteHistory::new(settings)),
            SinkSettings::Timescale(settings) => Arc::new(TimescaleHistory::new(settings.clone(), runtime.clone())),
            SinkSettings::Mqtt(_) | SinkSettings::Kafka(_) | SinkSettings::Ndjson(_) | SinkSettings::Discard => {
                return None;
            }
        };
        Some((name.to_string(), history))
    });
    each.collect()
}

/// The sources whose messages can be read again.
fn logs(config: &Config) -> BTreeMap<String, Arc<dyn Logs>> {
    let each = config.sources.iter().filter_map(|(name, settings)| match settings {
        SourceSettings::Kafka(settings) => {
            let logs: Arc<dyn Logs> = Arc::new(KafkaLogs::new(settings.clone()));
            Some((name.to_string(), logs))
        }
        SourceSettings::Mqtt(_) => None,
    });
    each.collect()
}

/// Modules are compiled in a child process: `tidegate compile`, which is this binary.
fn admission(cache: Option<Cache>, compile_time: Duration) -> anyhow::Result<Admission> {
    let compiler = ChildProcess::of_this_binary(&["compile"]);
    Ok(Admission::new(Engine::new()?, Box::new(compiler), cache).compiling_within(compile_time))
}

/// Where the manifest of a module stands.
pub fn manifest_path(module: &Path) -> PathBuf {
    let mut path = module.as_os_str().to_owned();
    path.push(SIGNATURE_SUFFIX);
    path.into()
}

/// The cache of compiled modules; without one that can be trusted the host starts as well, only later.
fn open_cache(data_dir: &Path) -> Option<Cache> {
    let told = |error: DirectoryError| tracing::error!("modules are compiled at every start: {error}");
    Cache::open(&data_dir.join("cache")).map_err(told).ok()
}

/// What rules have served, to go back to; without it the host starts as well.
fn open_generations(data_dir: &Path) -> Option<Generations> {
    let told =
        |error: DirectoryError| tracing::error!("there will be no generation of a rule to go back to: {error}");
    Generations::open(&data_dir.join("generations")).map_err(told).ok()
}

/// Looks into a module, for `tidegate rule`; its test cases are not run, and who has signed it is not looked at.
pub fn examine(bytes: &[u8], terms: Terms) -> anyhow::Result<Examination> {
    Ok(admission(None, AUTHORS_PATIENCE)?.examine(bytes, terms)?)
}

/// The rules that the directory of this configuration asks for, as a host that starts with it would find them, for `tidegate check`. Which
/// versions have served on the host is not looked at.
pub fn look_over(config: &Config) -> io::Result<Vec<Found>> {
    let trust = Trust::open(&config.signatures, None).map_err(io::Error::other)?;
    let admission = admission(None, config.compile_timeout).map_err(io::Error::other)?.trusting(trust);
    Ok(tidegate_engine::look_over(&config.rules_dir, admission)?.into_iter().map(found).collect())
}

fn found(asked: Asked) -> Found {
    let inspected = asked.rule.map_err(|error| error.to_string()).map(|rule| {
        let about = rule.module.description();
        let what = format!("{} {} {}: {}", rule.kind().as_str(), about.name, about.version, about.summary);
        Inspected { what, state: state_of(about.scope), topics: rule.filters.clone() }
    });
    Found { name: asked.name, file: asked.file, by_default: asked.by_default, inspected }
}
