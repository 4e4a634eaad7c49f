//! (e) Points into PostgreSQL by the TimescaleDB sink, by psql's binary COPY of the same rows into the same table, over as many connections.
//!
//! **In**, on our side: points as a lane delivers them, looked over, encoded, and committed in transactions of 5,000, each synced to disk
//! before the connection's next. In the baseline: `\copy … (format binary)` of files that hold the same rows, each connection those of its own series as in
//! the sink, each in one transaction; by the server's clock from the first session's beginning to the last one's end, without their start. **Out**:
//! everything before the sink; connecting; the tables' making.
//!
//! With `dedupe` the sink leaves out what is stored already (nothing, here) by way of a temporary table, and psql does the same: COPY to a temporary
//! table, `INSERT … ON CONFLICT DO NOTHING`, COMMIT. Both tables have the unique index then.
//!
//! Wall time. The table is the one that the sink makes, with its index, emptied before each run and followed by a checkpoint. In the
//! first round both ways are compared row by row, by a sum over all rows that the server computes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tidegate_config::{Repeats, TimescaleSink};
use tidegate_model::{Books, Delivery, Description, NO_ROW, PartitionId, Points, SeriesId, Sink};
use tidegate_sinks::Timescale;
use tokio::runtime::Runtime;

use crate::measure::{Effort, Sample, Side, in_turn, seconds_since};
use crate::report::Progress;
use crate::servers::postgres::Postgres;
use crate::workload;

/// Points of one repetition.
const POINTS: usize = 500_000;
/// Points of one delivery. One write has as many of them as the pipeline gathers.
const DELIVERY: usize = 1_000;
const REPETITIONS: usize = 9;

/// How it is written.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub connections: usize,
    pub repeats: Repeats,
}

/// Points a second.
pub fn measure(manner: Manner, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let Manner { connections, repeats } = manner;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = Postgres::start()?;
    let books = Arc::new(Books::new(workload::TOPICS));
    let points = effort.amount(POINTS);
    let deliveries = deliveries(points, &books)?;
    let settings = TimescaleSink { connections, repeats, ..server.settings() };
    let write = Timescale::rows_at_once(&settings) / DELIVERY;
    let mut ours = Ours { sink: Timescale::new(settings, books), runtime, deliveries, points, write };

    ours.store()?;
    let file = |session: usize| format!("{}/rows-{session}", server.directory().display());
    for session in 0..connections {
        let its = format!("select * from metrics where abs(hashtext(topic)) % {connections} = {session}");
        server.psql(&[&format!(r"\copy ({its}) to '{}' (format binary)", file(session))])?;
    }
    let sessions: Vec<Vec<String>> = (0..connections).map(|session| commands(repeats, &file(session))).collect();
    let stored = sum(&server)?;
    ensure!(stored.starts_with(&format!("{points}|")), "{points} points were written, and {stored} are there");
    server.psql(&["truncate metrics"])?;
    server.psql_together(&sessions)?;
    let copied = sum(&server)?;
    ensure!(copied == stored, "psql stored {copied}, and the sink {stored}");

    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        server.psql(&["truncate metrics", "checkpoint"])?;
        match side {
            Side::Ours => ours.store(),
            Side::Baseline => Ok(points as f64 / server.psql_together(&sessions)?),
        }
    })?;
    ours.runtime.block_on(ours.sink.close());
    Ok(samples)
}

/// What one psql does.
fn commands(repeats: Repeats, file: &str) -> Vec<String> {
    let commands: &[&str] = match repeats {
        Repeats::Stored => &[r"\copy metrics from '{file}' (format binary)"],
        Repeats::Dropped => &[
            "begin",
            "create temporary table stage (like metrics) on commit drop",
            r"\copy stage from '{file}' (format binary)",
            "insert into metrics select * from stage on conflict (topic, time) do nothing",
            "commit",
        ],
    };
    commands.iter().map(|command| command.replace("{file}", file)).collect()
}

/// The sink and what it is given.
struct Ours {
    sink: Timescale,
    runtime: Runtime,
    deliveries: Vec<Arc<Delivery>>,
    points: usize,
    /// Deliveries of one write.
    write: usize,
}

impl Ours {
    /// Stores everything; gives points a second.
    fn store(&mut self) -> Result<f64> {
        let (sink, deliveries) = (&mut self.sink, &self.deliveries);
        let began = Instant::now();
        let written = self.runtime.block_on(async {
            let mut written = 0;
            for some in deliveries.chunks(self.write) {
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
