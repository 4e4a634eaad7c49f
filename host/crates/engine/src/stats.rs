//! What a rule has done, counted once a batch, and how it stands.

mod level;
mod log;
mod row_time;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_model::LabelRoom;

use crate::fault::FaultKind;
use crate::stats::log::LogSecond;
use crate::stats::row_time::RowTime;

pub use level::{Level, Share};
pub(crate) use log::AllowedLines;

/// Counters of one rule, over all lanes and generations.
#[derive(Debug, Default)]
pub struct RuleStats {
    /// Calls with a batch.
    pub batches: AtomicU64,
    /// Rows given to it.
    pub rows_in: AtomicU64,
    /// Points it let go on or made.
    pub rows_out: AtomicU64,
    /// Rows it let fall.
    pub filtered: AtomicU64,
    /// Rows it refused.
    pub rejected: AtomicU64,
    /// Rows it kept for later.
    pub held: AtomicU64,
    /// Alerts it sent (before those that already stand are left out).
    pub alerts: AtomicU64,
    /// Alerts it raised when it had as many standing as a rule may: not published.
    pub alerts_refused: AtomicU64,
    /// Commands it sent that its file permits.
    pub commands: AtomicU64,
    /// Commands it sent that its file does not permit: not published.
    pub commands_refused: AtomicU64,
    /// Time in it: nanoseconds, host and guest side of calls with a batch that went well.
    pub nanos: AtomicU64,
    /// Time that it took the lanes beside: ticks, saving, calls that failed, and getting it ready again after those.
    pub beside_nanos: AtomicU64,
    /// Series it has made.
    pub series_made: AtomicU64,
    /// Those of them beyond the limit of the host, of what is kept for each rule there.
    pub(crate) series_beyond: AtomicU64,
    /// The labels that stand since it told them: bytes.
    pub(crate) labels: Arc<LabelRoom>,
    /// Times it told labels when they took up as much as they may: the series had none.
    pub labels_refused: AtomicU64,
    /// Rows that passed it by since their partition is quarantined, or the rule is.
    pub bypassed: AtomicU64,
    /// Rows that went to the dead letters since their partition is quarantined.
    pub parked: AtomicU64,
    /// Partitions it is called for again since too many others are quarantined.
    pub partitions_let_go: AtomicU64,
    /// Letters of parked rows that were put back, since it is called for their partition again.
    pub unparked: AtomicU64,
    /// Batches given again after faults, so that its state is exact.
    pub replayed: AtomicU64,
    /// Cells of state that instances were given after faults.
    pub cells_restored: AtomicU64,
    /// Faults after which its state was only as new as its last save.
    pub state_lost: AtomicU64,
    /// Times it began without state since it refused what was there (`discard_state`).
    pub state_discarded: AtomicU64,
    /// Linear memory of its instances: bytes.
    pub memory: Level,
    /// State as last saved: bytes.
    pub state: Level,
    row_time: RowTime,
    log: Mutex<LogSecond>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    faults: [AtomicU64; FaultKind::ALL.len()],
    counts: Mutex<Known<u64>>,
    gauges: Mutex<Known<f64>>,
    /// The newest generation that is called no more; 0 if there was none.
    quarantined: AtomicU64,
    quarantine: Mutex<Quarantine>,
    bell: OnceLock<Bell>,
}

/// What a rule counts or measures itself. Names are counted references: lanes do not wait for who copies them.
type Known<T> = BTreeMap<Arc<str>, T>;

/// What is quarantined, and why.
#[derive(Debug, Default)]
struct Quarantine {
    /// What is said of generations before this one is not listened to: they serve no more, if not on all lanes yet.
    since: u64,
    /// The generation, with the reason.
    rule: Option<(u64, String)>,
    /// Partitions by name, with the generation that is not called for them and the reason.
    partitions: BTreeMap<String, (u64, String)>,
}

