//! A lane: an OS thread that owns one instance of every rule, and takes each batch through all of them.

mod alerts;
mod batch;
mod decode;
mod episodes;
mod flow;
mod journal;
mod keeping;
mod kept;
mod process;
mod route;
mod slot;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_engine::{Instance, LoadError, Rule, Shadow};
use tidegate_model::{
    Ack, Books, Clock, Latency, Messages, NO_ROW, OriginIs, Parcel, PartitionId, RawMessages, SavedState, SeriesId,
    StateBook, StateStore,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::alert_book::AlertBook;
use crate::lane::batch::Batch;
pub use crate::lane::batch::Fate;
use crate::lane::flow::Flow;
use crate::lane::keeping::Keeping;
use crate::lane::kept::Kept;
use crate::lane::route::Routes;
use crate::lane::slot::Slot;
use crate::lane::work::Work;
use crate::outlets::Outlets;

/// How often changed state is taken over from the rules; what they are given meanwhile is in their journals.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a lane that has caught up lets messages gather before it waits for the next one. A broker that hands them over one at
/// a time would else wake it, and the sinks behind it, for each; the kernel makes about twice as long of it. A message
/// that comes to an idle lane never waits for this: only one that follows a batch so closely does.
const GATHER: Duration = Duration::from_micros(50);

/// What a lane is told between batches.
pub(crate) enum Control {
    /// Give the version and a copy of the state of a rule, for a successor that is being made ready; nothing if it does not run here.
    Copy { rule: Arc<str>, reply: SyncSender<Option<Copied>> },
    /// Let this instance serve from the next batch on, in the place of the one of that name. An error leaves that one serving.
    Install { instance: Box<Instance>, begins: Begins, reply: SyncSender<Result<(), LoadError>> },
    /// Let this rule forget that part of its state; gives how many cells that were, or nothing if it does not run here.
    Reset { rule: Arc<str>, of: Reset, reply: SyncSender<Option<Result<usize, LoadError>>> },
    /// Call this rule no more.
    Remove { rule: Arc<str>, reply: SyncSender<()> },
    /// Give this shadow what its rule is given, after what has changed since a copy of its state was given, if there was one.
    Shadow { shadow: Box<Shadow>, rule: Arc<str>, has_copy: bool, reply: SyncSender<Result<(), LoadError>> },
    /// Let the shadow of a rule go.
    EndShadow { rule: Arc<str>, reply: SyncSender<()> },
    /// Let the shadow serve from the next batch on, with its own state; where there is none any more, this instance.
    Promote { fresh: Box<Instance>, reply: SyncSender<Result<(), LoadError>> },
    /// Take nothing more in, finish what has come, and end.
    Finish,
}

/// The state of the rule that serves, for the one that is to follow it.
pub(crate) struct Copied {
    pub rule: Arc<Rule>,
    pub state: Arc<StateBook>,
}

/// Where an instance that is to serve begins.
pub(crate) enum Begins {
    /// Where the one before it stands: it has been given [`Copied`], and is given what changed since.
    WhereTheLastStands,
    /// There, whatever the one before it has.
    At(Box<Start>),
}

/// State that does not come from a lane.
#[derive(Default)]
pub(crate) struct Start {
    pub state: StateBook,
    /// How what is stored differs from it; of use where the rule does not run yet.
    pub differs: SavedState,
}

/// What of a rule's state is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// All of it.
    Everything,
    /// That of one series.
    Series(SeriesId),
    /// That of one partition and of its series.
    Partition(PartitionId),
}

/// What a lane shares with the rest of the house.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub books: Arc<Books>,
    pub clock: Arc<dyn Clock>,
    pub alert_book: Arc<AlertBook>,
    pub outlets: Outlets,
    /// Where state outlives the process, if it does.
    pub state: Option<Arc<dyn StateStore>>,
    pub latency: Arc<Latency>,
    pub runtime: Handle,
    pub batch_rows: usize,
}

