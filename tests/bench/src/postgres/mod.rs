//! (e) Points into PostgreSQL, by psql's binary COPY of the same rows into the same table, over as many connections: through the host
//! (`postgres/host…`), and by the TimescaleDB sink alone (`postgres/sink…`).
//!
//! **In**, on our side: for the host, messages that its lanes are given from memory, the queues, the decoder in WebAssembly, the sink and every
//! acknowledgement ([`host`]); for the sink alone, points as a lane delivers them, looked over, encoded, and committed ([`sink`]). Both write in transactions
//! of 5,000 rows, or 20,000 over one connection, each synced to disk before the connection's next. In the baseline: `\copy … (format binary)` of files that hold the same rows, each connection
//! those of its own series as in the sink, each in one transaction; by the server's clock from the first session's beginning to the last one's
//! end, without their start. **Out**: a broker and its client; connecting; the tables' making; a spool, which the host would use where a write took longer than 2 s.
//!
//! With `dedupe` the sink leaves out what is stored already (nothing, here) by way of a temporary table, and psql does the same: COPY to a temporary
//! table, `INSERT … ON CONFLICT DO NOTHING`, COMMIT. Both tables have the unique index then.
//!
//! Wall time. The table is the one that the sink makes in plain PostgreSQL, with its index and without chunks, emptied before each run and followed by a
//! checkpoint. In the first round both ways are compared row by row, by a sum over all rows that the server computes.

mod host;
mod sink;

use anyhow::{Result, ensure};
use tidegate_config::{Repeats, TimescaleSink};

use crate::measure::{Effort, Sample, Side, in_turn};
use crate::report::Progress;
use crate::servers::postgres::Postgres;

/// Points of one repetition.
const POINTS: usize = 500_000;
const REPETITIONS: usize = 9;

/// How it is written.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub by: By,
    pub connections: usize,
    pub repeats: Repeats,
}

/// What of ours writes.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Host,
    Sink,
}

impl Manner {
    /// All that is measured, with its names.
    pub fn all() -> Vec<(String, Self)> {
        let mut all = Vec::new();
        for (by, what) in [(By::Host, "host"), (By::Sink, "sink")] {
            for (repeats, how) in [(Repeats::Stored, ""), (Repeats::Dropped, "-dedupe")] {
                for (connections, many) in [(1, ""), (4, "-4-connections")] {
                    all.push((format!("postgres/{what}{how}{many}"), Self { by, connections, repeats }));
                }
            }
        }
        all
    }
}

/// Points a second.
pub fn measure(manner: Manner, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let Manner { by, connections, repeats } = manner;
    let server = Postgres::start()?;
    let points = effort.amount(POINTS);
    let settings = TimescaleSink { connections, repeats, ..server.settings() };
    let mut ours: Box<dyn Ours> = match by {
        By::Host => Box::new(host::Host::start(settings, points)?),
        By::Sink => Box::new(sink::Alone::start(settings, points)?),
    };

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
    ensure!(copied == stored, "psql stored {copied}, and ours {stored}");

    let samples = in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        server.psql(&["truncate metrics", "checkpoint"])?;
        match side {
            Side::Ours => Ok(points as f64 / ours.store()?),
            Side::Baseline => Ok(points as f64 / server.psql_together(&sessions)?),
        }
    })?;
    let last = sum(&server)?;
    ensure!(last == stored, "{last} were stored in the last repetition, and {stored} in the first");
    ours.close()?;
    Ok(samples)
}

/// What writes the points.
trait Ours {
    /// Stores everything; gives the seconds from the first point to the last that is committed.
    fn store(&mut self) -> Result<f64>;
    /// Ends it; an error if anything was not as it should be.
    fn close(self: Box<Self>) -> Result<()>;
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

/// How many rows there are, and a sum that changes when any of them does.
fn sum(server: &Postgres) -> Result<String> {
    Ok(server
        .psql(&["select count(*), sum(hashtextextended(m::text, 0)::numeric) from metrics m"])?
        .trim()
        .to_owned())
}
