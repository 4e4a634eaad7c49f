//! A PgBouncer of the test's own, in transaction mode: every transaction may get another connection to the server.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidegate_config::{Secret, TimescaleSink};

use crate::postgres::Postgres;

/// A running pooler with two connections to the server.
pub struct PgBouncer {
    server: Child,
    port: u16,
    /// Its configuration.
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts one in front of `postgres`; `None`, said aloud, where it is not installed.
    pub fn start(postgres: &Postgres) -> Option<Self> {
        let found =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|path| path.exists());
        let Some(program) = found else {
            crate::missing("PgBouncer");
            return None;
        };
        crate::servers_run::used("PgBouncer");
        let directory = tempfile::Builder::new().prefix("tidegate-pgbouncer").tempdir().unwrap();
        let port = crate::free_port();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let users = file("users.txt", "\"postgres\" \"\"\n".to_owned());
        let config = file(
            "pgbouncer.ini",
            format!(
                "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\nmin_pool_size = 2\n",
                postgres.port(),
                users.display()
            ),
        );
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.arg(&config).current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // It refuses to run as root, as PostgreSQL does.
        if let Some((uid, gid)) = postgres.user() {
            for path in [directory.path(), &users, &config] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let mut server = command.spawn().unwrap();
        crate::wait_for("PgBouncer to listen", || {
            let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            assert!(server.try_wait().unwrap().is_none(), "PgBouncer ended: {}", log());
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| format!("{error}; {}", log()))
        });
        Some(Self { server, port, _directory: directory })
    }

    /// The settings of a sink that comes through it.
    pub fn settings(&self) -> TimescaleSink {
        TimescaleSink::new(Secret::new(format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)))
    }

    /// Nobody has left a prepared statement in a pooled session. Asked through the pooler, so in the very sessions that were used; both of them, as two
    /// transactions stand open at once.
    pub async fn assert_nothing_prepared(&self, server: &Postgres) {
        let (mut one, mut other) =
            (server.client_by(&self.settings()).await, server.client_by(&self.settings()).await);
        let (one, other) = (one.transaction().await.unwrap(), other.transaction().await.unwrap());
        for transaction in [&one, &other] {
            let none = transaction.simple_query("SELECT name, statement FROM pg_prepared_statements").await.unwrap();
            assert!(!none.iter().any(|m| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_))), "{none:?}");
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
