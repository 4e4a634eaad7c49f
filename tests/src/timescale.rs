//! A real TimescaleDB, with a database of one's own.

use std::fs::File;
use std::io::BufReader;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::machine::{installed, root, runtime};
use crate::proxy::Proxy;
use crate::server::Server;
use crate::servers_run::{missing, skipped, used};
use crate::wait::{DEADLINE, wait_for};

/// The variable that names another TimescaleDB to run the same tests against; its user must be allowed to make databases. TLS is used with
/// `sslmode=require`, as by the host itself.
const URL: &str = "TIDEGATE_TEST_TIMESCALE_URL";
/// The same for one whose configuration says `timescaledb.license = 'apache'`.
const APACHE_URL: &str = "TIDEGATE_TEST_TIMESCALE_APACHE_URL";

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
        Self::elsewhere(URL).or_else(|| Self::bridge(&[]))
    }

    /// One with a scheduler, which the WebAssembly has not.
    pub fn with_scheduler() -> Option<Self> {
        let database = Self::elsewhere(URL);
        if database.is_none() {
            skipped("TimescaleDB's own scheduler", &format!("the WebAssembly has none, set {URL}"));
        }
        database
    }

    /// One under its Apache licence, which is a matter of a server's configuration.
    pub fn under_apache() -> Option<Self> {
        Self::elsewhere(APACHE_URL).or_else(|| Self::bridge(&["apache"]))
    }

    fn elsewhere(variable: &str) -> Option<Self> {
        let from = std::env::var(variable).ok().filter(|from| !from.is_empty())?;
        used(&format!("TimescaleDB: the one of {variable}"));
        let database = format!("tidegate_test_{:016x}", fastrand::u64(..));
        run(&from, &format!("CREATE DATABASE {database}"));
        let url = Url { path: format!("/{database}"), ..Url::of(&from) }.to_string();
        Some(Self { url, place: Place::Elsewhere { database, from } })
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

    /// A line to it, and how clients name it who come by that: under the same host's name, which TLS asks for.
    pub fn by_a_line(&self) -> (Proxy, String) {
        let url = Url::of(&self.url);
        let line = Proxy::to(format!("{}:{}", url.host, url.port));
        let with = if url.query.is_empty() { '?' } else { '&' };
        let query = format!("{}{with}hostaddr=127.0.0.1", url.query);
        let by_it = Url { port: line.port(), query, ..url }.to_string();
        (line, by_it)
    }

    /// Waits until the host has made its jobs, and lets the server's own scheduler rest: from here on they run by [`Self::run_job`], and at no other time.
    /// The WebAssembly has no scheduler.
    pub fn rest_jobs(&self) {
        const MADE: i64 = 5;
        // Those below are TimescaleDB's own.
        let ours = "FROM timescaledb_information.jobs WHERE job_id >= 1000";
        wait_for("the host to make its jobs", DEADLINE, || match self.number(&format!("SELECT count(*) {ours}")) {
            Ok(MADE..) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.execute(&format!("SELECT alter_job(job_id, scheduled => false) {ours}"));
        let running =
            "SELECT count(*) FROM timescaledb_information.job_stats WHERE job_id >= 1000 AND job_status = 'Running'";
        wait_for("jobs that run to end", DEADLINE, || match self.number(running) {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        });
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
        self.execute(&format!("CALL run_job({})", self.job(kind, of)));
    }

    /// Tells the server's scheduler that it is time for a job.
    pub fn job_is_due(&self, kind: &str, of: &str) {
        self.execute(&format!("SELECT alter_job({}, next_start => now())", self.job(kind, of)));
    }

    /// Writes down that a job failed when it last ran, as the server does. Takes a superuser.
    pub fn job_failed(&self, kind: &str, of: &str) {
        let job = self.job(kind, of);
        self.execute(&format!(
            "INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_finish, next_start, last_successful_finish, last_run_success, total_runs, \
             total_duration, total_duration_failures, total_successes, total_failures, total_crashes, consecutive_failures, consecutive_crashes) \
             VALUES ({job}, now(), now(), now(), false, 1, '1 s', '1 s', 0, 1, 0, 1, 0) \
             ON CONFLICT (job_id) DO UPDATE SET last_finish = now(), last_run_success = false"
        ));
    }

    fn job(&self, kind: &str, of: &str) -> i64 {
        let job = format!(
            "SELECT j.job_id FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.continuous_aggregates a \
             ON a.materialization_hypertable_name = j.hypertable_name \
             WHERE j.proc_name = '{kind}' AND '{of}' IN (j.hypertable_name, a.view_name)"
        );
        self.number(&job).unwrap_or_else(|error| panic!("no {kind} of {of}: {error}"))
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

/// The parts of a database's URL of which tests change some.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    /// Scheme, user and password.
    who: String,
    /// The first, if there are several.
    host: String,
    port: u16,
    path: String,
    query: String,
}

impl Url {
    fn of(url: &str) -> Self {
        let scheme = url.find("://").unwrap_or_else(|| panic!("{URL} wants postgres://user@host:port/database")) + 3;
        let query = url.find('?').unwrap_or(url.len());
        let path = url[scheme..query].find('/').map_or(query, |slash| scheme + slash);
        let host = url[scheme..path].rfind('@').map_or(scheme, |at| scheme + at + 1);
        let first = url[host..path].split(',').next().unwrap_or_default();
        assert!(!first.is_empty(), "{URL} names no host: a server's socket has no port for a line");
        // An address of IPv6 has colons within its brackets.
        let (name, port) = match first.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((name, port)) => (name, port.parse().unwrap_or_else(|error| panic!("{URL}: port {port}: {error}"))),
            None => (first, 5432),
        };
        Self {
            who: url[..host].to_owned(),
            host: name.to_owned(),
            port,
            path: url[path..query].to_owned(),
            query: url[query..].to_owned(),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { who, host, port, path, query } = self;
        write!(f, "{who}{host}:{port}{path}{query}")
    }
}

fn run(url: &str, sql: &str) {
    query(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn query(url: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let config: Config = url.parse().map_err(|error| format!("{error:?}"))?;
    let asking = async {
        match config.get_ssl_mode() {
            SslMode::Require => asked(&config, tls(), sql).await,
            _ => asked(&config, NoTls, sql).await,
        }
    };
    runtime().block_on(asking).map_err(|error| format!("{error:?}"))
}

async fn asked<T>(config: &Config, tls: T, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static>,
{
    let (client, connection) = config.connect(tls).await?;
    let talking = tokio::spawn(connection);
    let answer = rows(&client, sql).await;
    drop(client);
    let _ended = talking.await;
    answer
}

/// Trusts whom the system trusts, as the host does where nothing else is said.
fn tls() -> MakeRustlsConnect {
    const BUNDLES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let mut roots = RootCertStore::empty();
    let bundle = BUNDLES.iter().find_map(|path| File::open(path).ok()).expect("certificates that the system trusts");
    roots.add_parsable_certificates(rustls_pemfile::certs(&mut BufReader::new(bundle)).flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: whatever of a URL a server's owner left out or wrote, its host and port are found, and what is put in its place keeps all the rest.
    #[test]
    fn urls_of_every_kind() {
        for (url, host, port, path, query) in [
            ("postgres://u@127.0.0.1:5433/postgres", "127.0.0.1", 5433, "/postgres", ""),
            ("postgres://u@db.example", "db.example", 5432, "", ""),
            ("postgresql://u:p%40:w@db.example/a?sslmode=require", "db.example", 5432, "/a", "?sslmode=require"),
            ("postgres://u@[::1]/a", "[::1]", 5432, "/a", ""),
            ("postgres://u@[::1]:7/a", "[::1]", 7, "/a", ""),
            ("postgres://u@a:1,b:2/d?application_name=x/y", "a", 1, "/d", "?application_name=x/y"),
        ] {
            let found = Url::of(url);
            assert_eq!((&*found.host, found.port, &*found.path, &*found.query), (host, port, path, query), "{url}");
            let other = Url { port: 9, path: "/other".into(), ..found }.to_string();
            let user = url.split_once("://").unwrap().1.rsplit_once('@').unwrap().0;
            assert!(other.contains(&format!("://{user}@{host}:9/other{query}")), "{url} → {other}");
        }
    }
}