/// What a lane has done.
#[derive(Debug, Default)]
pub struct LaneStatus {
    batches: AtomicU64,
    rows: AtomicU64,
    busy_nanos: AtomicU64,
    waiting: AtomicU64,
    memory_bytes: AtomicU64,
}

/// A reading of [`LaneStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LaneTotals {
    /// Batches taken.
    pub batches: u64,
    /// Messages in them.
    pub rows: u64,
    /// Time spent on them, waiting for sinks included: nanoseconds.
    pub busy_nanos: u64,
    /// Parcels in its queue when it last looked.
    pub waiting: u64,
    /// Linear memory of its rules: bytes.
    pub memory_bytes: u64,
}

impl LaneStatus {
    /// A reading.
    pub fn totals(&self) -> LaneTotals {
        LaneTotals {
            batches: self.batches.load(Relaxed),
            rows: self.rows.load(Relaxed),
            busy_nanos: self.busy_nanos.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
        }
    }
}

/// One lane, before its thread starts.
pub(crate) struct Lane {
    parcels: mpsc::Receiver<Parcel>,
    control: mpsc::Receiver<Control>,
    around: Surroundings,
    status: Arc<LaneStatus>,
    /// In the order they run in.
    slots: Vec<Slot>,
    routes: Routes,
    save_at: Instant,
    /// What the store has yet to be told, if there is one.
    keeping: Option<Keeping>,
    /// A batch has been taken since the lane last waited.
    busy: bool,
    /// Which of how many it is: its partitions are those whose index is so much beyond a multiple of them.
    index: usize,
    lanes: usize,
}

/// What a lane turns to next; it is matched at once and never kept.
#[allow(clippy::large_enum_variant, reason = "a box for each parcel would be an allocation on the data path")]
enum Event {
    Told(Control),
    Taken(Parcel),
    /// A tick or a save is due.
    Due,
    /// No parcel will come any more.
    Ended,
}

impl Lane {
    pub fn new(
        parcels: mpsc::Receiver<Parcel>,
        control: mpsc::Receiver<Control>,
        around: Surroundings,
        status: Arc<LaneStatus>,
        (index, lanes): (usize, usize),
    ) -> Self {
        let save_at = Instant::now() + SAVE_EVERY;
        let keeping = around.state.clone().map(Keeping::new);
        let (slots, routes) = (Vec::new(), Routes::default());
        Self { parcels, control, around, status, slots, routes, save_at, keeping, busy: false, index, lanes }
    }

    /// Runs until told to finish, or until all sources are gone.
    pub fn run(mut self) {
        loop {
            match self.next() {
                Event::Told(Control::Finish) => self.parcels.close(),
                Event::Told(told) => self.obey(told),
                Event::Taken(parcel) => {
                    self.busy = true;
                    self.take(parcel);
                }
                Event::Due => {}
                Event::Ended => return self.save_now(),
            }
            self.tick();
            self.save();
        }
    }

    fn next(&mut self) -> Event {
        // Under load both queues have something: no timer is set, no clock is read.
        if let Some(event) = self.waiting() {
            return event;
        }
        if std::mem::take(&mut self.busy) {
            std::thread::sleep(GATHER);
            if let Some(event) = self.waiting() {
                return event;
            }
        }
        let wait = self.wait();
        let (control, parcels) = (&mut self.control, &mut self.parcels);
        self.around.runtime.block_on(async move {
            tokio::select! {
                biased;
                Some(told) = control.recv() => Event::Told(told),
                parcel = parcels.recv() => parcel.map_or(Event::Ended, Event::Taken),
                () = tokio::time::sleep(wait) => Event::Due,
            }
        })
    }

    fn waiting(&mut self) -> Option<Event> {
        let told = self.control.try_recv().ok().map(Event::Told);
        told.or_else(|| self.parcels.try_recv().ok().map(Event::Taken))
    }

    /// How long until something is due.
    fn wait(&self) -> Duration {
        let save = self.save_at.saturating_duration_since(Instant::now());
        let Some(due_us) = self.slots.iter().filter_map(|slot| slot.due_us).min() else { return save };
        let us = due_us.saturating_sub(self.around.clock.now_us()).clamp(1_000, 3_600_000_000);
        save.min(Duration::from_micros(us as u64))
    }

