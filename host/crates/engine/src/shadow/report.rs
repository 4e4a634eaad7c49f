//! What a shadow did otherwise than the rule that serves, over all lanes: counts, and a bounded sample.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_model::{Books, NO_ROW};

use crate::calls::RawAlert;
use crate::fault::Fault;
use crate::shadow::compare::{Fate, Outcomes, rows_apart};
use crate::shadow::findings::{AlertDifference, PointMade, RowDifference, RowMade, ShadowState, ShadowTotals};
use crate::stats::Level;
use crate::words::cut;

/// The newest differences that are shown, of rows and of alerts.
const MAX_SHOWN: usize = 100;
/// Of what one row became, so many points are shown.
const MAX_POINTS_A_ROW: usize = 4;
/// The most bytes shown of a text that a guest gave.
const MAX_TEXT_BYTES: usize = 200;
/// After so many faults a shadow is stopped.
const MAX_FAULTS: u64 = 5;

/// What a shadow did; shared by its lanes.
#[derive(Debug)]
pub struct ShadowReport {
    share: f64,
    /// Lanes on which it is.
    pub(crate) lanes: AtomicUsize,
    pub(crate) candidate_nanos: AtomicU64,
    pub(crate) spent_nanos: AtomicU64,
    pub(crate) memory: Level,
    serving_nanos: AtomicU64,
    batches: AtomicU64,
    rows: AtomicU64,
    skipped_batches: AtomicU64,
    skipped_rows: AtomicU64,
    rows_changed: AtomicU64,
    rejected: Both,
    alerts_only: Both,
    commands: Both,
    generated: Both,
    faults: AtomicU64,
    ended: AtomicBool,
    words: Mutex<Words>,
}

/// Of the serving one and of the candidate.
#[derive(Debug, Default)]
struct Both([AtomicU64; 2]);

#[derive(Debug, Default)]
struct Words {
    state: ShadowState,
    reason: Option<String>,
    last_fault: Option<String>,
    /// Counted references: a lane does not wait for who copies them.
    rows: VecDeque<Arc<RowDifference>>,
    alerts: VecDeque<Arc<AlertDifference>>,
}

impl ShadowReport {
    /// For a shadow that may take up so many percent of each lane's time.
    pub fn new(max_share_percent: u32) -> Self {
        Self {
            share: f64::from(max_share_percent.clamp(1, 100)) / 100.0,
            lanes: AtomicUsize::new(0),
            candidate_nanos: AtomicU64::new(0),
            spent_nanos: AtomicU64::new(0),
            memory: Level::default(),
            serving_nanos: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            skipped_batches: AtomicU64::new(0),
            skipped_rows: AtomicU64::new(0),
            rows_changed: AtomicU64::new(0),
            rejected: Both::default(),
            alerts_only: Both::default(),
            commands: Both::default(),
            generated: Both::default(),
            faults: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            words: Mutex::default(),
        }
    }

    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// On how many lanes it is.
    pub fn lanes(&self) -> usize {
        self.lanes.load(Relaxed)
    }

    /// Whether it is called no more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// It is called no more; what was said of it first stands.
    pub fn end(&self, state: ShadowState, reason: &str) {
        if !self.ended.swap(true, Relaxed) {
            let mut words = self.words();
            words.state = state;
            words.reason = Some(shortened(reason, 1_000));
        }
    }

    pub(super) fn called(&self, rows: usize, serving: Duration) {
        self.batches.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.serving_nanos.fetch_add(serving.as_nanos() as u64, Relaxed);
    }

    /// A call with so many rows passed it by.
    pub fn skipped(&self, rows: usize) {
        self.skipped_batches.fetch_add(1, Relaxed);
        self.skipped_rows.fetch_add(rows as u64, Relaxed);
    }

    /// Gives whether it was one too many.
    pub(super) fn faulted(&self, fault: &Fault) -> bool {
        let faults = self.faults.fetch_add(1, Relaxed) + 1;
        self.words().last_fault = Some(fault.to_string());
        if faults >= MAX_FAULTS {
            self.end(ShadowState::Stopped, &format!("it failed {faults} times, last so: {fault}"));
        }
        faults >= MAX_FAULTS
    }

    pub(super) fn rejected(&self, serving: usize, candidate: usize) {
        self.rejected.add(serving, candidate);
    }

    pub(super) fn commands(&self, serving: usize, candidate: usize) {
        self.commands.add(serving, candidate);
    }

    pub(super) fn generated(&self, serving: usize, candidate: usize) {
        self.generated.add(serving, candidate);
    }

    /// `name` gives topic and time of a row.
    pub(super) fn rows_apart(
        &self,
        serving: &Outcomes<'_>,
        candidate: &Outcomes<'_>,
        rows: usize,
        books: &Books,
        name: impl Fn(u32) -> (String, i64),
    ) {
        let apart = rows_apart(serving, candidate, rows);
        if apart.is_empty() {
            return;
        }
        self.rows_changed.fetch_add(apart.len() as u64, Relaxed);
        let shown = apart.into_iter().take(MAX_SHOWN).map(|row| {
            let (topic, time_us) = if row == NO_ROW { Default::default() } else { name(row) };
            RowDifference {
                topic,
                time_us,
                serving: made(serving, row, books),
                candidate: made(candidate, row, books),
            }
        });
        let shown: Vec<Arc<RowDifference>> = shown.map(Arc::new).collect();
        let mut words = self.words();
        words.rows.extend(shown);
        let beyond = words.rows.len().saturating_sub(MAX_SHOWN);
        words.rows.drain(..beyond);
    }

