//! One JSON object a line, to a file or standard output, for people and pipes.
//!
//! Each line says what it is by its only key: `{"point":{…}}`, `{"alert":{…}}` or `{"dead_letter":{…}}`; the forms inside are
//! those of [`crate::json`]. A file is appended to and synced at every write; a write that failed half-way is cut off again.
//! Standard output is flushed, which is as durable as what reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tidegate_config::NdjsonSink;
use tidegate_model::{Books, Delivery, Quality, Rejected, Sink, SinkError, Wants, Written};

use crate::json::{AlertJson, DeadLetterJson, PointJson, finite};
use crate::rows::{TextCursor, UNKNOWN_SERIES, readable};
use crate::time::Rfc3339;

/// Lines of JSON.
#[derive(Debug)]
pub struct Ndjson {
    settings: NdjsonSink,
    books: Arc<Books>,
    file: Option<File>,
    /// Kept between writes for its memory.
    lines: Vec<u8>,
}

/// A line: an object of one key.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Point(PointJson<'a>),
    Alert(AlertJson<'a>),
    DeadLetter(DeadLetterJson<'a>),
}

impl Ndjson {
    /// A sink for the file of `settings`, or standard output.
    pub fn new(settings: NdjsonSink, books: Arc<Books>) -> Self {
        Self { settings, books, file: None, lines: Vec::new() }
    }

    fn render(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let mut written = Written::default();
        self.lines.clear();
        for (at, delivery) in deliveries.iter().enumerate() {
            if self.settings.points {
                render_points(&mut self.lines, &self.books, (at, delivery), &mut written)?;
            }
            if self.settings.alerts {
                for alert in &delivery.alerts {
                    push(&mut self.lines, &Line::Alert(alert.into()))?;
                }
                written.alerts += delivery.alerts.len() as u64;
            }
            if self.settings.dead_letters {
                for dead in &delivery.dead_letters {
                    push(&mut self.lines, &Line::DeadLetter(dead.into()))?;
                }
            }
        }
        Ok(written)
    }
}

#[async_trait]
impl Sink for Ndjson {
    fn wants(&self) -> Wants {
        let NdjsonSink { points, alerts, dead_letters, .. } = self.settings;
        Wants { points, alerts, dead_letters, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let written = self.render(deliveries)?;
        let lines = std::mem::take(&mut self.lines);
        let path = self.settings.path.clone();
        let file = self.file.take();
        // Writing blocks, for as long as a pipe's reader or a disk likes.
        let wrote = tokio::task::spawn_blocking(move || match path {
            Some(path) => append(&path, file, &lines).map(|file| (Some(file), lines)),
            None => print(&lines).map(|()| (None, lines)),
        });
        (self.file, self.lines) =
            wrote.await.map_err(|error| SinkError::Retry(format!("writing lines was broken off: {error}")))??;
        Ok(written)
    }
}

fn render_points(
    lines: &mut Vec<u8>,
    books: &Books,
    (at, delivery): (usize, &Delivery),
    written: &mut Written,
) -> Result<(), SinkError> {
    let points = &delivery.points;
    let mut texts = TextCursor::from_row(&points.texts, 0);
    for row in 0..points.len() {
        let reject = |reason: String| Rejected { delivery: at, row: row as u32, reason };
        let text = texts.of(row).map(readable).transpose();
        match (text, books.series(points.series[row])) {
            (Ok(value_str), Some(series)) => {
                let latest = series.description.load();
                let other = delivery.described.other(books, points.series[row]);
                let description = other.as_deref().unwrap_or(&**latest);
                let point = PointJson {
                    topic: &series.topic,
                    time: Rfc3339(points.time_us[row]),
                    time_us: points.time_us[row],
                    value: finite(points.value[row]),
                    value_str,
                    quality: Quality(points.quality[row]).opc(),
                    unit: description.unit.as_deref(),
                };
                push(lines, &Line::Point(point))?;
                written.points += 1;
            }
            (Err(reason), _) => written.rejected.push(reject(reason)),
            (_, None) => written.rejected.push(reject(UNKNOWN_SERIES.to_owned())),
        }
    }
    Ok(())
}

fn push(lines: &mut Vec<u8>, line: &Line<'_>) -> Result<(), SinkError> {
    serde_json::to_writer(&mut *lines, line)
        .map_err(|error| SinkError::NeedsOperator(format!("a line cannot be written as JSON: {error}")))?;
    lines.push(b'\n');
    Ok(())
}

fn print(lines: &[u8]) -> Result<(), SinkError> {
    let mut out = io::stdout().lock();
    out.write_all(lines)
        .and_then(|()| out.flush())
        .map_err(|error| SinkError::Retry(format!("cannot write to standard output: {error}")))
}

fn append(path: &Path, file: Option<File>, lines: &[u8]) -> Result<File, SinkError> {
    let mut file = match file {
        Some(file) => file,
        None => open(path)?,
    };
    let retry = |error: io::Error| SinkError::Retry(format!("cannot write to {}: {error}", path.display()));
    let end = file.seek(SeekFrom::End(0)).map_err(retry)?;
    match file.write_all(lines).and_then(|()| file.sync_data()) {
        Ok(()) => Ok(file),
        Err(error) => {
            // All of it is written again, so what stands there now would be double, and its last line torn. Where even this
            // fails, `open` ends the torn line before it adds another.
            let _ = file.set_len(end);
            Err(retry(error))
        }
    }
}

fn open(path: &Path) -> Result<File, SinkError> {
    let operator = |error: io::Error| {
        SinkError::NeedsOperator(format!("cannot open {} to append to it: {error}", path.display()))
    };
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(operator)?;
    if file.seek(SeekFrom::End(0)).map_err(operator)? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1)).map_err(operator)?;
        file.read_exact(&mut last).map_err(operator)?;
        if last != *b"\n" {
            // The host died within a line: it stays as it is, and ends here.
            file.write_all(b"\n").map_err(operator)?;
        }
    }
    Ok(file)
}