    fn obey(&mut self, told: Control) {
        let now_us = self.around.clock.now_us();
        match told {
            Control::Copy { rule, reply } => {
                let slot = self.slots.iter_mut().find(|slot| slot.rule().name == rule);
                let copy = slot.map(|slot| Copied { state: slot.copy(), rule: slot.rule().clone() });
                // Who asked may have stopped waiting.
                let _ = reply.send(copy);
            }
            Control::Install { instance, begins, reply } => {
                let name = &instance.rule().name;
                let done = match self.slots.iter_mut().find(|slot| slot.rule().name == *name) {
                    Some(slot) => slot.succeed(*instance, begins, now_us),
                    None => {
                        let Start { state, differs } = match begins {
                            Begins::At(start) => *start,
                            Begins::WhereTheLastStands => Start::default(),
                        };
                        let kept = Kept::new(state, self.keeping.as_ref().map(|_| differs));
                        self.slots.push(Slot::new(*instance, kept, self.around.books.clone(), now_us));
                        Ok(())
                    }
                };
                self.rules_changed();
                let _ = reply.send(done);
            }
            Control::Reset { rule, of, reply } => {
                let slot = self.slots.iter_mut().find(|slot| slot.rule().name == rule);
                let done = slot.map(|slot| slot.reset(of));
                if let Some(Ok(_)) = done {
                    self.clear_alerts_of(&rule, of);
                }
                let _ = reply.send(done);
            }
            Control::Remove { rule, reply } => {
                self.slots.retain(|slot| slot.rule().name != rule);
                if let Some(keeping) = &mut self.keeping {
                    keeping.forget(&rule);
                }
                self.rules_changed();
                let _ = reply.send(());
            }
            Control::Shadow { mut shadow, rule, has_copy, reply } => {
                if has_copy {
                    shadow.stand(self.standing_of(&rule));
                }
                let gone = || Err(LoadError::Unsupported("the rule does not serve any more".into()));
                let done = self.slot(&rule).map_or_else(gone, |slot| slot.shadow_with(shadow, has_copy));
                let _ = reply.send(done);
            }
            Control::EndShadow { rule, reply } => {
                if let Some(slot) = self.slot(&rule) {
                    slot.end_shadow();
                }
                let _ = reply.send(());
            }
            Control::Promote { fresh, reply } => {
                let name = fresh.rule().name.clone();
                let done = match self.slot(&name) {
                    Some(slot) => {
                        slot.promote(*fresh, now_us).map(|standing| self.alerts_become(&name, standing, now_us))
                    }
                    None => Err(LoadError::Unsupported("the rule does not serve any more".into())),
                };
                self.rules_changed();
                let _ = reply.send(done);
            }
            Control::Finish => {}
        }
    }

