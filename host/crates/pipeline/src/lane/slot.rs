//! A rule's place on a lane: its instance, what is kept of its state, and its faults.
//!
//! State is taken over from the instance every second. What it is given meanwhile is kept in a [`ReplayLog`]: after a fault a new instance
//! gets the state last saved and then that, so that it stands where the old one stood before the call that failed.

mod shadowing;
mod succession;
mod taking_apart;
mod toll;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fail::fail_point;
use tidegate_engine::{
    Cells, Decoded, Emitted, Fault, Instance, LoadError, Processed, Rule, Shadow, Share, thread_cpu,
};
use tidegate_model::{Books, Messages, PartitionId, Points};

use crate::lane::TICK_SOON_US;
use crate::lane::episodes::{Episodes, Verdict};
use crate::lane::last_saved::LastSaved;
use crate::lane::replay_log::{Given, ReplayLog};
use crate::lane::slot::shadowing::Lent;
use crate::lane::slot::taking_apart::{LaidAside, instance_at};
use crate::lane::slot::toll::Toll;

pub(crate) use shadowing::ReadyShadow;
pub(crate) use taking_apart::{Poison, Tried};

/// Given-up batches within [`QUARANTINE_WINDOW`] after which the rule is called no more.
const QUARANTINE_AFTER: usize = 3;
const QUARANTINE_WINDOW: Duration = Duration::from_secs(60);
/// For how many times as long as a tick took there is no other. A batch comes of messages, and who sends less has less of them; a tick comes
/// because the rule says so, and one that wants the next at once would have the lane for itself.
const REST_AFTER_TICK: i64 = 9;

/// Whether what a rule was given is in the state that was last saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    All,
    /// It failed when it was to save; it will be asked again.
    NotAll,
}

impl Saved {
    pub fn and(self, other: Saved) -> Saved {
        if self == Saved::All { other } else { self }
    }
}

/// One rule on one lane.
pub(crate) struct Slot {
    rule: Arc<Rule>,
    /// None once the rule is quarantined.
    instance: Option<Instance>,
    books: Arc<Books>,
    last_saved: LastSaved,
    replay_log: ReplayLog,
    /// While a batch is taken apart.
    laid_aside: Option<LaidAside>,
    episodes: Episodes,
    toll: Toll,
    given_up: Vec<Instant>,
    /// When `tick` is due: microseconds since 1970-01-01 UTC.
    pub due_us: Option<i64>,
    /// No tick before this.
    rests_until_us: i64,
    touched: bool,
    account: Account,
    /// A candidate for the next generation, which is given the same.
    shadow: Option<Box<Shadow>>,
    /// While that is made ready to serve.
    lent: Option<Lent>,
}

/// This slot's share of what its rule takes up; gone with it.
struct Account {
    rule: Arc<Rule>,
    memory: Share,
    state: Share,
}

