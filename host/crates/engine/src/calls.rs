//! What calls return, in this process's ids, checked against the contract.
//!
//! A guest's word is not taken for anything: lengths, order, ranges and UTF-8 are looked at before a column goes on.

use std::sync::Arc;

use tidegate_model::{Alert, Books, NO_ROW, Points, Ragged, SeriesId, Severity, Texts, Transition};

use crate::bindings::telemetry::{self, PointsResult, Produced};
use crate::bindings::{decoder, processor, ticking};
use crate::fault::Fault;
use crate::ids::IdMap;
use crate::words::cut;

pub use crate::bindings::telemetry::Command as RawCommand;

/// Of alerts, keys are part of what they are, and one that is too long is a breach; messages and reasons are for people, and are cut.
const MAX_KEY_BYTES: usize = 256;
const MAX_MESSAGE_BYTES: usize = 4 << 10;
const MAX_REASON_BYTES: usize = 1_000;
/// Of the text of one point: it is kept for replays, queued and stored with others as long.
const MAX_TEXT_BYTES: u32 = 1 << 20;
/// Alerts for each row of a batch, and for each series the instance knows: all may fall silent in one tick.
const ALERTS_A_ROW: usize = 10;
/// And so many beside.
const ALERTS_A_CALL: usize = 1_000;

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

/// Turns what a guest returned into what the lane works with, but for the ids of series: those are the instance's own still, and some of them
/// are of series that it asks for in this very call, which are made only when all it returned is sound (`know`, [`known`]).
pub(crate) struct Checker {
    /// How many series the instance knows, with those.
    pub series: usize,
    /// How many rows the batch had.
    pub rows: usize,
    /// How many it may have made of them.
    pub most_rows_out: usize,
}

impl Checker {
    pub fn decoded(&self, raw: decoder::Decoded) -> Result<Decoded, Fault> {
        let (points, from_row) = self.produced(raw.made)?;
        if from_row.last() == Some(&NO_ROW) {
            return Err(Fault::bad_output("a decoder's point came from no message"));
        }
        let rejects = self.rejects(raw.rejects)?;
        self.ascending("held", &raw.held)?;
        self.not_both("held", &rejects.row, &raw.held)?;
        self.no_output_from(&rejects.row, &from_row)?;
        Ok(Decoded { points, from_row, rejects, held: raw.held, commands: raw.commands, wake_us: raw.wake_us })
    }

    pub fn processed(&self, raw: processor::Outcome) -> Result<Processed, Fault> {
        let rejects = self.rejects(raw.rejects)?;
        self.ascending("held", &raw.held)?;
        self.not_both("held", &rejects.row, &raw.held)?;
        let passage = match raw.passage {
            processor::Passage::Unchanged => Passage::Unchanged,
            processor::Passage::Keep(rows) => {
                self.ascending("keep", &rows)?;
                self.no_output_from(&rejects.row, &rows)?;
                Passage::Keep(rows)
            }
            processor::Passage::Values(values) => {
                same("values", values.len(), self.rows)?;
                Passage::Values(values)
            }
            processor::Passage::Replaced(produced) => {
                let (points, from_row) = self.produced(produced)?;
                self.no_output_from(&rejects.row, &from_row)?;
                Passage::Replaced(points, from_row)
            }
            processor::Passage::Added(produced) => {
                let (points, from_row) = self.produced(produced)?;
                self.no_output_from(&rejects.row, &from_row)?;
                Passage::Added(points, from_row)
            }
        };
        let alerts = self.alerts(raw.alerts)?;
        Ok(Processed { passage, alerts, rejects, held: raw.held, commands: raw.commands, wake_us: raw.wake_us })
    }

    pub fn emitted(&self, raw: ticking::Emitted) -> Result<Emitted, Fault> {
        Ok(Emitted {
            points: self.points(raw.points)?,
            alerts: self.alerts(raw.alerts)?,
            commands: raw.commands,
            wake_us: raw.wake_us,
        })
    }

    fn produced(&self, raw: Produced) -> Result<(Points, Vec<u32>), Fault> {
        let points = self.points(raw.points)?;
        same("from-row", raw.from_row.len(), points.len())?;
        if !raw.from_row.is_sorted() {
            return Err(Fault::bad_output("`from-row` does not ascend"));
        }
        // Ascending, so those without a row are at the end.
        let named = raw.from_row.partition_point(|&row| row != NO_ROW);
        if raw.from_row[..named].last().is_some_and(|&row| row as usize >= self.rows) {
            return Err(Fault::bad_output("`from-row` names a row the batch does not have"));
        }
        Ok((points, raw.from_row))
    }

    fn points(&self, raw: PointsResult) -> Result<Points, Fault> {
        let rows = raw.series.len();
        if rows > self.most_rows_out {
            let (came, most) = (self.rows, self.most_rows_out);
            return Err(Fault::bad_output(format!(
                "it made {rows} rows of {came}, and may make {most} (`rows_out_per_row` in the `[limits]` of its file)"
            )));
        }
        same("time-us", raw.time_us.len(), rows)?;
        same("value", raw.value.len(), rows)?;
        same("quality", raw.quality.len(), rows)?;
        let texts = raw.texts;
        same("texts.ends", texts.ends.len(), texts.row.len())?;
        if !texts.row.is_sorted_by(|a, b| a < b) || texts.row.last().is_some_and(|&row| row as usize >= rows) {
            return Err(Fault::bad_output("`texts.row` does not ascend within the rows"));
        }
        let text = column("texts", texts.ends, texts.bytes)?;
        let starts = std::iter::once(0).chain(text.ends.iter().copied());
        if let Some(bytes) = starts.zip(&text.ends).map(|(start, end)| end - start).find(|&len| len > MAX_TEXT_BYTES)
        {
            return Err(Fault::bad_output(format!(
                "a text of a point has {bytes} bytes, and may have {MAX_TEXT_BYTES}"
            )));
        }
        let series = raw.series.into_iter().map(|local| self.series(local)).collect::<Result<_, _>>()?;
        Ok(Points {
            series,
            time_us: raw.time_us,
            value: raw.value,
            quality: raw.quality,
            texts: Texts { row: texts.row, text },
        })
    }

