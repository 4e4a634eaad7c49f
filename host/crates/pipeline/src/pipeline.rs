//! The pipeline as a whole: it starts lanes, sinks and sources, tells how they are, and ends them in order.

mod ending;
mod state;
mod status;

pub use ending::Drained;
pub use state::{Kept, ResetError, StateReset};
pub use status::{PipelineStatus, SourceStatus};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tidegate_model::{
    Books, Clock, Health, Inlet, Intake, Limits, MessageLedger, MessageTotals, ParcelLimits, Phase, PointLedger,
    RawMessages, Sink, Source, StateStore,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::alert_book::{AlertBook, Standing};
use crate::alert_history::{Past, PastFilter};
use crate::deploy::{LaneDeploy, Orders, Placement, orders};
use crate::flush::{Beside, Flush, FlushParts, SinkStatus, SinkTotals};
use crate::lane::{Dealt, HandOver, Lane, LaneBook, LaneKind, LaneStatus, Surroundings, ToNode};
use crate::outlets::Outlets;
use crate::sink_setup::SinkSetup;
use crate::tap::{Tail, TooManyTails, Wanted};

/// Parcels waiting for a lane. With parcels of at most 1 MiB, what the queues can hold is bounded too.
const LANE_QUEUE: usize = 32;
/// Batches waiting for the node's lane, each with the messages it came from.
const NODE_QUEUE: usize = 16;
/// Deliveries waiting for the dead letters, which have no spool: while their disk is full, good messages should go on for as long as the
/// windows in flight of their sources let them, and a bad message that comes alone is a delivery of its own.
const DEAD_LETTERS_QUEUE: usize = 256;
/// How a pipeline is built.
pub struct PipelineSettings {
    /// Lanes: at least one.
    pub lanes: usize,
    /// The most messages of one batch.
    pub batch_rows: usize,
    /// When a source's parcel is full.
    pub parcel: ParcelLimits,
    /// Names of topics, series and partitions.
    pub books: Arc<Books>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the state of rules and the alerts that stand outlive the process, if they do.
    pub state: Option<Arc<dyn StateStore>>,
}

/// A running pipeline.
pub struct Pipeline {
    around: Surroundings,
    /// Where sources and sinks run.
    runtime: Handle,
    parcel: ParcelLimits,
    inlets: Vec<mpsc::Sender<tidegate_model::Parcel>>,
    orders: Vec<Orders>,
    node_orders: Orders,
    placement: Arc<Placement>,
    /// The node's lane last.
    lanes: Vec<(Arc<LaneStatus>, JoinHandle<()>)>,
    sinks: Vec<RunningSink>,
    sources: Mutex<Vec<RunningSource>>,
    phase: watch::Sender<Phase>,
    give_up: watch::Sender<bool>,
}

struct RunningSink {
    name: Arc<str>,
    status: Arc<SinkStatus>,
    finish: watch::Sender<bool>,
    /// Taken by the shutdown.
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    role: Role,
}

/// What a sink is there for, in the order in which they are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// What lanes send it.
    Usual,
    /// The late points of another; told of once there were any.
    Late,
    /// The dead letters of all: it ends last.
    Letters,
}

impl RunningSink {
    /// Its totals, unless there is nothing to tell.
    fn told(&self) -> Option<SinkTotals> {
        let totals = self.status.totals(&self.name);
        let standing = totals.spool.as_ref().map_or(0, |spool| spool.records + spool.damaged_records);
        let idle = totals.writes + totals.retries + totals.in_flight + standing == 0;
        (self.role != Role::Late || !idle || totals.down.is_some()).then_some(totals)
    }
}

struct RunningSource {
    name: Arc<str>,
    ledger: Arc<MessageLedger>,
    health: Arc<Health>,
    intake: Intake,
    /// Taken by the shutdown.
    task: Option<tokio::task::JoinHandle<()>>,
    /// The account when it was last audited, and whether it has been found wrong.
    audited: MessageTotals,
    wrong: bool,
}