    pub(super) fn alerts_apart(&self, books: &Books, serving: &[&RawAlert], candidate: &[&RawAlert]) {
        if serving.is_empty() && candidate.is_empty() {
            return;
        }
        self.alerts_only.add(serving.len(), candidate.len());
        let of = |only: &'static str, alerts: &[&RawAlert]| -> Vec<Arc<AlertDifference>> {
            let each = |alert: &&RawAlert| AlertDifference {
                only,
                topic: books.series_topic(alert.series).to_owned(),
                key: alert.key.to_string(),
                transition: alert.transition.as_str(),
                severity: alert.severity.as_str(),
                time_us: alert.time_us,
                value: Some(alert.value).filter(|value| value.is_finite()),
                message: shortened(&alert.message, MAX_TEXT_BYTES),
            };
            alerts.iter().take(MAX_SHOWN / 2).map(each).map(Arc::new).collect()
        };
        let (ours, theirs) = (of("serving", serving), of("candidate", candidate));
        let mut words = self.words();
        words.alerts.extend(ours.into_iter().chain(theirs));
        let beyond = words.alerts.len().saturating_sub(MAX_SHOWN);
        words.alerts.drain(..beyond);
    }

    /// A reading.
    pub fn totals(&self) -> ShadowTotals {
        let (mut row_differences, mut alert_differences) =
            (Vec::with_capacity(MAX_SHOWN), Vec::with_capacity(MAX_SHOWN));
        let words = self.words();
        row_differences.extend(words.rows.iter().cloned());
        alert_differences.extend(words.alerts.iter().cloned());
        let (state, reason, last_fault) = (words.state, words.reason.clone(), words.last_fault.clone());
        drop(words);
        let rows = self.rows.load(Relaxed);
        let a_row = |nanos: &AtomicU64| if rows == 0 { 0.0 } else { nanos.load(Relaxed) as f64 / rows as f64 };
        let [rejected_serving, rejected_candidate] = self.rejected.read();
        let [alerts_only_serving, alerts_only_candidate] = self.alerts_only.read();
        let [commands_serving, commands_candidate] = self.commands.read();
        let [generated_serving, generated_candidate] = self.generated.read();
        ShadowTotals {
            state,
            reason,
            batches: self.batches.load(Relaxed),
            rows,
            skipped_batches: self.skipped_batches.load(Relaxed),
            skipped_rows: self.skipped_rows.load(Relaxed),
            rows_changed: self.rows_changed.load(Relaxed),
            rejected_serving,
            rejected_candidate,
            alerts_only_serving,
            alerts_only_candidate,
            commands_serving,
            commands_candidate,
            generated_serving,
            generated_candidate,
            ns_per_row_serving: a_row(&self.serving_nanos),
            ns_per_row_candidate: a_row(&self.candidate_nanos),
            cost_nanos: self.spent_nanos.load(Relaxed),
            max_share_percent: self.share * 100.0,
            memory_bytes: self.memory.now(),
            faults: self.faults.load(Relaxed),
            last_fault,
            row_differences: row_differences.iter().map(|it| RowDifference::clone(it)).collect(),
            alert_differences: alert_differences.iter().map(|it| AlertDifference::clone(it)).collect(),
        }
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Both {
    fn add(&self, serving: usize, candidate: usize) {
        for (count, more) in self.0.iter().zip([serving, candidate]) {
            count.fetch_add(more as u64, Relaxed);
        }
    }

    fn read(&self) -> [u64; 2] {
        self.0.each_ref().map(|count| count.load(Relaxed))
    }
}

/// What became of a row, for people.
fn made(outcomes: &Outcomes<'_>, row: u32, books: &Books) -> RowMade {
    let (outcome, reason) = match outcomes.fate(row) {
        Fate::Rejected(reason) => ("rejected", Some(shortened(reason, MAX_TEXT_BYTES))),
        Fate::Held => ("held", None),
        Fate::Filtered => ("filtered", None),
        Fate::Passed => ("passed", None),
    };
    let points = &outcomes.points;
    let point = |&at: &u32| {
        let i = at as usize;
        PointMade {
            topic: books.series_topic(points.series[i]).to_owned(),
            time_us: points.time_us[i],
            value: Some(points.value[i]).filter(|value| value.is_finite()),
            text: points.texts.get(at).map(|text| shortened(&String::from_utf8_lossy(text), MAX_TEXT_BYTES)),
            quality: points.quality[i],
        }
    };
    RowMade { outcome, reason, points: outcomes.of_row(row).iter().take(MAX_POINTS_A_ROW).map(point).collect() }
}

fn shortened(text: &str, most: usize) -> String {
    let mut text = text.to_owned();
    cut(&mut text, most);
    text
}