    fn series(&self, local: u32) -> Result<SeriesId, Fault> {
        let unknown = || Fault::bad_output(format!("it named series {local}, which it was never given"));
        if (local as usize) < self.series { Ok(SeriesId(local)) } else { Err(unknown()) }
    }

    fn rejects(&self, mut raw: telemetry::Rejects) -> Result<Rejects, Fault> {
        self.ascending("rejects.row", &raw.row)?;
        same("rejects.reason", raw.reason.len(), raw.row.len())?;
        if raw.reason.iter().any(|&reason| reason as usize >= raw.reasons.len()) {
            return Err(Fault::bad_output("`rejects.reason` names a reason that is not in `reasons`"));
        }
        // They are copied into a dead letter for each row.
        raw.reasons.iter_mut().for_each(|reason| cut(reason, MAX_REASON_BYTES));
        Ok(Rejects { row: raw.row, reason: raw.reason, reasons: raw.reasons })
    }

    fn alerts(&self, raw: telemetry::Alerts) -> Result<Vec<RawAlert>, Fault> {
        let rows = raw.series.len();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let most = self.rows.saturating_add(self.series).saturating_mul(ALERTS_A_ROW).saturating_add(ALERTS_A_CALL);
        if rows > most {
            let came = self.rows;
            return Err(Fault::bad_output(format!("it sent {rows} alerts for {came} rows, and may send {most}")));
        }
        for (name, len) in [
            ("alerts.time-us", raw.time_us.len()),
            ("alerts.transition", raw.transition.len()),
            ("alerts.severity", raw.severity.len()),
            ("alerts.value", raw.value.len()),
            ("alerts.key", raw.key.len()),
            ("alerts.message-ends", raw.message_ends.len()),
        ] {
            same(name, len, rows)?;
        }
        let messages = column("alerts.message", raw.message_ends, raw.message_bytes)?;
        if raw.keys.iter().any(|key| key.len() > MAX_KEY_BYTES || key.contains('\0')) {
            return Err(Fault::bad_output(format!(
                "one of `alerts.keys` has more than {MAX_KEY_BYTES} bytes or a NUL"
            )));
        }
        // Shared by all rows that name it: a key costs its bytes once, as in the guest.
        let keys: Vec<Arc<str>> = raw.keys.into_iter().map(Arc::from).collect();
        let alert = |i: usize| {
            let key = keys.get(raw.key[i] as usize);
            let mut message = String::from_utf8_lossy(messages.get(i)).into_owned();
            cut(&mut message, MAX_MESSAGE_BYTES);
            Ok(RawAlert {
                series: self.series(raw.series[i])?,
                time_us: raw.time_us[i],
                transition: match raw.transition[i] {
                    telemetry::Transition::Event => Transition::Event,
                    telemetry::Transition::Raised => Transition::Raised,
                    telemetry::Transition::Cleared => Transition::Cleared,
                },
                severity: match raw.severity[i] {
                    telemetry::Severity::Info => Severity::Info,
                    telemetry::Severity::Warning => Severity::Warning,
                    telemetry::Severity::Critical => Severity::Critical,
                },
                key: key.ok_or_else(|| Fault::bad_output("`alerts.key` names a key that is not in `keys`"))?.clone(),
                value: raw.value[i],
                message,
            })
        };
        (0..rows).map(alert).collect()
    }

    fn ascending(&self, name: &str, rows: &[u32]) -> Result<(), Fault> {
        if !rows.is_sorted_by(|a, b| a < b) || rows.last().is_some_and(|&row| row as usize >= self.rows) {
            return Err(Fault::bad_output(format!("`{name}` does not ascend within the batch")));
        }
        Ok(())
    }

    fn no_output_from(&self, rejected: &[u32], output: &[u32]) -> Result<(), Fault> {
        self.not_both("used for output", rejected, output)
    }

    /// Both ascend, so one walk over the two finds a row that stands in both.
    fn not_both(&self, what: &str, rejected: &[u32], others: &[u32]) -> Result<(), Fault> {
        let mut rest = others;
        for row in rejected {
            rest = &rest[rest.partition_point(|from| from < row)..];
            if rest.first() == Some(row) {
                return Err(Fault::bad_output(format!("row {row} was both rejected and {what}")));
            }
        }
        Ok(())
    }
}

fn same(name: &str, len: usize, rows: usize) -> Result<(), Fault> {
    if len == rows {
        Ok(())
    } else {
        Err(Fault::bad_output(format!("column `{name}` has {len} entries where {rows} are due")))
    }
}

/// A column of texts. Each entry is UTF-8 if the whole is and no end splits a character.
fn column(name: &str, ends: Vec<u32>, bytes: Vec<u8>) -> Result<Ragged, Fault> {
    let column = Ragged { ends, bytes };
    if !column.is_well_formed() {
        return Err(Fault::bad_output(format!("the ends of `{name}` do not ascend to its last byte")));
    }
    let text = std::str::from_utf8(&column.bytes)
        .map_err(|_| Fault::bad_output(format!("`{name}` holds bytes that are not UTF-8")))?;
    if column.ends.iter().any(|&end| !text.is_char_boundary(end as usize)) {
        return Err(Fault::bad_output(format!("an end of `{name}` splits a character")));
    }
    Ok(column)
}

#[cfg(test)]
mod tests;
