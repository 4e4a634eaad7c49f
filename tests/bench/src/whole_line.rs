//! The whole line: Kafka → decode → scale → threshold → TimescaleDB's sink into plain PostgreSQL, as points a second: no hypertable, no chunks. The one
//! TimescaleDB that every machine can have is WebAssembly, whose speed says nothing of a server's.
//!
//! **In**: the consumer, its offsets, the lanes with three rules in WebAssembly, the sink with its COPY over four connections, and every COMMIT synced to
//! disk. The rate is by wall time from the first record that is taken in to the last that is acknowledged. **Out**: producing; the brokers and
//! PostgreSQL are processes of their own, and share the machine's cores with the host. It has no baseline: what each part reaches alone is
//! in `kafka/host` and `postgres/host-4-connections`.
//!
//! The brokers are those of [`kafka`](crate::kafka), the table is the sink's own, emptied before each run and followed by a checkpoint. After each run
//! the number of points and alerts is compared with what had to come, and the sum of the values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_config::{Offsets, TimescaleSink};
use tidegate_engine::{Engine, Rule};
use tidegate_model::Limits;
use tidegate_pipeline::Pipeline;
use tidegate_sinks::SourcePositions;
use tidegate_sources::KafkaSource;

use crate::consumer::PATIENCE;
use crate::kafka;
use crate::line::Line;
use crate::measure::{Effort, Sample, alone, seconds_since};
use crate::mqtt::process::Process;
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::servers::postgres::Postgres;
use crate::workload::{self, Expected, LIMIT};

const RECORDS: usize = 500_000;
const REPETITIONS: usize = 5;
/// What every value is multiplied with.
const FACTOR: f64 = 2.0;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Points a second.
pub fn measure(offsets: Offsets, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let records = effort.amount(RECORDS);
    let cluster = Process::start(&["kafka", "--records", &records.to_string()])?;
    let line = cluster.line()?;
    let brokers = line.strip_prefix("listening ").with_context(|| format!("the cluster said {line:?}"))?.to_owned();
    let expected = workload::expected(records);
    let engine = Engine::new()?;
    let scale = Setup {
        name: "scale".into(),
        module: "scale",
        config: serde_json::json!({ "factor": FACTOR }).to_string(),
        filter: "#".into(),
        order: 50,
    };
    let config = serde_json::json!({ "above": LIMIT * FACTOR }).to_string();
    let rules = [Setup::json_reading(), scale, Setup { config, ..Setup::threshold() }]
        .iter()
        .map(|setup| rules::rule(setup, &rules::module(&engine, setup.module)?))
        .collect::<Result<Vec<_>>>()?;
    let server = Postgres::start()?;
    let database = TimescaleSink { offsets, ..server.settings() };
    let mut group = 0;
    alone(effort.repetitions(REPETITIONS), progress, || {
        if group > 0 {
            server.psql(&["truncate metrics, alerts", "checkpoint"])?;
        }
        group += 1;
        let rate = run(&brokers, group, &database, &expected, &rules)?;
        check(&server, &expected)?;
        Ok(rate)
    })
}

fn run(
    brokers: &str,
    group: usize,
    database: &TimescaleSink,
    expected: &Expected,
    rules: &[Arc<Rule>],
) -> Result<f64> {
    let line = Line::to_database(database.clone())?;
    for rule in rules {
        line.install(rule)?;
    }
    let mut source = KafkaSource::new(kafka::settings(brokers, group));
    if database.offsets == Offsets::WithPoints {
        source = source.stored_by(Arc::new(SourcePositions::new(database.clone())));
    }
    line.pipeline().add_source("bench", Box::new(source), Limits::default());
    wait(line.pipeline(), |received, _| received > 0)?;
    let began = Instant::now();
    wait(line.pipeline(), |received, in_flight| received >= expected.messages as u64 && in_flight == 0)?;
    let seconds = seconds_since(began);
    line.close()?;
    rules::sound(rules)?;
    Ok(expected.points as f64 / seconds)
}

fn wait(pipeline: &Pipeline, content: impl Fn(u64, u64) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = pipeline.status();
        let messages = status.sources.first().map(|source| source.messages).unwrap_or_default();
        if content(messages.received, messages.in_flight) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the line did not come to its end: {status:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// An error unless every point is there, scaled, and every alert.
fn check(server: &Postgres, expected: &Expected) -> Result<()> {
    let found = server.psql(&["select (select count(*) from metrics), (select count(*) from alerts)"])?;
    let due = format!("{}|{}", expected.points, expected.alerts);
    ensure!(found.trim() == due, "points and alerts in the database: {found:?}, due: {due}");
    let sum: f64 = server.psql(&["select sum(value) from metrics"])?.trim().parse()?;
    let due: f64 = workload::readings(expected.messages).map(|message| workload::value(message) * FACTOR).sum();
    ensure!((sum - due).abs() <= due.abs() * 1e-9, "the values' sum is {sum}, due: {due}");
    Ok(())
}
