//! A shadow: a candidate for a rule's next generation that is given, on each lane, what the serving one is given, and whose outcomes are
//! compared with the serving one's. Nothing else comes of it: no alert, command, count or log line leaves it, units and labels it tells are
//! not taken, and the series it makes are few and counted apart.
//!
//! It takes a share of its lane's time and no more: when it has used that up, batches pass it by until it has earned some again, and they
//! are counted. Its faults are its own. After a few it is stopped; the rule that serves never notices.

mod compare;
mod findings;
mod report;
mod standing;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidegate_model::{Alert, Books, Messages, Points, SavedState, StateBook};

use crate::calls::{Decoded, Emitted, Processed, RawAlert};
use crate::context::thread_cpu;
use crate::fault::Fault;
use crate::instance::{Cells, Instance, Voice};
use crate::load_error::LoadError;
use crate::rule::{Limits, Rule};
use crate::shadow::compare::{Outcomes, alerts_apart};
use crate::shadow::standing::{NoRoom, Standing};
use crate::stats::{RuleStats, Share};

pub use findings::{AlertDifference, PointMade, RowDifference, RowMade, ShadowState, ShadowTotals};
pub use report::ShadowReport;
pub use standing::Believed;

/// Series that a shadow may make on a lane: enough to see what they would be, and nothing to fill the host's book with.
const MAX_SERIES: u64 = 1_000;
/// What a shadow that was not called for long may have saved up, of its share of a second: its worst call is known only afterwards.
const SAVED_UP: Duration = Duration::from_secs(1);

/// A candidate on one lane.
pub struct Shadow {
    rule: Arc<Rule>,
    /// None once it is stopped.
    instance: Option<Instance>,
    /// How often it has begun anew.
    lives: u32,
    books: Arc<Books>,
    report: Arc<ShadowReport>,
    allowance: Allowance,
    memory: Share,
    standing: Standing,
}

impl Shadow {
    /// The candidate `rule` on a lane, for the report it shares with those on other lanes.
    ///
    /// # Errors
    /// It cannot be made ready.
    pub fn new(rule: &Arc<Rule>, books: &Arc<Books>, report: &Arc<ShadowReport>) -> Result<Self, LoadError> {
        let mut shadow = Self {
            rule: rule.clone(),
            instance: None,
            lives: 0,
            books: books.clone(),
            report: report.clone(),
            allowance: Allowance::new(report.share(), Instant::now()),
            memory: Share::default(),
            standing: Standing::new(rule.limits.memory_bytes),
        };
        shadow.instance = Some(shadow.made()?);
        report.lanes.fetch_add(1, Relaxed);
        Ok(shadow)
    }

    fn made(&self) -> Result<Instance, LoadError> {
        // What it counts, and how many series it makes, is no word on the rule that serves.
        let limits = Limits { series: self.rule.limits.series.min(MAX_SERIES), ..self.rule.limits };
        let apart = Rule { stats: Arc::new(RuleStats::default()), limits, ..self.rule.next_generation(0) };
        Instance::new(Arc::new(apart), self.books.clone(), Voice::Withheld)
    }

    /// The number of the candidate.
    pub fn generation(&self) -> u64 {
        self.rule.generation
    }

    /// Takes over state that the serving one, of `version`, saved: all of it at first, then what has changed since.
    ///
    /// # Errors
    /// It refuses the state, or fails.
    pub fn restore(&mut self, version: &str, state: &StateBook) -> Result<(), LoadError> {
        self.instance.as_mut().map_or(Ok(()), |instance| instance.restore(version, state))
    }

    /// The state that it has built, or what changed of it; none if it is stopped or fails, which is its own affair.
    pub fn save(&mut self, cells: Cells) -> Option<SavedState> {
        let saved = self.instance.as_mut()?.save(cells);
        saved.map_err(|fault| self.faulted(&fault)).ok()
    }

    /// How often it has begun anew, without state.
    pub fn lives(&self) -> u32 {
        self.lives
    }

    /// Where it tells what it finds.
    pub fn report(&self) -> &Arc<ShadowReport> {
        &self.report
    }

    /// `own` alerts stand by the state that it has been given; of `nobodys` it is not known whether they do.
    ///
    /// # Errors
    /// They take up more than its rule may.
    pub fn stand(&mut self, own: Vec<Alert>, nobodys: Vec<Alert>) -> Result<(), LoadError> {
        self.standing.copy(own, nobodys).map_err(|NoRoom| LoadError::Unsupported(self.too_many_alerts()))
    }

    fn too_many_alerts(&self) -> String {
        format!(
            "on one lane more alerts stand by its state than a shadow may have: 100,000, with texts of {} MiB (`memory_mib` in its file)",
            self.rule.limits.memory_bytes >> 20
        )
    }

    /// The serving decoder has made `serving` of `batch`, in the time `took`.
    pub fn decode(&mut self, now_us: i64, batch: &Messages, serving: &Decoded, took: Duration) {
        self.call(batch.len(), took, |instance, report, books| {
            let began = Instant::now();
            let made = instance.decode(now_us, batch)?;
            report.candidate_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            let names = |row: u32| {
                let topic = batch.topic.get(row as usize).map(|topic| books.topic_name(*topic));
                (topic.unwrap_or_default().to_owned(), batch.received_us.get(row as usize).copied().unwrap_or(0))
            };
            let (ours, theirs) = (Outcomes::of_decoded(serving), Outcomes::of_decoded(&made));
            report.rows_apart(&ours, &theirs, batch.len(), books, names);
            report.rejected(serving.rejects.row.len(), made.rejects.row.len());
            report.commands(serving.commands.len(), made.commands.len());
            Ok(Vec::new())
        });
    }

