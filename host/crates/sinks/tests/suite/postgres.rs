//! A PostgreSQL of the test's own: in a temporary directory, on a free port of 127.0.0.1, gone with the test.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidegate_config::{Secret, TimescaleSink};
use tokio_postgres::{Client, NoTls};

/// A running server, or one that was stopped and may be started again.
pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    port: u16,
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Postgres {
    /// Starts one; `None`, said aloud, where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let Some(bin) = installed() else {
            crate::missing("PostgreSQL");
            return None;
        };
        crate::servers_run::used("PostgreSQL");
        let dir = tempfile::Builder::new().prefix("tidegate-pg").tempdir().unwrap();
        // PostgreSQL refuses to run as root.
        let root = fs::metadata(dir.path()).unwrap().uid() == 0;
        let user = root.then(|| user("postgres").expect("root needs the user postgres to run PostgreSQL as"));
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut postgres = Self { bin, dir, port: crate::free_port(), user, server: None };
        let data = postgres.data();
        let made = postgres
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.restart();
        Some(postgres)
    }

    /// Starts the server again after [`Postgres::crash`].
    pub fn restart(&mut self) {
        assert!(self.server.is_none(), "still running");
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.dir.path())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(child);
        crate::wait_for("PostgreSQL to answer", || {
            let ready =
                self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status();
            if ready.unwrap().success() {
                return Ok(());
            }
            Err(fs::read_to_string(self.dir.path().join("log")).unwrap_or_default())
        });
    }

    /// Stops it as a crash would: all connections break, nothing is finished.
    pub fn crash(&mut self) {
        let mut server = self.server.take().unwrap();
        let stopped =
            self.command("pg_ctl").args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.data()).status().unwrap();
        assert!(stopped.success());
        server.wait().unwrap();
    }

    /// Turns TLS on, with a certificate for `localhost` that signs itself, and gives the file it is in; `None`, said aloud, where there
    /// is no openssl to make one.
    pub fn with_tls(&mut self) -> Option<PathBuf> {
        let made = self
            .command("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "data/server.key", "-out", "data/server.crt"])
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            crate::missing("openssl");
            return None;
        }
        self.crash();
        let mut config = fs::File::options().append(true).open(self.data().join("postgresql.conf")).unwrap();
        std::io::Write::write_all(&mut config, b"\nssl = on\n").unwrap();
        self.restart();
        let certificate = self.dir.path().join("server.crt");
        fs::copy(self.data().join("server.crt"), &certificate).unwrap();
        Some(certificate)
    }

    /// Has it ask this user for a password, from the next start on.
    pub fn ask_for_password(&self, user: &str) {
        let path = self.data().join("pg_hba.conf");
        let rest = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("host all {user} 127.0.0.1/32 scram-sha-256\n{rest}")).unwrap();
    }

    /// The settings of a sink for it, as `user`.
    pub fn settings(&self, user: &str) -> TimescaleSink {
        TimescaleSink::new(Secret::new(format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whom it runs as, where not as ourselves.
    pub fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Adds a line to its configuration, which it reads when it starts.
    pub fn set(&self, line: &str) {
        // What ALTER SYSTEM has set counts more than the file that people edit.
        let auto = self.data().join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&auto).unwrap();
        text += &format!("{line}\n");
        fs::write(auto, text).unwrap();
    }

    /// A connection of the test itself, as superuser.
    pub async fn client(&self) -> Client {
        self.client_by(&self.settings("postgres")).await
    }

    /// The same the way that a sink would come.
    pub async fn client_by(&self, settings: &TimescaleSink) -> Client {
        let (client, connection) = tokio_postgres::connect(settings.url.reveal(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let ours = self.bin.join(program);
        let mut command = Command::new(if ours.exists() { ours } else { PathBuf::from(program) });
        command.current_dir(self.dir.path()).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // SIGQUIT through pg_ctl takes the server's children along; SIGKILL would leave them to find out.
            let _ = self.command("pg_ctl").args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.data()).status();
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The newest installed version, where Debian puts it, else on the PATH.
fn installed() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    versions.into_iter().rev().chain(on_path.into_iter().flatten()).find(|bin| bin.join("initdb").exists())
}

/// The user's and the group's number, from the file that says so.
fn user(name: &str) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
