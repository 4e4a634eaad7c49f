//! What a rule has done, counted once a batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::fault::FaultKind;

/// Names a rule may count or gauge under.
const MAX_NAMES: usize = 64;

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
    /// Commands it sent that its file permits.
    pub commands: AtomicU64,
    /// Commands it sent that its file does not permit: not published.
    pub commands_refused: AtomicU64,
    /// Time in it: nanoseconds, host and guest side of the call.
    pub nanos: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
    counts: Mutex<BTreeMap<String, u64>>,
    gauges: Mutex<BTreeMap<String, f64>>,
    quarantine: Mutex<Option<String>>,
}

/// A reading of [`RuleStats`].
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "as in RuleStats")]
pub struct RuleTotals {
    pub batches: u64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub filtered: u64,
    pub rejected: u64,
    pub held: u64,
    pub alerts: u64,
    pub commands: u64,
    pub commands_refused: u64,
    pub ns_per_row: f64,
    pub nanos: u64,
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What the rule counts itself.
    pub counts: BTreeMap<String, u64>,
    /// What the rule measures itself.
    pub gauges: BTreeMap<String, f64>,
}

impl RuleStats {
    /// Counts a fault.
    pub fn fault(&self, kind: FaultKind) {
        self.faults[kind as usize].fetch_add(1, Relaxed);
    }

    /// Notes that a lane calls the rule no more, and why.
    pub fn quarantine(&self, reason: &str) {
        *self.quarantine.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// A new generation serves: what stood against the last one is over.
    pub fn release(&self) {
        *self.quarantine.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the rule is called no more, if it is not.
    pub fn quarantined(&self) -> Option<String> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what the guest counted. Names past the limit are left out: a rule must not fill the metrics.
    pub(crate) fn take_counts(&self, counts: Vec<(String, u64)>, gauges: Vec<(String, f64)>) {
        if !counts.is_empty() {
            let mut known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, by) in counts {
                if let Some(count) = slot(&mut known, name) {
                    *count = count.saturating_add(by);
                }
            }
        }
        if !gauges.is_empty() {
            let mut known = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in gauges {
                if let Some(gauge) = slot(&mut known, name) {
                    *gauge = value;
                }
            }
        }
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
            commands: self.commands.load(Relaxed),
            commands_refused: self.commands_refused.load(Relaxed),
            ns_per_row: if rows_in == 0 { 0.0 } else { nanos as f64 / rows_in as f64 },
            nanos,
            faults: FaultKind::ALL.iter().map(|&k| (k.as_str(), self.faults[k as usize].load(Relaxed))).collect(),
            counts: self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            gauges: self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn slot<T: Default>(known: &mut BTreeMap<String, T>, name: String) -> Option<&mut T> {
    let sound = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if sound && (known.len() < MAX_NAMES || known.contains_key(&name)) {
        Some(known.entry(name).or_default())
    } else {
        None
    }
}