    /// The serving processor has made `serving` of `batch`, in the time `took`.
    pub fn process(&mut self, now_us: i64, batch: &Points, serving: &Processed, took: Duration) {
        self.call(batch.len(), took, |instance, report, books| {
            let began = Instant::now();
            let made = instance.process(now_us, batch)?;
            report.candidate_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            let names = |row: u32| {
                let series = batch.series.get(row as usize).map(|series| books.series_topic(*series));
                (series.unwrap_or_default().to_owned(), batch.time_us.get(row as usize).copied().unwrap_or(0))
            };
            if !compare::plainly_same(serving, &made) {
                let (ours, theirs) = (Outcomes::of_processed(batch, serving), Outcomes::of_processed(batch, &made));
                report.rows_apart(&ours, &theirs, batch.len(), books, names);
            }
            alerts(report, books, &serving.alerts, &made.alerts);
            report.rejected(serving.rejects.row.len(), made.rejects.row.len());
            report.commands(serving.commands.len(), made.commands.len());
            Ok(made.alerts)
        });
    }

    /// The serving one has made `serving` of a tick.
    pub fn tick(&mut self, now_us: i64, serving: &Emitted, took: Duration) {
        self.call(0, took, |instance, report, books| {
            let began = Instant::now();
            let made = instance.tick(now_us)?;
            report.candidate_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            report.generated(serving.points.len(), made.points.len());
            alerts(report, books, &serving.alerts, &made.alerts);
            report.commands(serving.commands.len(), made.commands.len());
            Ok(made.alerts)
        });
    }

    /// Calls the instance, if there is time for it, with what gives the alerts it would send.
    fn call(
        &mut self,
        rows: usize,
        took: Duration,
        call: impl FnOnce(&mut Instance, &ShadowReport, &Books) -> Result<Vec<RawAlert>, Fault>,
    ) {
        let (began, cpu_began) = (Instant::now(), thread_cpu());
        if self.report.has_ended() {
            self.instance = None;
            self.standing.forget();
        }
        let Some(instance) = self.instance.as_mut() else { return };
        if !self.allowance.may_spend(began) {
            self.report.skipped(rows);
            return;
        }
        self.report.called(rows, took);
        let made = call(instance, &self.report, &self.books);
        self.made_of(made);
        let memory = self.instance.as_ref().map_or(0, Instance::memory_bytes) + self.standing.bytes();
        self.report.memory.set(&mut self.memory, memory as u64);
        // Of the processor: what the lane waits for it besides is the machine's, and must not keep rows from the shadow.
        let spent = thread_cpu().saturating_sub(cpu_began);
        self.allowance.spend(spent);
        self.report.spent_nanos.fetch_add(spent.as_nanos() as u64, Relaxed);
    }

    /// The serving one was given this while this one was not there, whose turn it is now: what it makes of it is compared with nothing.
    pub fn catch_up(&mut self, call: impl FnOnce(&mut Instance) -> Result<Vec<RawAlert>, Fault>) {
        let Some(instance) = self.instance.as_mut() else { return };
        let made = call(instance);
        self.made_of(made);
    }

    /// What has come of a call: the alerts that it would send.
    fn made_of(&mut self, made: Result<Vec<RawAlert>, Fault>) {
        match made {
            Ok(said) => {
                let mut alerts = said.into_iter().filter_map(|raw| raw.of(&self.rule.name, &self.books));
                if alerts.try_for_each(|alert| self.standing.note(alert)) == Err(NoRoom) {
                    // Served with this state, it would believe of alerts that they stand which nobody has raised.
                    self.report.end(ShadowState::Stopped, &self.too_many_alerts());
                    self.instance = None;
                    self.standing.forget();
                }
            }
            Err(fault) => self.faulted(&fault),
        }
    }

    /// A fault is the shadow's own affair: it begins anew, without state, or is stopped.
    fn faulted(&mut self, fault: &Fault) {
        self.instance = None;
        self.lives += 1;
        self.standing.forget();
        if self.report.faulted(fault) {
            return;
        }
        match self.made() {
            Ok(new) => self.instance = Some(new),
            Err(error) => self
                .report
                .end(ShadowState::Stopped, &format!("after a fault it could not be started again: {error}")),
        }
    }

    /// The instance, with the state that it has built, as one of the generation that serves from now on, and the alerts that stand by that
    /// state; none if it was stopped.
    pub fn into_serving(mut self) -> Option<(Instance, Believed)> {
        let mut instance = self.instance.take()?;
        instance.serve_as(self.rule.clone());
        let standing = std::mem::replace(&mut self.standing, Standing::new(0));
        Some((instance, standing.into_believed()))
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.report.memory.set(&mut self.memory, 0);
        self.report.lanes.fetch_sub(1, Relaxed);
    }
}

fn alerts(report: &ShadowReport, books: &Books, serving: &[RawAlert], candidate: &[RawAlert]) {
    if serving.is_empty() && candidate.is_empty() {
        return;
    }
    let (ours, theirs) = alerts_apart(serving, candidate);
    report.alerts_apart(books, &ours, &theirs);
}

/// Time to spend: a share of the time that passes.
struct Allowance {
    share: f64,
    seconds: f64,
    counted: Instant,
}

impl Allowance {
    fn new(share: f64, now: Instant) -> Self {
        Self { share, seconds: share * SAVED_UP.as_secs_f64(), counted: now }
    }

    /// Whether there is time for a call. How long it takes is known only afterwards: it is paid off then before the next.
    fn may_spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.seconds = (self.seconds + passed * self.share).min(self.share * SAVED_UP.as_secs_f64());
        self.seconds > 0.0
    }

    fn spend(&mut self, spent: Duration) {
        self.seconds -= spent.as_secs_f64();
    }
}

#[cfg(test)]
mod tests;