    fn slot(&mut self, rule: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| &*slot.rule().name == rule)
    }

    fn rules_changed(&mut self) {
        self.slots.sort_by(|a, b| {
            let key = |slot: &Slot| (slot.rule().order, slot.rule().name.clone());
            key(a).cmp(&key(b))
        });
        self.routes.forget();
        self.note_memory();
    }

    fn note_memory(&self) {
        let bytes: usize = self.slots.iter().map(Slot::memory_bytes).sum();
        self.status.memory_bytes.store(bytes as u64, Relaxed);
    }

    fn take(&mut self, first: Parcel) {
        let began = Instant::now();
        let parcels = &mut self.parcels;
        let batch = Batch::gather(first, self.around.batch_rows, || parcels.try_recv().ok());
        self.status.waiting.store(self.parcels.len() as u64, Relaxed);
        let rows = batch.messages.len() as u64;
        let now_us = self.around.clock.now_us();
        let source_of = |row: u32| batch.source_of(row);
        let (books, alert_book, outlets) = (&self.around.books, &self.around.alert_book, &self.around.outlets);
        let fates = batch.fates(outlets.messages());
        let mut work = Work::new(&batch.messages, (books, outlets.messages()), alert_book, &source_of, now_us, fates);
        let mut flow = decode::decode(&mut work, &mut self.slots, &mut self.routes);
        process::process(&mut work, &mut self.slots, 0, &mut self.routes, &mut flow);
        let (mut delivery, fates) = work.close(flow, outlets.points(), outlets.store_points());
        delivery.sources = batch.sources();
        let clock = self.around.clock.clone();
        let refused = outlets.messages().any().then(|| delivery.refused.clone());
        delivery.origin_is = if refused.is_some() { OriginIs::Cargo } else { OriginIs::Context };
        // Whoever begins to look on now sees the next batch.
        let seen = outlets.is_watched().then(|| fates.clone());
        let (mut messages, ack) = batch.settle(fates, refused, self.around.latency.clone(), move || clock.now_us());
        delivery.positions = std::mem::take(&mut messages.positions);
        delivery.origin = Arc::new(messages);
        if let Some(keeping) = &mut self.keeping {
            keeping.note(&delivery.alerts);
        }
        if let Some(fates) = seen {
            outlets.show(&delivery, &fates, &self.around.books);
        }
        outlets.send(delivery, ack);
        self.status.batches.fetch_add(1, Relaxed);
        self.status.rows.fetch_add(rows, Relaxed);
        self.status.busy_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
    }

    fn tick(&mut self) {
        if self.slots.iter().all(|slot| slot.due_us.is_none()) {
            return;
        }
        let now_us = self.around.clock.now_us();
        for at in 0..self.slots.len() {
            if self.slots[at].due_us.is_some_and(|due| due <= now_us) {
                self.tick_one(at, now_us);
            }
        }
    }

    fn tick_one(&mut self, at: usize, now_us: i64) {
        let slot = &mut self.slots[at];
        slot.due_us = None;
        let emitted = match slot.tick(now_us) {
            None => return,
            Some(Ok(emitted)) => emitted,
            Some(Err(fault)) => {
                tracing::warn!(rule = &*slot.rule().name, "its tick failed: {fault}");
                slot.replace(&fault);
                slot.gave_up(&fault);
                return slot.plan(now_us, true, None);
            }
        };
        slot.plan(now_us, true, emitted.wake_us);
        if emitted.points.is_empty() && emitted.alerts.is_empty() && emitted.commands.is_empty() {
            return;
        }
        let rule = slot.rule().clone();
        let nothing = Messages::default();
        let no_source = |_: u32| Arc::<str>::default();
        let (books, alert_book) = (&self.around.books, &self.around.alert_book);
        let mut work = Work::new(&nothing, (books, &RawMessages::None), alert_book, &no_source, now_us, Vec::new());
        work.account.generated = emitted.points.len() as u64;
        work.alerts(&rule, emitted.alerts);
        work.commands(&rule, emitted.commands);
        let mut flow = Flow { from_row: vec![NO_ROW; emitted.points.len()], points: emitted.points };
        process::process(&mut work, &mut self.slots, at + 1, &mut self.routes, &mut flow);
        let outlets = &self.around.outlets;
        let (delivery, _) = work.close(flow, outlets.points(), outlets.store_points());
        if let Some(keeping) = &mut self.keeping {
            keeping.note(&delivery.alerts);
        }
        outlets.show(&delivery, &[], &self.around.books);
        outlets.send(delivery, Ack::none());
    }

    fn save(&mut self) {
        let now = Instant::now();
        if now >= self.save_at || self.keeping.as_ref().is_some_and(Keeping::is_full) {
            self.save_at = now + SAVE_EVERY;
            self.save_now();
        }
    }

    fn save_now(&mut self) {
        self.slots.iter_mut().for_each(Slot::save);
        self.note_memory();
        if let Some(keeping) = &mut self.keeping {
            keeping.hand_over(&mut self.slots, &self.around.alert_book);
        }
    }
}
