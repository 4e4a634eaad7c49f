//! What a rule returned, as the lines of an `expected.ndjson`: points, alerts, rejected rows, filtered ones, held ones.
//!
//! Each line is handed on as soon as it is made, and the first that is wrong ends it: a few rows can become hundreds of thousands of points,
//! and a line takes far more room than a point.

use serde_json::{Map, Value, json};
use tidegate_cases::Difference;
use tidegate_model::{Books, Points, SeriesId};

use super::Saw;
use crate::calls::{Decoded, Emitted, Passage, Processed, RawAlert, Rejects};

/// OPC's "good", which is left out.
const GOOD: u16 = 192;

pub(super) fn decoded(
    books: &Books,
    first: usize,
    rows: usize,
    decoded: &Decoded,
    saw: &mut Saw<'_>,
) -> Result<(), Difference> {
    points(books, &decoded.points, saw)?;
    ends(first, rows, Some(&decoded.from_row), &decoded.rejects, &decoded.held, saw)
}

pub(super) fn processed(
    books: &Books,
    first: usize,
    batch: &Points,
    processed: &Processed,
    saw: &mut Saw<'_>,
) -> Result<(), Difference> {
    // What passes as it is is not listed.
    let from_row = match &processed.passage {
        Passage::Unchanged => None,
        Passage::Added(added, _) => {
            points(books, added, saw)?;
            None
        }
        Passage::Keep(_) | Passage::Values(_) | Passage::Replaced(..) => {
            let (carried, from_row) = processed.carried(batch);
            points(books, &carried, saw)?;
            Some(from_row)
        }
    };
    alerts(books, &processed.alerts, saw)?;
    ends(first, batch.len(), from_row.as_deref(), &processed.rejects, &processed.held, saw)
}

pub(super) fn emitted(books: &Books, emitted: &Emitted, saw: &mut Saw<'_>) -> Result<(), Difference> {
    points(books, &emitted.points, saw)?;
    alerts(books, &emitted.alerts, saw)
}

fn points(books: &Books, points: &Points, saw: &mut Saw<'_>) -> Result<(), Difference> {
    for row in 0..points.len() {
        let series = points.series[row];
        let mut line = Map::new();
        line.insert("topic".into(), books.series_topic(series).into());
        line.insert("time_us".into(), points.time_us[row].into());
        line.insert("value".into(), number(points.value[row]));
        if let Some(text) = points.texts.get(row as u32) {
            line.insert("text".into(), String::from_utf8_lossy(text).into());
        }
        if points.quality[row] != GOOD {
            line.insert("quality".into(), points.quality[row].into());
        }
        describe(books, series, &mut line);
        saw(json!({ "point": line }))?;
    }
    Ok(())
}

fn describe(books: &Books, series: SeriesId, line: &mut Map<String, Value>) {
    let Some(series) = books.series(series) else { return };
    let description = series.description.load();
    if let Some(unit) = &description.unit {
        line.insert("unit".into(), (&**unit).into());
    }
    if !description.labels.is_empty() {
        let labels = description.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone())));
        line.insert("labels".into(), Value::Object(labels.collect()));
    }
}

fn alerts(books: &Books, alerts: &[RawAlert], saw: &mut Saw<'_>) -> Result<(), Difference> {
    for alert in alerts {
        let mut line = json!({
            "topic": books.series_topic(alert.series),
            "time_us": alert.time_us,
            "transition": alert.transition.as_str(),
            "severity": alert.severity.as_str(),
            "value": number(alert.value),
            "message": alert.message,
        });
        if !alert.key.is_empty() {
            line["key"] = (&*alert.key).into();
        }
        saw(json!({ "alert": line }))?;
    }
    Ok(())
}

/// What became of the rows that nothing came of. `from_row` is none where all others went on.
fn ends(
    first: usize,
    rows: usize,
    from_row: Option<&[u32]>,
    rejects: &Rejects,
    held: &[u32],
    saw: &mut Saw<'_>,
) -> Result<(), Difference> {
    for (row, reason) in rejects.iter() {
        saw(json!({ "reject": { "row": first + row as usize, "reason": reason } }))?;
    }
    if let Some(from_row) = from_row {
        let stands_in = |column: &[u32], row: u32| column.binary_search(&row).is_ok();
        for row in 0..rows as u32 {
            if !stands_in(from_row, row) && !stands_in(&rejects.row, row) && !stands_in(held, row) {
                saw(json!({ "filtered": first + row as usize }))?;
            }
        }
    }
    held.iter().try_for_each(|&row| saw(json!({ "held": first + row as usize })))
}

/// None for what JSON has no number for.
fn number(value: f64) -> Value {
    value.into()
}
