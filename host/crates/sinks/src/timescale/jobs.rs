//! TimescaleDB's own jobs for what the sink writes: compression, retention, the refreshes of the aggregates. They run within the database, which tells nobody
//! when they fail, until its disk is full: it is asked now and then, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::TimescaleSink;
use tidegate_model::FailedJobs;

use super::dial::LastHost;
use super::fault::Fault;
use super::schema::{Tables, literal};
use super::session::{self, Session};

/// How often it is asked: most of the jobs run once an hour or a day.
const EVERY: Duration = Duration::from_secs(600);
/// How long the server may take for the answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Keeps `failed` true to what the database of `settings` says, and warns of what is new in it, until it is dropped. Of a database that has no such jobs, does not
/// show them or is not there nothing is said.
pub async fn watch_jobs(settings: TimescaleSink, failed: Arc<FailedJobs>) {
    let (tables, last_host) = (Tables::new(&settings), LastHost::default());
    loop {
        match look(&settings, &tables, &last_host).await {
            Ok(jobs) => {
                let told = jobs.join(", ");
                match (failed.are(jobs), told.is_empty()) {
                    (false, _) => {}
                    (true, true) => tracing::info!("the database's own jobs succeed again"),
                    (true, false) => tracing::warn!(
                        database = session::address(&settings),
                        jobs = told,
                        "jobs of the database's own failed when they last ran; timescaledb_information.job_errors has their reasons"
                    ),
                }
            }
            Err(fault) => {
                let why = fault.into_sink_error(&session::address(&settings)).to_string();
                tracing::debug!(why, "it is not known how the database's own jobs do");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(settings: &TimescaleSink, tables: &Tables, last_host: &LastHost) -> Result<Vec<String>, Fault> {
    let session = Session::open(settings, last_host).await?;
    let failed = ask(&session, tables).await;
    session.end().await;
    failed
}

async fn ask(session: &Session, tables: &Tables) -> Result<Vec<String>, Fault> {
    const VIEW: &str = "SELECT to_regclass('timescaledb_information.job_stats')";
    session.run(&session::begin(WITHIN)).await?;
    let is_there = session.rows(VIEW).await?.iter().flatten().all(|view| !view.is_empty());
    let failed = if is_there { session.rows(&failed_jobs(tables)).await? } else { Vec::new() };
    session.run("ROLLBACK").await?;
    Ok(failed.into_iter().flatten().collect())
}

/// Those of the table and of its aggregates: some versions tell of an aggregate by its name, others by that of the table it is kept in.
fn failed_jobs(tables: &Tables) -> String {
    let ours = tables.kept_by_jobs().map(|name| literal(&name)).join(", ");
    format!(
        "SELECT format('%s of %s (job %s)', j.proc_name, coalesce(a.view_name, j.hypertable_name), j.job_id) \
         FROM timescaledb_information.jobs j JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id \
         LEFT JOIN timescaledb_information.continuous_aggregates a \
         ON (a.materialization_hypertable_schema, a.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name) \
         JOIN pg_catalog.pg_class c ON c.oid = to_regclass({}) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE s.last_run_status = 'Failed' AND coalesce(a.view_schema, j.hypertable_schema) = n.nspname \
         AND coalesce(a.view_name, j.hypertable_name) IN ({ours}) ORDER BY j.job_id LIMIT {}",
        literal(&tables.metrics),
        FailedJobs::MOST
    )
}