impl Pipeline {
    /// Starts lanes and sinks. `dead_letters` takes what no other sink would.
    ///
    /// # Errors
    /// The system gives no more threads, or the store does not say for half a minute which alerts stood: rules that come back believe that
    /// they stand still, so what they clear would be published nowhere.
    pub fn start(
        settings: PipelineSettings,
        sinks: Vec<SinkSetup>,
        dead_letters: Box<dyn Sink>,
        runtime: &Handle,
    ) -> std::io::Result<Self> {
        let stood = settings.state.as_deref().map(state::alerts_that_stood).transpose()?.unwrap_or_default();
        let points = Arc::new(PointLedger::default());
        let (phase, _) = watch::channel(Phase::Running);
        let (give_up, told) = watch::channel(false);
        let _in_runtime = runtime.enter();
        let raw = sinks.iter().fold(RawMessages::None, |all, setup| all.with(&setup.sink.wants().messages));
        let mut running = Vec::new();
        let mut queues = Vec::new();
        let mut start = |setup: SinkSetup, letters_name: Option<Arc<str>>, letters, late, role| {
            let SinkSetup { name, sink, limits, spool, late: _, failed_jobs } = setup;
            let name: Arc<str> = name.into();
            let letters_name = letters_name.unwrap_or_else(|| name.clone());
            let status = Arc::new(SinkStatus::new(spool.clone()).with(failed_jobs));
            let (to, queue) = mpsc::channel(limits.queue);
            let filling = Arc::<Notify>::default();
            let (finish, finished) = watch::channel(false);
            if role != Role::Late {
                queues.push((sink.wants(), to.clone()));
            }
            let flush = Flush::new(FlushParts {
                name: name.clone(),
                letters_name,
                sink,
                spool,
                late,
                limits,
                queue,
                filling: (role == Role::Late).then(|| filling.clone()),
                status: status.clone(),
                books: settings.books.clone(),
                raw: raw.clone(),
                dead_letters: letters,
                give_up: told.clone(),
                finish: finished,
            });
            let task = Mutex::new(Some(tidegate_telemetry::spawn("flush", flush.run())));
            running.push(RunningSink { name, status, finish, task, role });
            Beside { queue: to, filling }
        };
        let mut dead_letters = SinkSetup::new("dead-letters", dead_letters);
        dead_letters.limits.queue = DEAD_LETTERS_QUEUE;
        let letters = start(dead_letters, None, None, None, Role::Letters).queue;
        for mut setup in sinks {
            let own = Some(setup.name.as_str().into());
            let late = setup.late.take().map(|late| start(*late, own, Some(letters.clone()), None, Role::Late));
            start(setup, None, Some(letters.clone()), late, Role::Usual);
        }
        running.sort_by_key(|sink: &RunningSink| sink.role);
        let around = Surroundings {
            books: settings.books,
            clock: settings.clock,
            alert_book: LaneBook::new(AlertBook::of(&stood.standing).and_void(&stood.void)),
            outlets: Outlets::new(queues, points),
            state: settings.state,
            give_up: give_up.subscribe(),
            latency: Arc::default(),
            batch_rows: settings.batch_rows,
        };
        let (node_orders, node_told) = orders();
        let mut pipeline = Self {
            around,
            runtime: runtime.clone(),
            parcel: settings.parcel,
            inlets: Vec::new(),
            orders: Vec::new(),
            node_orders,
            placement: Arc::default(),
            lanes: Vec::new(),
            sinks: running,
            sources: Mutex::default(),
            phase,
            give_up,
        };
        let lanes = settings.lanes.max(1);
        let (to_node, handed) = mpsc::channel::<ToNode>(NODE_QUEUE);
        for index in 0..lanes {
            let (inlet, parcels) = mpsc::channel(LANE_QUEUE);
            let (orders, told) = orders();
            let status = Arc::new(LaneStatus::new(LaneKind::Partitions));
            let hand_over = Some(HandOver(to_node.clone()));
            let around = pipeline.around.clone();
            let lane = Lane::new(parcels, told, hand_over, around, status.clone(), Dealt { index, lanes })?;
            let thread = tidegate_telemetry::thread(&format!("lane-{index}"), move || lane.run())?;
            pipeline.inlets.push(inlet);
            pipeline.orders.push(orders);
            pipeline.lanes.push((status, thread));
        }
        // It is always there, and sleeps while it has no rule. Only lanes have a way to it, so it ends when the last of them has.
        drop(to_node);
        let status = Arc::new(LaneStatus::new(LaneKind::Node));
        let lane = Lane::new(
            handed,
            node_told,
            None,
            pipeline.around.clone(),
            status.clone(),
            Dealt { index: 0, lanes: 1 },
        )?;
        let thread = tidegate_telemetry::thread("lane-node", move || lane.run())?;
        pipeline.lanes.push((status, thread));
        Ok(pipeline)
    }

