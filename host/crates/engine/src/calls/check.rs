//! What a guest has returned, held against the contract.
//!
//! A guest's word is not taken for anything: lengths, order, ranges and UTF-8 are looked at before a column goes on.

use std::sync::Arc;

use tidegate_model::{NO_ROW, Points, Ragged, SeriesId, Severity, Texts, Transition};

use crate::bindings::telemetry::{self, PointsResult, Produced};
use crate::bindings::{decoder, processor, ticking};
use crate::calls::{Decoded, Emitted, Passage, Processed, RawAlert, Rejects};
use crate::fault::Fault;
use crate::words::cut;

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

/// Turns what a guest returned into what the lane works with, but for the ids of series: those are the instance's own still, and some of them
/// are of series that it asks for in this very call, which are made only when all it returned is sound ([`Decoded::know`]).
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