/// Rung when a generation is quarantined.
struct Bell(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// Partitions named in the status; more are only counted.
const MAX_NAMED: usize = 20;

/// A reading of [`RuleStats`].
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "as in RuleStats")]
pub struct RuleTotals {
    pub batches: u64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub filtered: u64,
    pub rejected: u64,
    pub held: u64,
    pub alerts: u64,
    pub alerts_refused: u64,
    pub commands: u64,
    pub commands_refused: u64,
    #[schemars(with = "Option<f64>")]
    pub ns_per_row: f64,
    pub nanos: u64,
    pub beside_nanos: u64,
    /// Half of all rows took less than this: nanoseconds.
    pub ns_per_row_p50: Option<f64>,
    /// 99 of 100 rows took less than this: nanoseconds.
    pub ns_per_row_p99: Option<f64>,
    pub series_made: u64,
    /// The labels of series that stand since it told them: bytes of the host's memory.
    pub label_bytes: u64,
    /// Times it told labels when there was no room left for them: the series had none.
    pub labels_refused: u64,
    pub bypassed: u64,
    pub parked: u64,
    pub unparked: u64,
    /// Partitions it was called for again since too many others were quarantined.
    pub partitions_let_go: u64,
    pub replayed: u64,
    pub cells_restored: u64,
    pub state_lost: u64,
    pub state_discarded: u64,
    /// Linear memory of its instances: bytes.
    pub memory_bytes: u64,
    /// The most there was at once: bytes.
    pub memory_peak_bytes: u64,
    /// State as last saved: bytes.
    pub state_bytes: u64,
    /// Log lines left out.
    pub log_lines_dropped: u64,
    /// For how many partitions it is not called.
    pub partitions_quarantined: usize,
    /// Those partitions with the reason; the first twenty by name.
    pub quarantined_partitions: BTreeMap<String, String>,
    /// Files that were refused, by [`crate::LoadError::code`].
    pub refusals: BTreeMap<&'static str, u64>,
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What the rule counts itself.
    pub counts: BTreeMap<String, u64>,
    /// What the rule measures itself.
    #[schemars(with = "BTreeMap<String, Option<f64>>")]
    pub gauges: BTreeMap<String, f64>,
}

impl RuleStats {
    /// Counts a fault.
    pub fn fault(&self, kind: FaultKind) {
        self.faults[kind as usize].fetch_add(1, Relaxed);
    }

    /// Counts a batch that went well.
    pub(crate) fn batch(&self, rows: usize, rejected: usize, held: usize, took: Duration) {
        let (rows, nanos) = (rows as u64, took.as_nanos() as u64);
        self.batches.fetch_add(1, Relaxed);
        self.rows_in.fetch_add(rows, Relaxed);
        if rejected > 0 {
            self.rejected.fetch_add(rejected as u64, Relaxed);
        }
        if held > 0 {
            self.held.fetch_add(held as u64, Relaxed);
        }
        self.nanos.fetch_add(nanos, Relaxed);
        self.row_time.record(nanos, rows);
    }