    /// What installs rules on the lanes.
    pub fn deploy(&self) -> LaneDeploy {
        LaneDeploy {
            lanes: self.orders.clone(),
            node: [self.node_orders.clone()],
            placement: self.placement.clone(),
            around: self.around.clone(),
        }
    }

    /// The messages that sinks take as they came.
    pub fn raw_messages(&self) -> &RawMessages {
        self.around.outlets.messages()
    }

    /// Starts a source.
    pub fn add_source(&self, name: &str, source: Box<dyn Source>, limits: Limits) {
        self.add_source_after(name, source, limits, std::future::ready(()));
    }

    /// Starts a source once `gate` is over. Until then it is there, and not up.
    pub fn add_source_after(
        &self,
        name: &str,
        source: Box<dyn Source>,
        limits: Limits,
        gate: impl Future<Output = ()> + Send + 'static,
    ) {
        let name: Arc<str> = name.into();
        let inlet = self.inlet(&name).limited(limits);
        let (ledger, health, intake) = (inlet.ledger().clone(), inlet.health().clone(), inlet.intake().clone());
        let mut phase = self.phase.subscribe();
        let (who, how) = (name.clone(), health.clone());
        let _in_runtime = self.runtime.enter();
        let task = tidegate_telemetry::spawn("source", async move {
            tokio::select! {
                biased;
                _ended = phase.wait_for(|phase| *phase != Phase::Running) => return,
                () = gate => {}
            }
            if let Err(error) = source.run(inlet, phase).await {
                how.down(error.to_string());
                tracing::error!(source = &*who, "the source has ended and will not start again: {error}");
            }
        });
        let task = Some(task);
        let audited = MessageTotals::default();
        self.sources().push(RunningSource { name, ledger, health, intake, task, audited, wrong: false });
    }

    /// A door to the lanes, as a source of that name would have it.
    pub fn inlet(&self, name: &str) -> Inlet {
        Inlet::new(
            name.into(),
            self.around.books.clone(),
            self.around.clock.clone(),
            self.inlets.clone(),
            self.parcel,
        )
    }

    /// Looks over the sources' accounts: one that stood still since the last audit must balance. Gives what is wrong, which can
    /// only be a bug of ours.
    pub fn audit(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for source in self.sources().iter_mut() {
            let totals = source.ledger.totals();
            let stood_still = std::mem::replace(&mut source.audited, totals) == totals;
            if !stood_still || totals.balances() {
                continue;
            }
            let finding = format!("source {}: its ledger does not balance: {totals:?}", source.name);
            if !std::mem::replace(&mut source.wrong, true) {
                tracing::error!("{finding}; this is a bug of the host, please report it");
            }
            findings.push(finding);
        }
        findings
    }

    /// Whether every lane and every sink's task is at work: one that has ended by itself is our bug.
    pub fn alive(&self) -> bool {
        let ended = |sink: &RunningSink| {
            let task = sink.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
        };
        self.phase() != Phase::Running
            || !(self.lanes.iter().any(|(_, thread)| thread.is_finished()) || self.sinks.iter().any(ended))
    }

    /// In which part of its life it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Of the alerts that stand and are `wanted`, the `most` oldest, the oldest first.
    pub fn standing_alerts(&self, most: usize, wanted: impl Fn(&Standing) -> bool) -> Vec<Standing> {
        self.around.alert_book.oldest(most, wanted)
    }

    /// How many alerts stand.
    pub fn alerts_standing(&self) -> usize {
        self.around.alert_book.len()
    }

    /// Of the alerts that were published last, up to `most` that agree with `filter`, the newest first.
    pub fn past_alerts(&self, filter: &PastFilter, most: usize) -> Vec<Past> {
        self.around.outlets.history().past(filter, most)
    }

    /// Begins to look on at what passes.
    ///
    /// # Errors
    /// As many do already as may.
    pub fn tail(&self, wanted: Wanted) -> Result<Tail, TooManyTails> {
        self.around.outlets.taps().open(wanted, &self.around.books)
    }

    /// Upper bound in microseconds and count of each bucket of the time from receipt to settlement, and the sum of all, in microseconds.
    pub fn latency(&self) -> (Vec<(f64, u64)>, u64) {
        (self.around.latency.counts(), self.around.latency.sum_us())
    }

    fn sources(&self) -> MutexGuard<'_, Vec<RunningSource>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
