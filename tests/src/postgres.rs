//! A PostgreSQL of one's own.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::machine::{account, free_port, is_root, postgresql_directories, program, runtime};
use crate::message::Row;
use crate::server::{Server, Signal};
use crate::servers_run::used;
use crate::store::AlertRow;
use crate::wait::{DEADLINE, wait_for};

/// The most points fetched at a time.
const FETCH: i32 = 50_000;

/// PostgreSQL on a port of 127.0.0.1, with an empty database and a superuser `tidegate` who needs no password.
#[derive(Debug)]
pub struct Postgres {
    /// Before the directory, so that it ends first. None while it is stopped.
    server: Option<Server>,
    programs: String,
    directory: TempDir,
    port: u16,
}

impl Postgres {
    /// None, loudly, where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let mut postgres = Self::prepare()?;
        postgres.start_again();
        Some(postgres)
    }

    /// One that does not run yet.
    pub fn prepare() -> Option<Self> {
        let directories = postgresql_directories();
        let servers: Vec<String> = directories.iter().map(|directory| format!("{directory}/postgres")).collect();
        let places: Vec<&str> = servers.iter().map(String::as_str).chain(["/usr/bin/postgres"]).collect();
        let found = program("PostgreSQL", "postgresql", &places)?;
        used("PostgreSQL");
        let programs = found.parent().unwrap().to_string_lossy().into_owned();
        let directory = TempDir::new().unwrap();
        if let Some((user, group)) = someone_else() {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let postgres = Self { server: None, programs, directory, port: free_port() };
        let mut initdb = postgres.command("initdb");
        initdb.arg("-D").arg(postgres.data()).args([
            "-U",
            "tidegate",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]);
        let made = initdb.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        Some(postgres)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As clients name it.
    pub fn url(&self) -> String {
        self.url_by(self.port)
    }

    /// As clients name it who come by another port, such as a [`crate::Proxy`]'s.
    pub fn url_by(&self, port: u16) -> String {
        format!("postgres://tidegate@127.0.0.1:{port}/postgres")
    }

    /// Ends it without order, as a failing machine would.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::Quit);
            server.wait(DEADLINE);
        }
    }

    /// SIGKILL for the server and every process it has: they end where they stand.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let parent = server.pid();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        server.kill();
        // They lead sessions of their own, so that no signal to a group reaches them; each ends by itself when it sees that
        // its parent is gone, and a server does not start again before.
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).stderr(Stdio::null()).status();
            wait_for("a process of PostgreSQL to end", DEADLINE, || {
                let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                if status.is_empty() || status.contains(") Z ") { Ok(()) } else { Err(status) }
            });
        }
    }

    /// Starts it, on the same port as ever, and waits until it answers.
    pub fn start_again(&mut self) {
        let socket = self.directory.path().to_string_lossy().into_owned();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k", &socket]);
        // The machine does not lose its power here; what a crash of the server loses, it loses with fsync too.
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=20", "shared_buffers=32MB"] {
            command.args(["-c", setting]);
        }
        let log = self.directory.path().join("postgres.log");
        let mut server = Server::spawn("PostgreSQL", &mut command, &log);
        wait_for("PostgreSQL to answer", DEADLINE, || {
            assert!(server.ended().is_none(), "PostgreSQL ended; {}", server.tail());
            self.connect().map(drop).map_err(|error| format!("{error}; {}", server.tail()))
        });
        self.server = Some(server);
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        let client = self.connect().unwrap();
        runtime().block_on(client.batch_execute(sql)).unwrap();
    }

    /// The first column of the first row; None where there is no such table yet.
    pub fn number(&self, sql: &str) -> Result<i64, String> {
        let client = self.connect()?;
        let answer = runtime().block_on(client.simple_query(sql)).map_err(|error| format!("{error:?}"))?;
        let rows = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        rows.and_then(|text| text.parse().ok()).ok_or_else(|| "no number".to_owned())
    }

    /// The points, in no order.
    pub fn rows(&self) -> Vec<Row> {
        let mut all = Vec::new();
        self.each_row(|row| all.push(row));
        all
    }

    /// Calls `each` with every point, in no order; however many there are, few are held at a time.
    pub fn each_row(&self, mut each: impl FnMut(Row)) {
        let mut client = self.connect().unwrap();
        let sql = "SELECT topic, (extract(epoch FROM time) * 1000000)::bigint, value, value_str, quality, unit FROM metrics";
        let row = |row: &tokio_postgres::Row| Row {
            topic: row.get(0),
            time_us: Some(row.get(1)),
            value: row.get::<_, Option<f64>>(2).map(f64::to_bits),
            text: row.get(3),
            quality: row.get::<_, i16>(4).into(),
            unit: row.get(5),
        };
        runtime().block_on(async {
            let reading = client.transaction().await.unwrap();
            let points = match reading.bind(sql, &[]).await {
                Ok(points) => points,
                // A host that has not written yet has made no table.
                Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE) => return,
                Err(error) => panic!("{error}"),
            };
            loop {
                let rows = reading.query_portal(&points, FETCH).await.unwrap();
                rows.iter().map(row).for_each(&mut each);
                if rows.is_empty() {
                    return;
                }
            }
        });
    }

    /// The alerts, in the order they happened.
    pub fn alerts(&self) -> Result<Vec<AlertRow>, String> {
        let client = self.connect()?;
        let sql = "SELECT rule, topic, transition, severity, value, message FROM alerts ORDER BY time";
        let rows = runtime().block_on(client.query(sql, &[])).map_err(|error| format!("{error:?}"))?;
        let alert = |row: &tokio_postgres::Row| AlertRow {
            rule: row.get(0),
            topic: row.get(1),
            transition: row.get(2),
            severity: row.get(3),
            value: row.get(4),
            message: row.get(5),
        };
        Ok(rows.iter().map(alert).collect())
    }

    fn connect(&self) -> Result<Client, String> {
        let settings = format!("{}?connect_timeout={}", self.url(), DEADLINE.as_secs());
        runtime().block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&settings, NoTls).await.map_err(|error| format!("{error:?}"))?;
            tokio::spawn(connection);
            Ok(client)
        })
    }

    /// One of its programs, as a user it agrees to run as, in a directory that user may stand in.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(&self.programs).join(name));
        command.current_dir(self.directory.path());
        if let Some((user, group)) = someone_else() {
            command.uid(user).gid(group);
        }
        command
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its own way, so that its children end too; the kill of `Server` is for when that does not help.
        if let Some(server) = &mut self.server {
            server.signal(Signal::Int);
            if !std::thread::panicking() {
                server.wait(DEADLINE);
            }
        }
    }
}

/// PostgreSQL refuses to run as root.
fn someone_else() -> Option<(u32, u32)> {
    is_root().then(|| account("postgres").or_else(|| account("nobody")).expect("an account that is not root"))
}
