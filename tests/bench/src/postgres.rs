//! (e) Points into PostgreSQL by the TimescaleDB sink, by psql's binary COPY of the same rows into the same table.
//!
//! **In**, on our side: points as a lane delivers them, looked over, encoded, and committed in transactions of 5,000, each synced to disk
//! before the next. In the baseline: `\copy … (format binary)` of a file that holds the same rows in the same order, in one
//! transaction, by psql's own timing: without its start. **Out**: everything before the sink; connecting; the tables' making.
//!
//! Wall time. The table is the one that the sink makes, with its index, emptied before each run and followed by a checkpoint. In the
//! first round both ways are compared row by row, by a sum over all rows that the server computes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tidegate_model::{Books, Delivery, Description, NO_ROW, PartitionId, Points, SeriesId, Sink};
use tidegate_sinks::Timescale;
use tokio::runtime::Runtime;

use crate::measure::{Effort, Sample, Side, in_turn, seconds_since};
use crate::report::Progress;
use crate::servers::postgres::Postgres;
use crate::workload;

/// Points of one repetition.
const POINTS: usize = 500_000;
/// Points of one delivery, and deliveries of one write: 5,000 rows, as the pipeline gathers them.
const DELIVERY: usize = 1_000;
const WRITE: usize = 5;
const REPETITIONS: usize = 9;

/// Points a second.
pub fn measure(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = Postgres::start()?;
    let books = Arc::new(Books::new(workload::TOPICS));
    let points = effort.amount(POINTS);
    let deliveries = deliveries(points, &books)?;
    let mut ours = Ours { sink: Timescale::new(server.settings(), books), runtime, deliveries, points };

    ours.store()?;
    let file = server.directory().join("rows");
    let file = file.to_str().context("a temporary directory that is not UTF-8")?;
    server.psql(&[&format!(r"\copy metrics to '{file}' (format binary)")])?;
    let copy = format!(r"\copy metrics from '{file}' (format binary)");
    let stored = sum(&server)?;
    ensure!(stored.starts_with(&format!("{points}|")), "{points} points were written, and {stored} are there");
    server.psql(&["truncate metrics", &copy])?;
    let copied = sum(&server)?;
    ensure!(copied == stored, "psql stored {copied}, and the sink {stored}");

    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        server.psql(&["truncate metrics", "checkpoint"])?;
        match side {
            Side::Ours => ours.store(),
            Side::Baseline => Ok(points as f64 / timed(&server, &copy)?),
        }
    })?;
    ours.runtime.block_on(ours.sink.close());
    Ok(samples)
}

/// The sink and what it is given.
struct Ours {
    sink: Timescale,
    runtime: Runtime,
    deliveries: Vec<Arc<Delivery>>,
    points: usize,
}

impl Ours {
    /// Stores everything; gives points a second.
    fn store(&mut self) -> Result<f64> {
        let (sink, deliveries) = (&mut self.sink, &self.deliveries);
        let began = Instant::now();
        let written = self.runtime.block_on(async {
            let mut written = 0;
            for some in deliveries.chunks(WRITE) {
                written += sink.write(some).await?.points;
            }
            anyhow::Ok(written)
        })?;
        let seconds = seconds_since(began);
        ensure!(written == self.points as u64, "the sink stored {written} of {} points", self.points);
        Ok(self.points as f64 / seconds)
    }
}

fn deliveries(points: usize, books: &Books) -> Result<Vec<Arc<Delivery>>> {
    let series = (0..workload::TOPICS)
        .map(|number| {
            let description = Description { unit: Some("°C".into()), labels: Vec::new() };
            books.intern_series(&workload::topic(number), PartitionId(number as u32), description)
        })
        .collect::<Result<Vec<SeriesId>, _>>()?;
    let delivery = |first: usize| {
        let mut column = Points::default();
        for message in first..(first + DELIVERY).min(points) {
            let series = series[workload::topic_of(message)];
            column.push(series, workload::time_us(message), workload::value(message), 192);
        }
        let from_row = vec![NO_ROW; column.len()];
        Arc::new(Delivery { points: column, from_row, ..Delivery::default() })
    };
    Ok((0..points).step_by(DELIVERY).map(delivery).collect())
}

/// How many rows there are, and a sum that changes when any of them does.
fn sum(server: &Postgres) -> Result<String> {
    Ok(server
        .psql(&["select count(*), sum(hashtextextended(m::text, 0)::numeric) from metrics m"])?
        .trim()
        .to_owned())
}

/// Seconds that psql needs for a command, as it says itself.
fn timed(server: &Postgres, command: &str) -> Result<f64> {
    let said = server.psql(&[r"\timing on", command])?;
    let ms = said.lines().find_map(|line| line.strip_prefix("Time: ")?.split(' ').next()?.parse::<f64>().ok());
    Ok(ms.with_context(|| format!("psql told no time: {said:?}"))? / 1_000.0)
}
