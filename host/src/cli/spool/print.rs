//! Spools for people and for scripts.

use std::io::{self, Write};

use serde::Serialize;
use tidegate_model::{Books, Quality, RawMessages};
use tidegate_sinks::Rfc3339;
use tidegate_sinks::json::{AlertJson, CommandJson, DeadLetterJson, MessageJson, PointJson};
use tidegate_spool::{Exported, Inspection, Verification};

/// Writes what was found.
pub(super) struct Printer<'a, W> {
    pub(super) now_us: i64,
    pub(super) out: &'a mut W,
}

/// A finding about one spool, for scripts.
#[derive(Serialize)]
struct OfSink<'a, T> {
    sink: &'a str,
    #[serde(flatten)]
    found: &'a T,
}

impl<W: Write> Printer<'_, W> {
    /// All spools, a line each.
    pub(super) fn list(&mut self, spools: &[(String, Inspection)], json: bool) -> io::Result<()> {
        if json {
            return spools.iter().try_for_each(|(sink, found)| self.json(sink, found));
        }
        if spools.is_empty() {
            return writeln!(self.out, "no spools: no sink has one here, or the host has never run");
        }
        let width = spools.iter().map(|(sink, _)| sink.len()).max().unwrap_or(0).max(4);
        writeln!(self.out, "{:<width$}  {:>10}  {:>10}  {:<12}  DAMAGED", "SINK", "ROWS", "SIZE", "WAITING FOR")?;
        for (sink, found) in spools {
            let damaged = found.quarantined + found.damaged_files.len() as u64;
            let damaged = if damaged == 0 { "-".to_owned() } else { format!("see inspect {sink}") };
            let (rows, size) = (found.rows, size(found.bytes));
            writeln!(self.out, "{sink:<width$}  {rows:>10}  {size:>10}  {:<12}  {damaged}", self.age(found))?;
        }
        Ok(())
    }

    /// All about one.
    pub(super) fn inspection(&mut self, sink: &str, found: &Inspection, json: bool) -> io::Result<()> {
        if json {
            return self.json(sink, found);
        }
        let mut field = |name: &str, value: String| writeln!(self.out, "{name:<12} {value}");
        let time = |us: i64| Rfc3339(us).to_string();
        field("sink", sink.to_owned())?;
        field("file", format!("{}, {}", found.path.display(), size(found.file_bytes)))?;
        match (found.first, found.last) {
            (Some(first), Some(last)) => {
                let (rows, records) = (found.rows, found.records);
                field("standing", format!("{rows} rows in {records} records, {}", size(found.bytes)))?;
                field("records", format!("{first} to {last}"))?;
            }
            _ => field("standing", "nothing".to_owned())?,
        }
        found.oldest_us.map_or(Ok(()), |us| field("oldest", time(us)))?;
        found.newest_us.map_or(Ok(()), |us| field("newest", time(us)))?;
        if found.quarantined > 0 {
            let copies = found.quarantined;
            field("damaged", format!("{copies} records: their bytes are in the file's table `quarantine`"))?;
        }
        for file in &found.damaged_files {
            field("moved aside", file.display().to_string())?;
        }
        Ok(())
    }

    /// Whether one is sound.
    pub(super) fn verification(&mut self, sink: &str, found: &Verification, json: bool) -> io::Result<()> {
        if json {
            return self.json(sink, found);
        }
        let sound = found.sound;
        if found.findings.is_empty() {
            return writeln!(self.out, "{sink}: sound, {sound} records");
        }
        writeln!(self.out, "{sink}: {sound} records are sound, and:")?;
        found.findings.iter().try_for_each(|finding| writeln!(self.out, "  {finding}"))
    }

    fn json(&mut self, sink: &str, found: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, &OfSink { sink, found })?;
        self.out.write_all(b"\n")
    }

    /// How long its oldest record has waited.
    fn age(&self, found: &Inspection) -> String {
        let Some(oldest_us) = found.oldest_us else { return "-".to_owned() };
        let seconds = self.now_us.saturating_sub(oldest_us).max(0) as u64 / 1_000_000;
        humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
    }
}

/// A row of a record: an object of two keys.
#[derive(Serialize)]
struct Line<'a> {
    record: u64,
    #[serde(flatten)]
    row: Row<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Row<'a> {
    Message(MessageJson<'a>),
    Point(PointJson<'a>),
    Alert(AlertJson<'a>),
    Command(CommandJson<'a>),
    DeadLetter(DeadLetterJson<'a>),
}

/// Writes all that is in a record; gives how many rows these are.
pub(super) fn record(books: &Books, exported: &Exported, out: &mut impl Write) -> io::Result<u64> {
    let (delivery, mut rows) = (&exported.delivery, 0);
    let mut line = |row: Row<'_>| -> io::Result<()> {
        rows += 1;
        serde_json::to_writer(&mut *out, &Line { record: exported.id, row })?;
        out.write_all(b"\n")
    };
    for row in delivery.raw_rows(&RawMessages::All) {
        if let Some(message) = MessageJson::of(delivery, books, row) {
            line(Row::Message(message))?;
        }
    }
    let points = &delivery.points;
    for (row, &id) in points.series.iter().enumerate() {
        let description = delivery.described.of(books, id);
        let text = points.texts.get(row as u32).map(String::from_utf8_lossy);
        line(Row::Point(PointJson {
            topic: books.series_topic(id),
            time: Rfc3339(points.time_us[row]),
            time_us: points.time_us[row],
            value: Some(points.value[row]).filter(|value| value.is_finite()),
            value_str: text.as_deref(),
            quality: Quality(points.quality[row]).opc(),
            unit: description.as_ref().and_then(|description| description.unit.as_deref()),
        }))?;
    }
    delivery.alerts.iter().try_for_each(|alert| line(Row::Alert(alert.into())))?;
    delivery.commands.iter().try_for_each(|command| line(Row::Command(command.into())))?;
    delivery.dead_letters.iter().try_for_each(|letter| line(Row::DeadLetter(letter.into())))?;
    Ok(rows)
}

/// `1 row`, `2 rows`.
pub(super) fn rows(n: u64) -> String {
    format!("{n} row{}", if n == 1 { "" } else { "s" })
}

/// Bytes in the largest unit that they fill.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| format!("{:.1} {unit}", bytes as f64 / f64::from(1 << shift)),
    )
}