    /// Counts what it took a lane beside batches that went well.
    pub fn beside(&self, took: Duration) {
        self.beside_nanos.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    /// Counts a file that was refused.
    pub fn refused(&self, code: &'static str) {
        *lock(&self.refusals).entry(code).or_default() += 1;
    }

    /// Generation `generation` is called no more, on any lane. `reason` is for people.
    pub fn quarantine(&self, generation: u64, reason: &str) {
        let mut quarantine = lock(&self.quarantine);
        let newest = quarantine.rule.as_ref().map_or(quarantine.since, |(newest, _)| *newest);
        if generation >= newest {
            quarantine.rule = Some((generation, reason.to_owned()));
        }
        drop(quarantine);
        self.quarantined.fetch_max(generation, Release);
        if let Some(Bell(ring)) = self.bell.get() {
            ring();
        }
    }

    /// Whether that generation is called no more.
    pub fn is_quarantined(&self, generation: u64) -> bool {
        self.quarantined.load(Acquire) == generation
    }

    /// Generation `generation` is not called for the rows of `partition`.
    pub fn quarantine_partition(&self, generation: u64, partition: &str, reason: &str) {
        let mut quarantine = lock(&self.quarantine);
        if generation >= quarantine.since {
            quarantine.partitions.insert(partition.to_owned(), (generation, reason.to_owned()));
        }
    }

    /// Generation `generation` is called for the rows of `partition` again: others take up the room there is for such.
    pub fn let_partition_go(&self, generation: u64, partition: &str) {
        self.partitions_let_go.fetch_add(1, Relaxed);
        let mut quarantine = lock(&self.quarantine);
        if quarantine.partitions.get(partition).is_some_and(|(of, _)| *of == generation) {
            quarantine.partitions.remove(partition);
        }
    }

    /// Generation `serving` serves: what stands against those before it is over, and what is yet said of them is not listened to.
    pub fn release(&self, serving: u64) {
        let mut quarantine = lock(&self.quarantine);
        quarantine.since = quarantine.since.max(serving);
        quarantine.rule.take_if(|(generation, _)| *generation < serving);
        quarantine.partitions.retain(|_, (generation, _)| *generation >= serving);
    }

    /// Why the rule is called no more, if it is not.
    pub fn quarantined(&self) -> Option<String> {
        lock(&self.quarantine).rule.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Whether it is not called for this one.
    pub fn shuns(&self, partition: &str) -> bool {
        lock(&self.quarantine).partitions.contains_key(partition)
    }

    /// For how many partitions it is not called.
    pub fn quarantined_partitions(&self) -> usize {
        lock(&self.quarantine).partitions.len()
    }

    /// What is to happen when a generation is quarantined; only the first to say so is heard.
    pub(crate) fn on_quarantine(&self, ring: impl Fn() + Send + Sync + 'static) {
        // Set once for each rule, when it is first met.
        let _ = self.bell.set(Bell(Box::new(ring)));
    }

    /// How many of `wanted` log lines may be written, when `most` are in a second.
    pub(crate) fn log_lines(&self, wanted: u64, most: u64) -> AllowedLines {
        if wanted == 0 {
            return AllowedLines::default();
        }
        lock(&self.log).take(Instant::now(), wanted, most)
    }

    /// Takes over what the guest counted. Names past the limit are left out: a rule must not fill the metrics.
    pub(crate) fn take_counts(&self, counts: Vec<(String, u64)>, gauges: Vec<(String, f64)>, most: usize) {
        if !counts.is_empty() {
            let mut known = lock(&self.counts);
            for (name, by) in counts {
                if let Some(count) = slot(&mut known, &name, most) {
                    *count = count.saturating_add(by);
                }
            }
        }
        if !gauges.is_empty() {
            let mut known = lock(&self.gauges);
            for (name, value) in gauges {
                if let Some(gauge) = slot(&mut known, &name, most) {
                    *gauge = value;
                }
            }
        }
    }

    fn partition_reasons(&self) -> BTreeMap<String, String> {
        let quarantine = lock(&self.quarantine);
        let named = quarantine.partitions.iter().take(MAX_NAMED);
        named.map(|(name, (_, reason))| (name.clone(), reason.clone())).collect()
    }

    /// A reading.
    pub fn totals(&self) -> RuleTotals {
        let (nanos, rows_in) = (self.nanos.load(Relaxed), self.rows_in.load(Relaxed));
        RuleTotals {
            batches: self.batches.load(Relaxed),
            rows_in,
            rows_out: self.rows_out.load(Relaxed),
            filtered: self.filtered.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            held: self.held.load(Relaxed),
            alerts: self.alerts.load(Relaxed),
            alerts_refused: self.alerts_refused.load(Relaxed),
            commands: self.commands.load(Relaxed),
            commands_refused: self.commands_refused.load(Relaxed),
            ns_per_row: if rows_in == 0 { 0.0 } else { nanos as f64 / rows_in as f64 },
            nanos,
            beside_nanos: self.beside_nanos.load(Relaxed),
            ns_per_row_p50: self.row_time.quantile(0.5),
            ns_per_row_p99: self.row_time.quantile(0.99),
            series_made: self.series_made.load(Relaxed),
            label_bytes: self.labels.now() as u64,
            labels_refused: self.labels_refused.load(Relaxed),
            bypassed: self.bypassed.load(Relaxed),
            parked: self.parked.load(Relaxed),
            unparked: self.unparked.load(Relaxed),
            partitions_let_go: self.partitions_let_go.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            cells_restored: self.cells_restored.load(Relaxed),
            state_lost: self.state_lost.load(Relaxed),
            state_discarded: self.state_discarded.load(Relaxed),
            memory_bytes: self.memory.now(),
            memory_peak_bytes: self.memory.peak(),
            state_bytes: self.state.now(),
            log_lines_dropped: lock(&self.log).dropped,
            partitions_quarantined: self.quarantined_partitions(),
            quarantined_partitions: self.partition_reasons(),
            refusals: lock(&self.refusals).clone(),
            faults: FaultKind::ALL.iter().map(|&k| (k.as_str(), self.faults[k as usize].load(Relaxed))).collect(),
            counts: read(&self.counts),
            gauges: read(&self.gauges),
        }
    }
}

/// Whether a rule may count under this name.
pub(crate) fn is_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn slot<'a, T: Default>(known: &'a mut Known<T>, name: &str, most: usize) -> Option<&'a mut T> {
    if !known.contains_key(name) {
        if !is_metric_name(name) || known.len() >= most {
            return None;
        }
        known.insert(name.into(), T::default());
    }
    known.get_mut(name)
}

/// A copy, of which nothing is made while a lane may wait.
fn read<T: Copy>(known: &Mutex<Known<T>>) -> BTreeMap<String, T> {
    let room = lock(known).len();
    let mut copy: Vec<(Arc<str>, T)> = Vec::with_capacity(room);
    // Those that have come since are in the next reading.
    copy.extend(lock(known).iter().take(room).map(|(name, value)| (name.clone(), *value)));
    copy.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