impl Account {
    fn set(&mut self, memory_bytes: usize, state_bytes: usize) {
        self.rule.stats.memory.set(&mut self.memory, memory_bytes as u64);
        self.rule.stats.state.set(&mut self.state, state_bytes as u64);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

impl Slot {
    /// `instance` stands where `last_saved` does.
    pub fn new(instance: Instance, last_saved: LastSaved, books: Arc<Books>, now_us: i64) -> Self {
        let rule = instance.rule().clone();
        let account = Account { rule: rule.clone(), memory: Share::default(), state: Share::default() };
        let mut slot = Self {
            rule,
            instance: Some(instance),
            books,
            last_saved,
            replay_log: ReplayLog::default(),
            laid_aside: None,
            episodes: Episodes::default(),
            toll: Toll::default(),
            given_up: Vec::new(),
            due_us: None,
            rests_until_us: i64::MIN,
            touched: true,
            account,
            shadow: None,
            lent: None,
        };
        slot.due_us = slot.tick_us().map(|every| now_us + every);
        slot.note_size();
        slot
    }

    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Decodes a batch; none if the rule is quarantined.
    pub fn decode(&mut self, now_us: i64, batch: &Messages) -> Option<Result<Decoded, Fault>> {
        let began = self.shadow_clock();
        let outcome = self.instance()?.decode(now_us, batch);
        self.shadow(began, &outcome, |shadow, made, took| shadow.decode(now_us, batch, made, took));
        if outcome.is_ok() && self.is_noted() {
            self.note(now_us, Given::Messages(Arc::new(batch.clone())));
        }
        Some(outcome)
    }

    /// Processes a batch; none if the rule is quarantined. `copy` is one of the batch, if somebody needed one already.
    pub fn process(
        &mut self,
        now_us: i64,
        batch: &Points,
        copy: &mut Option<Arc<Points>>,
    ) -> Option<Result<Processed, Fault>> {
        let began = self.shadow_clock();
        let outcome = self.instance()?.process(now_us, batch);
        self.shadow(began, &outcome, |shadow, made, took| shadow.process(now_us, batch, made, took));
        if outcome.is_ok() && self.is_noted() {
            let copy = copy.get_or_insert_with(|| Arc::new(batch.clone())).clone();
            self.note(now_us, Given::Points(copy));
        }
        Some(outcome)
    }

    /// Lets it act without a message; none if the rule is quarantined.
    pub fn tick(&mut self, now_us: i64) -> Option<Result<Emitted, Fault>> {
        let (began, cpu_began) = (Instant::now(), thread_cpu());
        let outcome = self.instance()?.tick(now_us);
        self.rule.stats.beside(began.elapsed());
        // Time of the processor: a busy node punishes nobody.
        let took = thread_cpu().saturating_sub(cpu_began).as_micros() as i64;
        self.rests_until_us = now_us + took * (1 + REST_AFTER_TICK);
        let began = self.shadow.as_ref().map(|_| began);
        self.shadow(began, &outcome, |shadow, made, took| shadow.tick(now_us, made, took));
        if outcome.is_ok() && self.is_noted() {
            self.note(now_us, Given::Tick);
        }
        Some(outcome)
    }

    /// The instance, unless the rule is quarantined, here or by another lane.
    fn instance(&mut self) -> Option<&mut Instance> {
        if self.instance.is_some() && self.rule.stats.is_quarantined(self.rule.generation) {
            self.rest();
        }
        self.touched = true;
        self.instance.as_mut()
    }

    fn keeps_state(&self) -> bool {
        self.instance.as_ref().is_some_and(Instance::keeps_state)
    }

    /// Whether somebody needs to know what it was given.
    fn is_noted(&self) -> bool {
        self.lent.is_some() || self.keeps_state()
    }

    fn note(&mut self, now_us: i64, given: Given) {
        if let Some(lent) = &mut self.lent {
            lent.miss(now_us, &given);
        }
        if !self.keeps_state() {
            return;
        }
        // One that has a part of the state only is not asked for it: what it was given is less than a batch.
        if self.replay_log.note(now_us, given) && self.laid_aside.is_none() {
            self.save();
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory_bytes)
    }

    fn note_size(&mut self) {
        self.account.set(self.memory_bytes(), self.last_saved.bytes());
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
        self.due_us = self.due_us.map(|due| due.max(self.rests_until_us));
    }

    /// Nobody knows any more when the one whose state this one has wanted to be woken, and no message may come to remind this one of it: it is ticked
    /// soon, to ask again. One that is ticked in any case, by its period, asks then: what it does once a period is not done more often.
    pub fn wake_for_its_state(&mut self, now_us: i64) {
        if self.tick_us().is_none() {
            self.plan(now_us, false, Some(now_us + TICK_SOON_US));
        }
    }

    /// The clock was set back by so much: what was due in a second is due in a second.
    pub fn set_back(&mut self, back_us: i64) {
        self.due_us = self.due_us.map(|due| due.saturating_sub(back_us));
        self.rests_until_us = self.rests_until_us.saturating_sub(back_us);
    }

    /// The instance has failed: counts it, and puts a new one in its place that stands where it stood before the call.
    pub fn replace(&mut self, fault: &Fault) {
        self.rule.stats.fault(fault.kind);
        let rule = &*self.rule.name;
        tracing::debug!(rule, backtrace = fault.backtrace, "{fault}");
        self.instance = None;
        let began = Instant::now();
        let revived = self.revive();
        self.rule.stats.beside(began.elapsed());
        match revived {
            Ok(new) => self.instance = Some(new),
            Err(error) => self.quarantine(&format!("after a fault it could not be started again: {error}")),
        }
    }

    fn revive(&mut self) -> Result<Instance, LoadError> {
        let mut new = self.as_last_saved()?;
        if let Err(fault) = self.replay_log.replay(&mut new) {
            // What went well once fails now: it does not depend on what it is given alone, or is at the edge of a limit.
            self.rule.stats.state_lost.fetch_add(1, Relaxed);
            let (rule, calls) = (&*self.rule.name, self.replay_log.len());
            tracing::warn!(
                rule,
                calls,
                "after a fault the rule failed on what it had taken before: its state is as last saved: {fault}"
            );
            self.replay_log.clear();
            return self.as_last_saved();
        }
        self.rule.stats.replayed.fetch_add(self.replay_log.len() as u64, Relaxed);
        Ok(new)
    }

    fn as_last_saved(&mut self) -> Result<Instance, LoadError> {
        let cells = match &self.laid_aside {
            Some(aside) => &aside.cells,
            None => self.last_saved.whole(),
        };
        instance_at(&self.rule, &self.books, cells)
    }

    /// One row of `partition` was found that it fails on, or several that were not told apart.
    fn episode(&mut self, partition: PartitionId, fault: &Fault) {
        let verdict = self.episodes.enter(partition, Instant::now());
        match verdict {
            Verdict::Noted => {}
            Verdict::Partition => {
                let name = self.books.partition(partition).map_or("", |name| name);
                self.rule.stats.quarantine_partition(self.rule.generation, name, &fault.to_string());
                let (rule, partition) = (&*self.rule.name, name);
                tracing::error!(
                    rule,
                    partition,
                    "the rule is not called for this partition any more, until its module or file changes, or it is enabled again: {fault}"
                );
                if let Some(oldest) = self.episodes.let_one_go() {
                    let partition = self.books.partition(oldest).map_or("", |name| name);
                    self.rule.stats.let_partition_go(self.rule.generation, partition);
                    tracing::warn!(
                        rule,
                        partition,
                        "so many are quarantined that this one, the first of them, is tried again"
                    );
                }
            }
            Verdict::Rule => self.quarantine(&format!("it failed on many partitions, last so: {fault}")),
        }
    }

    /// Whether it is not called for some partition.
    pub fn shuns_any(&self) -> bool {
        self.episodes.any_quarantined()
    }

    /// Whether it is not called for this one.
    pub fn shuns(&self, partition: PartitionId) -> bool {
        self.episodes.is_quarantined(partition)
    }

    /// It failed, and no partition is to blame: beside a batch, or on rows of several that there was no patience to tell apart.
    pub fn gave_up(&mut self, fault: &Fault) {
        let now = Instant::now();
        self.given_up.retain(|then| now.duration_since(*then) < QUARANTINE_WINDOW);
        self.given_up.push(now);
        if self.given_up.len() >= QUARANTINE_AFTER {
            self.quarantine(&format!("it failed again and again, last so: {fault}"));
        }
    }

    fn quarantine(&mut self, reason: &str) {
        self.rest();
        let rule = &*self.rule.name;
        self.rule.stats.quarantine(self.rule.generation, reason);
        tracing::error!(
            rule,
            reason,
            "the rule is quarantined: it is called no more until its module or file changes, or it is enabled again"
        );
    }

    /// Calls it no more. Its state stays, for who comes after it: from an instance that is sound, as it is now.
    fn rest(&mut self) {
        self.put_together();
        let lost = if self.instance.is_some() {
            self.take_over().err().map(|fault| fault.to_string())
        } else {
            (self.replay_log.len() > 0).then(|| "it could not be started again".to_owned())
        };
        if let Some(why) = lost {
            self.rule.stats.state_lost.fetch_add(1, Relaxed);
            tracing::warn!(rule = &*self.rule.name, "the state it leaves is as last saved: {why}");
        }
        self.instance = None;
        self.due_us = None;
        self.replay_log.clear();
        self.note_size();
    }

    /// Takes over what changed in its state since the last time.
    pub fn save(&mut self) -> Saved {
        self.save_for(&mut ReplayLog::default())
    }

    /// The same for who has a moment to let go of what is of no use any more: `spent`.
    fn save_for(&mut self, spent: &mut ReplayLog) -> Saved {
        if !std::mem::take(&mut self.touched) {
            return Saved::All;
        }
        match self.take_over() {
            Ok(log) => *spent = log,
            Err(fault) => {
                tracing::warn!(rule = &*self.rule.name, "its state could not be saved: {fault}");
                self.replace(&fault);
                self.gave_up(&fault);
                // What the new one was given again is not saved either.
                self.touched = self.instance.is_some();
            }
        }
        self.note_size();
        if self.touched { Saved::NotAll } else { Saved::All }
    }

    /// Gives what it was given until now, which is of no use any more.
    fn take_over(&mut self) -> Result<ReplayLog, Fault> {
        let Some(instance) = self.instance.as_mut() else { return Ok(ReplayLog::default()) };
        let began = Instant::now();
        let changed = instance.save(Cells::Changed);
        self.rule.stats.beside(began.elapsed());
        let changed = changed?;
        // Each save is bounded; what a guest gives bit by bit, and has no room for itself, is bounded here.
        let most = instance.most_state_bytes();
        if self.last_saved.would_exceed(&changed, most) {
            return Err(Fault::bad_output(format!(
                "its state has more than {most} bytes, which is more than its memory can hold (`memory_mib` in the `[limits]` of its file)"
            )));
        }
        fail_point!("state-save-within", |_| std::process::abort());
        self.last_saved.take(changed);
        Ok(std::mem::take(&mut self.replay_log))
    }
}
