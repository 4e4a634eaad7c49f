//! A rule's place on a lane: its instance, what is kept of its state, and its faults.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tidegate_engine::{Cells, Fault, Instance, Rule, SavedState};
use tidegate_model::{Books, PartitionId, SeriesId};

/// How long a rule may go on failing in one batch before the rest of it is given up. A trap costs some 20 µs, so a thousand poison rows are
/// set apart one by one; a rule that runs into its CPU limit each time is not waited for.
const FAULT_TIME_A_BATCH: Duration = Duration::from_secs(1);
/// Given-up batches within [`QUARANTINE_WINDOW`] after which the rule is called no more.
const QUARANTINE_AFTER: usize = 3;
const QUARANTINE_WINDOW: Duration = Duration::from_secs(60);

/// How long one rule has been failing in one batch.
#[derive(Default)]
pub(crate) struct Patience(Option<Instant>);

impl Patience {
    /// It has failed again; gives whether it is enough.
    pub fn spent(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() >= FAULT_TIME_A_BATCH
    }
}

/// One rule on one lane.
pub(crate) struct Slot {
    rule: Arc<Rule>,
    /// None once the rule is quarantined.
    instance: Option<Instance>,
    books: Arc<Books>,
    kept: Kept,
    given_up: Vec<Instant>,
    /// When `tick` is due: microseconds since 1970-01-01 UTC.
    pub due_us: Option<i64>,
    touched: bool,
}

/// State as last saved; what a new instance begins with after a fault.
#[derive(Default)]
struct Kept {
    now: StateBook,
    /// What changed since [`Slot::copy`], while a successor is being made ready.
    since_copy: Option<StateBook>,
}

/// State by this process's ids.
#[derive(Default)]
struct StateBook {
    series: HashMap<SeriesId, Box<[u8]>>,
    partitions: HashMap<PartitionId, Box<[u8]>>,
}

impl Slot {
    pub fn new(instance: Instance, books: Arc<Books>, now_us: i64) -> Self {
        let rule = instance.rule().clone();
        let mut slot = Self {
            rule,
            instance: Some(instance),
            books,
            kept: Kept::default(),
            given_up: Vec::new(),
            due_us: None,
            touched: true,
        };
        slot.due_us = slot.tick_us().map(|every| now_us + every);
        slot
    }

    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// The instance, unless the rule is quarantined.
    pub fn instance(&mut self) -> Option<&mut Instance> {
        self.touched = true;
        self.instance.as_mut()
    }

    pub fn memory_bytes(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory_bytes)
    }

    fn tick_us(&self) -> Option<i64> {
        let instance = self.instance.as_ref().filter(|instance| instance.can_tick())?;
        let every_ms = instance.rule().module.description().tick_ms?;
        Some(every_ms.clamp(10, 86_400_000) as i64 * 1_000)
    }

    /// Plans the next `tick`: by its period, or when it asked to be woken.
    pub fn plan(&mut self, now_us: i64, ticked: bool, wake_us: Option<i64>) {
        if ticked {
            self.due_us = self.tick_us().map(|every| now_us + every);
        }
        let can_tick = self.instance.as_ref().is_some_and(Instance::can_tick);
        if let Some(wake_us) = wake_us.filter(|_| can_tick) {
            self.due_us = Some(self.due_us.map_or(wake_us, |due| due.min(wake_us)));
        }
    }

    /// The instance has failed: counts it, and puts a new one in its place with the state last saved.
    pub fn replace(&mut self, fault: &Fault) {
        self.rule.stats.fault(fault.kind);
        let rule = &*self.rule.name;
        tracing::debug!(rule, backtrace = fault.backtrace, "{fault}");
        self.instance = None;
        let made = self.rule.instantiate(&self.books).and_then(|mut new| {
            let version = &self.rule.module.description().version;
            new.restore(version, &self.kept.now.all())?;
            Ok(new)
        });
        match made {
            Ok(new) => self.instance = Some(new),
            Err(error) => self.quarantine(&format!("after a fault it could not be started again: {error}")),
        }
    }

    /// So many faults in one batch that the rest of it was not tried.
    pub fn gave_up(&mut self, fault: &Fault) {
        let now = Instant::now();
        self.given_up.retain(|then| now.duration_since(*then) < QUARANTINE_WINDOW);
        self.given_up.push(now);
        if self.given_up.len() >= QUARANTINE_AFTER {
            self.quarantine(&format!("it failed again and again, last so: {fault}"));
        }
    }

    fn quarantine(&mut self, reason: &str) {
        self.instance = None;
        self.due_us = None;
        let rule = &*self.rule.name;
        self.rule.stats.quarantine(reason);
        tracing::error!(
            rule,
            reason,
            "the rule is quarantined: it is called no more until its module or file changes, or it is enabled again"
        );
    }

    /// Takes over what changed in its state since the last time.
    pub fn save(&mut self) {
        if !std::mem::take(&mut self.touched) {
            return;
        }
        let Some(instance) = self.instance.as_mut() else { return };
        match instance.save(Cells::Changed) {
            Ok(changed) => self.kept.take(&changed),
            Err(fault) => {
                tracing::warn!(rule = &*self.rule.name, "its state could not be saved: {fault}");
                self.replace(&fault);
            }
        }
    }

    /// A copy of its state for a successor; what changes from now on is gathered for [`Self::succeed`].
    pub fn copy(&mut self) -> SavedState {
        self.save();
        self.kept.since_copy = Some(StateBook::default());
        self.kept.now.all()
    }

    /// Puts `next`, which has been given the [`Self::copy`], in this slot's place, after moving what changed since.
    pub fn succeed(&mut self, mut next: Instance, now_us: i64) {
        self.touched = true;
        self.save();
        let changed = self.kept.since_copy.take();
        if let Some(changed) = changed
            && let Err(error) = next.restore(&self.rule.module.description().version, &changed.all())
        {
            tracing::warn!(rule = &*self.rule.name, "the state of its last moments was not taken over: {error}");
        }
        let kept = std::mem::take(&mut self.kept);
        *self = Self { kept, ..Self::new(next, self.books.clone(), now_us) };
    }
}

impl Kept {
    fn take(&mut self, changed: &SavedState) {
        if let Some(since) = &mut self.since_copy {
            since.take(changed);
        }
        self.now.take(changed);
    }
}

impl StateBook {
    fn take(&mut self, changed: &SavedState) {
        for id in &changed.removed_series {
            self.series.remove(id);
        }
        for id in &changed.removed_partitions {
            self.partitions.remove(id);
        }
        self.series.extend(changed.series.iter().cloned());
        self.partitions.extend(changed.partitions.iter().cloned());
    }

    fn all(&self) -> SavedState {
        SavedState {
            series: self.series.iter().map(|(id, bytes)| (*id, bytes.clone())).collect(),
            partitions: self.partitions.iter().map(|(id, bytes)| (*id, bytes.clone())).collect(),
            ..SavedState::default()
        }
    }
}
