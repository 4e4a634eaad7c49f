//! What the host refuses of a rule's output: a breach here is a fault there, and the batch lost to
//! the rule.

use crate::columns::{Alerts, NO_ROW, Passage, Points, Produced, Rejects};

/// Judges points on their own.
pub(super) fn points(points: &Points, known_series: usize) -> Result<(), String> {
    let rows = points.series.len();
    for (column, length) in
        [("time-us", points.time_us.len()), ("value", points.value.len()), ("quality", points.quality.len())]
    {
        if length != rows {
            return Err(format!("column {column} has {length} rows and series has {rows}"));
        }
    }
    if let Some(id) = points.series.iter().find(|id| **id as usize >= known_series) {
        return Err(format!("series {id} was never made known"));
    }
    let texts = &points.texts;
    if texts.row.len() != texts.ends.len() {
        return Err("texts have not as many rows as ends".to_owned());
    }
    if !texts.row.is_sorted_by(|a, b| a < b) || texts.row.last().is_some_and(|row| *row as usize >= rows) {
        return Err("rows of texts must ascend and be rows of the batch".to_owned());
    }
    if !texts.ends.is_sorted() || texts.ends.last().map_or(0, |end| *end as usize) != texts.bytes.len() {
        return Err("ends of texts must ascend to the number of their bytes".to_owned());
    }
    std::str::from_utf8(&texts.bytes).map(drop).map_err(|_| "a text is not UTF-8".to_owned())
}

/// Judges points with the rows they came from.
pub(super) fn produced(made: &Produced, rows: usize, known_series: usize) -> Result<(), String> {
    points(&made.points, known_series)?;
    if made.from_row.len() != made.points.len() {
        return Err("from-row has not one entry a point".to_owned());
    }
    if !made.from_row.is_sorted() {
        return Err("from-row must ascend".to_owned());
    }
    match made.from_row.iter().find(|row| **row != NO_ROW && **row as usize >= rows) {
        Some(row) => Err(format!("from-row {row} is not a row of the batch of {rows}")),
        None => Ok(()),
    }
}

/// Judges rejects, and that nothing came from what was rejected.
pub(super) fn rejects(rejects: &Rejects, rows: usize, from: &[u32]) -> Result<(), String> {
    if rejects.row.len() != rejects.reason.len() {
        return Err("rejects have not as many rows as reasons".to_owned());
    }
    if !rejects.row.is_sorted_by(|a, b| a < b) || rejects.row.last().is_some_and(|row| *row as usize >= rows) {
        return Err("rejected rows must ascend and be rows of the batch".to_owned());
    }
    if rejects.reason.iter().any(|reason| *reason as usize >= rejects.reasons.len()) {
        return Err("a reject's reason is not in the list of reasons".to_owned());
    }
    match rejects.row.iter().find(|row| from.binary_search(row).is_ok()) {
        Some(row) => Err(format!("there is output from row {row}, which is rejected")),
        None => Ok(()),
    }
}

/// Judges alerts.
pub(super) fn alerts(alerts: &Alerts, known_series: usize) -> Result<(), String> {
    let rows = alerts.series.len();
    let same = [
        alerts.time_us.len(),
        alerts.transition.len(),
        alerts.severity.len(),
        alerts.value.len(),
        alerts.key.len(),
        alerts.message_ends.len(),
    ]
    .iter()
    .all(|length| *length == rows);
    if !same {
        return Err("columns of alerts are not equally long".to_owned());
    }
    if alerts.series.iter().any(|id| *id as usize >= known_series) {
        return Err("an alert's series was never made known".to_owned());
    }
    if alerts.key.iter().any(|key| *key as usize >= alerts.keys.len()) {
        return Err("an alert's key is not in the list of keys".to_owned());
    }
    if !alerts.message_ends.is_sorted()
        || alerts.message_ends.last().map_or(0, |end| *end as usize) != alerts.message_bytes.len()
    {
        return Err("ends of messages must ascend to the number of their bytes".to_owned());
    }
    std::str::from_utf8(&alerts.message_bytes).map(drop).map_err(|_| "an alert's message is not UTF-8".to_owned())
}

/// Judges a passage; gives the rows that output came from.
pub(super) fn passage(passage: &Passage, rows: usize, known_series: usize) -> Result<Vec<u32>, String> {
    match passage {
        Passage::Unchanged => Ok(Vec::new()),
        Passage::Keep(keep) => {
            if !keep.is_sorted_by(|a, b| a < b) || keep.last().is_some_and(|row| *row as usize >= rows) {
                return Err("kept rows must ascend and be rows of the batch".to_owned());
            }
            Ok(keep.clone())
        }
        Passage::Values(values) if values.len() != rows => {
            Err(format!("{} new values for {rows} rows", values.len()))
        }
        Passage::Values(_) => Ok((0..rows as u32).collect()),
        Passage::Replaced(made) | Passage::Added(made) => {
            produced(made, rows, known_series)?;
            Ok(made.from_row.iter().copied().filter(|row| *row != NO_ROW).collect())
        }
    }
}
