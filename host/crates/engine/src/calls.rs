//! What calls return, in this process's ids. What a guest has returned is checked against the contract first ([`check`]).

mod check;

use std::sync::Arc;

use tidegate_model::{Alert, Books, Points, SeriesId, Severity, Transition};

pub use crate::bindings::telemetry::Command as RawCommand;
pub(crate) use crate::calls::check::Checker;
use crate::ids::IdMap;

/// What a decoder made of a batch.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Points.
    pub points: Points,
    /// The message each came from: ascending.
    pub from_row: Vec<u32>,
    /// Messages it refused.
    pub rejects: Rejects,
    /// Messages it keeps: ascending.
    pub held: Vec<u32>,
    /// Messages it wants published.
    pub commands: Vec<RawCommand>,
    /// When it wants `tick`: microseconds since 1970-01-01 UTC.
    pub wake_us: Option<i64>,
}

/// What a processor made of a batch.
#[derive(Debug)]
pub struct Processed {
    /// What becomes of the rows.
    pub passage: Passage,
    /// Alerts.
    pub alerts: Vec<RawAlert>,
    /// Rows it refused: they leave the batch.
    pub rejects: Rejects,
    /// Rows it keeps: ascending.
    pub held: Vec<u32>,
    /// Messages it wants published.
    pub commands: Vec<RawCommand>,
    /// When it wants `tick`: microseconds since 1970-01-01 UTC.
    pub wake_us: Option<i64>,
}

/// What becomes of a batch of points.
#[derive(Debug, PartialEq)]
pub enum Passage {
    /// All rows go on as they are, but those rejected or held.
    Unchanged,
    /// These rows go on: ascending.
    Keep(Vec<u32>),
    /// All rows go on with these values, but those rejected or held.
    Values(Vec<f64>),
    /// These go on instead, each with the row it came from.
    Replaced(Points, Vec<u32>),
    /// The batch goes on, and these with it.
    Added(Points, Vec<u32>),
}

/// Rows refused, with reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    /// Ascending.
    pub row: Vec<u32>,
    /// Index into `reasons`.
    pub reason: Vec<u32>,
    /// The distinct reasons, each cut after 1,000 bytes.
    pub reasons: Vec<String>,
}

/// What `tick` made.
#[derive(Debug, Default)]
pub struct Emitted {
    /// Points.
    pub points: Points,
    /// Alerts.
    pub alerts: Vec<RawAlert>,
    /// Messages it wants published.
    pub commands: Vec<RawCommand>,
    /// When it wants `tick` again: microseconds since 1970-01-01 UTC.
    pub wake_us: Option<i64>,
}

/// An alert, as a guest gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawAlert {
    /// The series it is about.
    pub series: SeriesId,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// Where in its life it is.
    pub transition: Transition,
    /// How grave.
    pub severity: Severity,
    /// Tells apart several alerts on one series; at most 256 bytes.
    pub key: Arc<str>,
    /// The reading that caused it; NaN if none.
    pub value: f64,
    /// For people; cut after 4 KiB.
    pub message: String,
}

/// The instance's ids become the host's: all of them are of series that `series` has by now.
fn known(points: &mut Points, series: &IdMap) {
    let globals = series.globals();
    points.series.iter_mut().for_each(|id| *id = SeriesId(globals[id.index()]));
}

fn known_alerts(alerts: &mut [RawAlert], series: &IdMap) {
    let globals = series.globals();
    alerts.iter_mut().for_each(|alert| alert.series = SeriesId(globals[alert.series.index()]));
}

impl Decoded {
    /// What its call asked for has taken effect: its series have ids of this process.
    pub(crate) fn know(&mut self, series: &IdMap) {
        known(&mut self.points, series);
    }
}

impl Emitted {
    /// As [`Decoded::know`].
    pub(crate) fn know(&mut self, series: &IdMap) {
        known(&mut self.points, series);
        known_alerts(&mut self.alerts, series);
    }
}

impl RawAlert {
    /// As one of `rule`; none if its series is of no book, and so of nothing.
    pub fn of(self, rule: &Arc<str>, books: &Books) -> Option<Alert> {
        let Self { series, time_us, transition, severity, key, value, message } = self;
        let topic = books.series(series)?.topic.clone();
        Some(Alert { rule: rule.clone(), topic, key, time_us, transition, severity, value, message })
    }
}

impl Processed {
    /// As [`Decoded::know`].
    pub(crate) fn know(&mut self, series: &IdMap) {
        match &mut self.passage {
            Passage::Unchanged | Passage::Keep(_) | Passage::Values(_) => {}
            Passage::Replaced(points, _) | Passage::Added(points, _) => known(points, series),
        }
        known_alerts(&mut self.alerts, series);
    }

    /// What goes on of `batch`, each point with the row it came from.
    pub fn carried(&self, batch: &Points) -> (Points, Vec<u32>) {
        let stay = || -> Vec<u32> {
            let gone =
                |row: &u32| self.rejects.row.binary_search(row).is_ok() || self.held.binary_search(row).is_ok();
            (0..batch.len() as u32).filter(|row| !gone(row)).collect()
        };
        match &self.passage {
            Passage::Unchanged => {
                let rows = stay();
                (batch.gather(&rows), rows)
            }
            Passage::Keep(rows) => (batch.gather(rows), rows.clone()),
            Passage::Values(values) => {
                let rows = stay();
                let mut points = batch.gather(&rows);
                points.value = rows.iter().map(|&row| values[row as usize]).collect();
                (points, rows)
            }
            Passage::Replaced(points, from_row) => (points.clone(), from_row.clone()),
            Passage::Added(points, from_row) => {
                let mut rows = stay();
                let mut all = batch.gather(&rows);
                all.append(points);
                rows.extend(from_row);
                (all, rows)
            }
        }
    }
}

impl Rejects {
    /// Rows and their reasons.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> + '_ {
        let reason = |&i: &u32| self.reasons.get(i as usize).map_or("", String::as_str);
        self.row.iter().copied().zip(self.reason.iter().map(reason))
    }
}
