//! A lane: an OS thread that owns one instance of every rule, and takes each batch through all of them.
//!
//! Rules whose state belongs to the whole node run on a lane of their own ([`node`]), which the others hand the rows they match.

mod alerts;
mod batch;
mod book;
mod checkpoint;
mod control;
mod dealt;
mod decode;
mod episodes;
mod epoch;
mod flow;
#[cfg(test)]
mod guest;
mod held_acks;
mod last_saved;
mod node;
mod own_form;
mod parcels;
mod patience;
mod process;
mod remainder;
mod replay_log;
mod route;
mod saving;
mod slot;
mod status;
mod work;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidegate_engine::{Instance, LoadError, Rule, Shadow, thread_cpu};
use tidegate_model::{
    Books, Clock, Latency, Messages, NO_ROW, PartitionId, RawMessages, SavedState, SeriesId, StateBook, StateStore,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::deploy::Reply;
pub use crate::lane::batch::Fate;
pub(crate) use crate::lane::book::LaneBook;
use crate::lane::checkpoint::{Checkpoints, Handover};
pub(crate) use crate::lane::dealt::Dealt;
pub(crate) use crate::lane::epoch::Epoch;
use crate::lane::flow::Flow;
pub(crate) use crate::lane::last_saved::Awaits;
use crate::lane::last_saved::{Changes, LastSaved};
pub(crate) use crate::lane::node::{HandOver, ToNode};
pub(crate) use crate::lane::own_form::Form;
pub(crate) use crate::lane::own_form::OwnForm;
pub(crate) use crate::lane::remainder::{Remade, Remainder};
use crate::lane::replay_log::ReplayLog;
use crate::lane::route::Routes;
use crate::lane::saving::LOOK_AGAIN;
pub(crate) use crate::lane::slot::ReadyShadow;
use crate::lane::slot::Slot;
pub(crate) use crate::lane::status::LaneId;
pub use crate::lane::status::{LaneKind, LaneStatus, LaneTotals};
use crate::lane::work::Work;
use crate::outlets::Outlets;

/// How often changed state is taken over from the rules; what they are given meanwhile is in their journals.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a lane that has caught up lets messages gather before it waits for the next one. A broker that hands them over one at
/// a time would else wake it, and the sinks behind it, for each; the kernel makes about twice as long of it. A message
/// that comes to an idle lane never waits for this: only one that follows a batch so closely does.
const GATHER: Duration = Duration::from_micros(50);

/// When a rule is to act whose `tick` has failed, or of which it is not known for when it asked, as after a restart: what it waits for is in its state,
/// and no message may come to remind it.
const TICK_SOON_US: i64 = 1_000_000;

/// Why alerts are cleared of a rule that begins without the state that there was.
pub(crate) const DISCARDED: &str = "the state of the rule was discarded";

/// Why alerts are cleared of which a rule that comes back cannot know.
pub(crate) const STATE_GONE: &str = "nothing is kept of the state by which this stood";

/// What a lane is told between batches.
pub(crate) enum Control {
    /// Give the version and a copy of the state of a rule, for a successor that is being made ready; nothing if it does not run here.
    Copy { rule: Arc<str>, reply: Reply<Option<Copied>> },
    /// Give what has changed in the state of a rule since that copy, or since this was last asked for; nothing if what was given is no longer
    /// a part of what there is.
    Changed { rule: Arc<str>, reply: Reply<Option<Changed>> },
    /// Let this instance serve from the next batch on, in the place of the one of that name, or of a rule that has `gone`. An error leaves that one serving.
    /// Where nobody takes an error any more, other lanes have gone on with the new one, so it serves here too, without state.
    Install {
        instance: Box<Instance>,
        begins: Begins,
        refused: Refused,
        gone: Option<Gone>,
        reply: Reply<Result<Left, LoadError>>,
    },
    /// Let this rule go on with what is remade of its state, and forget the rest; nothing if it does not run here.
    Reset { rule: Arc<str>, remade: Box<Remade>, reply: Reply<Option<Result<Forgot, LoadError>>> },
    /// Call this rule no more, keep nothing of it, and, if a reason is given, clear for that what it has raised.
    Remove { rule: Arc<str>, clear: Option<Arc<str>>, reply: SyncSender<()> },
    /// Give this shadow what its rule is given, after what has changed since a copy of its state was given, if there was one.
    Shadow { shadow: Box<Shadow>, rule: Arc<str>, has_copy: bool, reply: Reply<Result<(), LoadError>> },
    /// Let the shadow of a rule go.
    EndShadow { rule: Arc<str>, reply: SyncSender<()> },
    /// Give the shadow of a rule to who makes it ready to serve, if it is of that generation, and keep for it what it misses.
    LendShadow { rule: Arc<str>, generation: u64, reply: Reply<Option<Box<Shadow>>> },
    /// Give what it has missed until now.
    Missed { rule: Arc<str>, reply: Reply<ReplayLog> },
    /// Let the shadow that was lent serve from the next batch on, with its own state; where there is none any more, this instance.
    Promote { fresh: Box<Instance>, ready: Option<Box<ReadyShadow>>, reply: Reply<Result<(), LoadError>> },
    /// Hand what these rules match to the node's lane from the next batch on, once that has done with what it was handed before.
    NodeRules { rules: Arc<[Arc<Rule>]>, reply: SyncSender<()> },
    /// Say that you are here.
    Here { reply: Reply<()> },
    /// Take nothing more in, finish what has come, and end.
    Finish,
}

/// A rule that is there under another name from the same batch on.
#[derive(Clone)]
pub(crate) struct Gone {
    pub rule: Arc<str>,
    /// Why what it raised is cleared.
    pub reason: Arc<str>,
}

/// The state of the rule that serves, for the one that is to follow it.
pub(crate) struct Copied {
    pub rule: Arc<Rule>,
    pub state: Arc<StateBook>,
    /// To be held until it follows: what changes meanwhile is gathered for it.
    pub awaits: Arc<Awaits>,
}

/// What has changed in a state. Who asked for it sorts it, and lets go of what it took to know it: no batch waits for either.
pub(crate) struct Changed {
    pub changes: Changes,
    /// What the instance was given until now: hundreds of batches, which are of no use once it has saved.
    _spent: ReplayLog,
}

/// The place of an instance that serves no more, if there was one. To give back its memory takes milliseconds, for which no batch should wait:
/// that is for who waits for the lane's answer.
pub(crate) type Left = Option<Box<(Slot, Option<Instance>, Option<SavedState>)>>;

/// Where an instance that is to serve begins.
pub(crate) enum Begins {
    /// Where the one before it stands: it has been given [`Copied`], and is given what changed since.
    WhereTheLastStands,
    /// The same, for another version.
    InItsOwnForm(Box<OwnForm>),
    /// Where it stands itself, as the shadow of the one before it: its state, and what has changed of that since.
    AsItsShadow(Box<(Form, SavedState)>),
    /// There, whatever the one before it has.
    At(Box<Start>),
    /// Without the state that there was: what was raised with it is cleared first, for this reason.
    Afresh(Box<Start>, &'static str),
}

/// What becomes of an instance that is to serve where it does not take the state of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TheOldServesOn,
    BeginsWithout,
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

/// What a rule has forgotten on a lane.
pub(crate) struct Forgot {
    /// How many cells that were.
    pub cells: usize,
    /// Gone once the store has been told; none without a store.
    pub untold: Option<Weak<Epoch>>,
    /// For who asked to give back.
    pub _spent: Option<Spent>,
}

/// What knew more than the rule does now.
pub(crate) type Spent = Box<(Option<Instance>, LastSaved, Remainder)>;

/// What a lane shares with the rest of the house.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub books: Arc<Books>,
    pub clock: Arc<dyn Clock>,
    pub alert_book: LaneBook,
    pub outlets: Outlets,
    /// Where state outlives the process, if it does.
    pub state: Option<Arc<dyn StateStore>>,
    /// Whether the shutdown's time is over: what sinks cannot write then goes back.
    pub give_up: watch::Receiver<bool>,
    pub latency: Arc<Latency>,
    pub batch_rows: usize,
}

/// What a lane's queue brings: parcels of messages, or on the node's lane the rows that others hand over.
pub(crate) trait Load: Sized {
    /// Takes it, and of what waits behind it as much as makes a batch, through the rules.
    fn take(self, lane: &mut Lane<Self>);
}

/// One lane, before its thread starts.
pub(crate) struct Lane<L> {
    queue: mpsc::Receiver<L>,
    control: mpsc::Receiver<Control>,
    around: Surroundings,
    /// Its own, for its thread to wait in: that of the sinks may be gone before the lane.
    waits: Runtime,
    status: Arc<LaneStatus>,
    /// In the order they run in.
    slots: Vec<Slot>,
    routes: Routes,
    /// The way to the node's lane; that itself has none.
    hand_over: Option<HandOver>,
    save_at: Instant,
    /// No save before this.
    saves_rest_until: Instant,
    /// When it was looked last what is due, by the clock, which may be set back.
    looked_us: i64,
    /// What the store has yet to be told, if there is one.
    checkpoints: Option<Checkpoints>,
    /// A batch has been taken since the lane last waited.
    busy: bool,
    /// Which of how many it is, and so which partitions are its.
    dealt: Dealt,
}

/// What a lane turns to next; it is matched at once and never kept.
#[allow(clippy::large_enum_variant, reason = "a box for each parcel would be an allocation on the data path")]
enum Event<L> {
    Told(Control),
    Taken(L),
    /// A tick or a save is due.
    Due,
    /// Nothing will come any more.
    Ended,
}

impl<L: Load> Lane<L> {
    /// # Errors
    /// The system gives no more of what it takes to wait.
    pub fn new(
        queue: mpsc::Receiver<L>,
        control: mpsc::Receiver<Control>,
        hand_over: Option<HandOver>,
        mut around: Surroundings,
        status: Arc<LaneStatus>,
        dealt: Dealt,
    ) -> std::io::Result<Self> {
        around.alert_book = around.alert_book.of(LaneId { kind: status.kind, index: dealt.index });
        let saves_rest_until = Instant::now();
        let save_at = saves_rest_until + SAVE_EVERY;
        let checkpoints = around.state.clone().map(|store| Checkpoints::new(store, around.give_up.clone()));
        let (slots, routes, busy) = (Vec::new(), Routes::default(), false);
        Ok(Self {
            queue,
            control,
            around,
            waits: Builder::new_current_thread().enable_time().build()?,
            status,
            slots,
            routes,
            hand_over,
            save_at,
            saves_rest_until,
            looked_us: i64::MIN,
            checkpoints,
            busy,
            dealt,
        })
    }

    /// Runs until told to finish, or until all who fill its queue are gone.
    pub fn run(mut self) {
        loop {
            match self.next() {
                Event::Told(Control::Finish) => self.queue.close(),
                Event::Told(told) => {
                    let (began, cpu_began) = (Instant::now(), thread_cpu());
                    self.obey(told);
                    let worked = thread_cpu().saturating_sub(cpu_began);
                    self.status.changing_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
                    self.status.changing_cpu_nanos.fetch_add(worked.as_nanos() as u64, Relaxed);
                }
                Event::Taken(load) => {
                    self.busy = true;
                    load.take(&mut self);
                }
                Event::Due => {}
                Event::Ended => return self.save_now(Handover::Last),
            }
            self.tick();
            self.save();
        }
    }

    fn next(&mut self) -> Event<L> {
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
        let (control, queue) = (&mut self.control, &mut self.queue);
        self.waits.block_on(async move {
            tokio::select! {
                biased;
                Some(told) = control.recv() => Event::Told(told),
                load = queue.recv() => load.map_or(Event::Ended, Event::Taken),
                () = tokio::time::sleep(wait) => Event::Due,
            }
        })
    }

    fn waiting(&mut self) -> Option<Event<L>> {
        let told = self.control.try_recv().ok().map(Event::Told);
        told.or_else(|| self.queue.try_recv().ok().map(Event::Taken))
    }
}

impl<L> Lane<L> {
    /// How long until something is due.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let mut save = self.save_at.saturating_duration_since(now);
        if let Some(held) = self.checkpoints.as_ref().and_then(Checkpoints::due) {
            // Where it is due and there can be no cut, the sinks have to confirm first.
            save = save.min(held.checked_duration_since(now).unwrap_or(LOOK_AGAIN));
        }
        let save = save.max(self.saves_rest_until.saturating_duration_since(now));
        let Some(due_us) = self.slots.iter().filter_map(|slot| slot.due_us).min() else { return save };
        let us = due_us.saturating_sub(self.around.clock.now_us()).clamp(1_000, 3_600_000_000);
        save.min(Duration::from_micros(us as u64))
    }

    fn tick(&mut self) {
        if self.slots.iter().all(|slot| slot.due_us.is_none()) {
            return;
        }
        let now_us = self.around.clock.now_us();
        if now_us < self.looked_us {
            let back_us = self.looked_us - now_us;
            if back_us >= 1_000_000 {
                tracing::warn!(back_us, "the clock was set back: what is due is due so much earlier by it");
            }
            self.slots.iter_mut().for_each(|slot| slot.set_back(back_us));
        }
        self.looked_us = now_us;
        for at in 0..self.slots.len() {
            if self.slots[at].due_us.is_some_and(|due| due <= now_us) {
                let began = Instant::now();
                self.tick_one(at, now_us);
                self.status.busy_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
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
                // What it waited for is in the state of the one in its place.
                return slot.plan(now_us, true, Some(now_us + TICK_SOON_US));
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
        let handed = node::part(&mut flow, &mut self.routes, books);
        let outlets = &self.around.outlets;
        let (delivery, _) = work.close(flow, outlets.points(), outlets.store_points());
        self.send_own(delivery, handed);
    }
}
