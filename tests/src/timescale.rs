//! A real TimescaleDB, with a database of one's own.

use std::process::Command;

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::machine::{installed, root, runtime};
use crate::server::Server;
use crate::servers_run::{missing, used};
use crate::wait::{DEADLINE, wait_for};

/// The variable that names another TimescaleDB to run the same tests against; its user must be allowed to make databases.
const URL: &str = "TIDEGATE_TEST_TIMESCALE_URL";

/// An empty database with the extension.
///
/// Without [`URL`] it is TimescaleDB as WebAssembly behind `tests/timescale/bridge.mjs`: the real code, in one session and without background
/// workers.
#[derive(Debug)]
pub struct Timescale {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Ours: ends with this value.
    Bridge { _server: Server, _directory: TempDir },
    /// Somebody else's: the database by its name, and where it was made from.
    Elsewhere { database: String, from: String },
}

impl Timescale {
    /// One under the Community licence. None, loudly, where neither is to be had.
    pub fn start() -> Option<Self> {
        match std::env::var(URL) {
            Ok(from) if !from.is_empty() => {
                used(&format!("TimescaleDB: the one of {URL}"));
                let database = format!("tidegate_test_{:016x}", fastrand::u64(..));
                run(&from, &format!("CREATE DATABASE {database}"));
                let mut url = from.clone();
                let path = url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash));
                let end = url.find('?').unwrap_or(url.len());
                url.replace_range(path.unwrap_or(end)..end, &format!("/{database}"));
                Some(Self { url, place: Place::Elsewhere { database, from } })
            }
            _ => Self::bridge(&[]),
        }
    }

    /// One under its Apache licence, always as WebAssembly: on another server that is a matter of its configuration.
    pub fn under_apache() -> Option<Self> {
        Self::bridge(&["apache"])
    }

    fn bridge(more: &[&str]) -> Option<Self> {
        let modules = root().join("target/dev/timescale");
        if !modules.join(".done").exists() || !installed("node", "nodejs") {
            missing("TimescaleDB", &format!("not here, run deploy/dev/setup.sh, or set {URL}"));
            return None;
        }
        let licence = if more.is_empty() { "" } else { ", under its Apache licence" };
        used(&format!("TimescaleDB: as WebAssembly{licence}"));
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("bridge.log");
        let mut command = Command::new("node");
        command.arg(root().join("tests/timescale/bridge.mjs")).arg(&modules).args(more).current_dir(directory.path());
        let mut server = Server::spawn("the bridge to TimescaleDB", &mut command, &log);
        let port = wait_for("TimescaleDB to be ready", DEADLINE, || {
            assert!(server.ended().is_none(), "the bridge ended; {}", server.tail());
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let port =
                said.lines().find_map(|line| line.strip_prefix("ready ")).and_then(|port| port.parse::<u16>().ok());
            port.ok_or_else(|| server.tail())
        });
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        Some(Self { url, place: Place::Bridge { _server: server, _directory: directory } })
    }

    /// As clients name it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs one statement.
    pub fn execute(&self, sql: &str) {
        run(&self.url, sql);
    }

    /// The rows of a query, as texts; empty for NULL. The error is the server's.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        query(&self.url, sql)
    }

    /// The number that a query gives.
    pub fn number(&self, sql: &str) -> Result<i64, String> {
        let rows = self.query(sql)?;
        rows.first().and_then(|row| row.first()?.parse().ok()).ok_or_else(|| format!("no number: {rows:?}"))
    }

    /// Runs a job of TimescaleDB's now, as its scheduler would: the one of this kind for this table or aggregate.
    pub fn run_job(&self, kind: &str, of: &str) {
        let job = format!(
            "SELECT j.job_id FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.continuous_aggregates a \
             ON a.materialization_hypertable_name = j.hypertable_name \
             WHERE j.proc_name = '{kind}' AND '{of}' IN (j.hypertable_name, a.view_name)"
        );
        let id = self.number(&job).unwrap_or_else(|error| panic!("no {kind} of {of}: {error}"));
        self.execute(&format!("CALL run_job({id})"));
    }
}

impl Drop for Timescale {
    fn drop(&mut self) {
        if let Place::Elsewhere { database, from } = &self.place {
            // A test that fails is not to hide its reason behind one that cleans up.
            if let Err(error) = query(from, &format!("DROP DATABASE {database} WITH (FORCE)")) {
                eprintln!("the database {database} stays: {error}");
            }
        }
    }
}

fn run(url: &str, sql: &str) {
    query(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn query(url: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let asking = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let talking = tokio::spawn(connection);
        let answer = rows(&client, sql).await;
        drop(client);
        let _ended = talking.await;
        answer
    };
    runtime().block_on(asking).map_err(|error: tokio_postgres::Error| format!("{error:?}"))
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let answer = client.simple_query(sql).await?;
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}
