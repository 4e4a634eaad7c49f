//! A PostgreSQL as it comes, but with room for its log, so that no checkpoint falls into one measurement and not into the other.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tidegate_config::{Secret, TimescaleSink};

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    directory: TempDir,
    port: u16,
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Result<Self> {
        let bin = installed().context("PostgreSQL is not installed; run deploy/dev/setup.sh")?;
        let directory = tempfile::Builder::new().prefix("tidegate-pg").tempdir()?;
        // PostgreSQL refuses to run as root.
        let user = match fs::metadata(directory.path())?.uid() {
            0 => Some(user("postgres").context("there is no user postgres to run PostgreSQL as, and root must not")?),
            _ => None,
        };
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut postgres = Self { bin, directory, port: super::free_port()?, user, server: None };
        let initdb = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"];
        let made = postgres.command("initdb").args(initdb).arg(postgres.data()).output()?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        postgres.resume()?;
        postgres.wait()?;
        Ok(postgres)
    }

    /// Starts the server of the cluster, without waiting until it answers.
    pub fn resume(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("log"))?;
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h"])
            .stderr(log)
            .spawn()?;
        self.server = Some(server);
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        super::wait_for("PostgreSQL", || {
            let port = self.port.to_string();
            Ok(self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port]).status()?.success())
        })
    }

    /// Ends the server as a crash would: it has to recover when it is [resumed](Self::resume).
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            // pg_ctl takes the server's children along; a kill would leave them to find out.
            let _ = self.command("pg_ctl").args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.data()).status();
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// The settings of a sink for it, as a configuration has them when nothing is said.
    pub fn settings(&self) -> TimescaleSink {
        TimescaleSink::new(Secret::new(format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)))
    }

    /// Runs psql's commands, each an argument `-c`, and gives what it prints: unaligned, rows only.
    pub fn psql(&self, commands: &[&str]) -> Result<String> {
        self.start_psql(commands)?.wait_with_output().map_err(Into::into).and_then(|output| printed(output, commands))
    }

    /// As many psqls as there are lists of commands, which begin together once all are connected; gives the seconds from the first
    /// beginning to the last end, by the server's clock: without their start.
    pub fn psql_together(&self, each: &[Vec<String>]) -> Result<f64> {
        const TIME: &str = "select 'at ' || extract(epoch from clock_timestamp())";
        let start = self.psql(&["select extract(epoch from clock_timestamp()) + 0.5"])?;
        let wait = format!("select pg_sleep(greatest(0, {} - extract(epoch from clock_timestamp())))", start.trim());
        let sessions = each.iter().map(|commands| {
            let all: Vec<&str> =
                [&wait, TIME].into_iter().chain(commands.iter().map(String::as_str)).chain([TIME]).collect();
            self.start_psql(&all)
        });
        let sessions = sessions.collect::<Result<Vec<Child>>>()?;
        let (mut began, mut ended) = (f64::INFINITY, 0.0_f64);
        for (session, commands) in sessions.into_iter().zip(each) {
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            let said = printed(session.wait_with_output()?, &commands)?;
            let times = said.lines().filter_map(|line| line.strip_prefix("at ")?.parse::<f64>().ok());
            for time in times {
                (began, ended) = (began.min(time), ended.max(time));
            }
        }
        ensure!(ended > began, "psql told no times");
        Ok(ended - began)
    }

    fn start_psql(&self, commands: &[&str]) -> Result<Child> {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-d", "postgres"]);
        for command in commands {
            psql.args(["-c", command]);
        }
        Ok(psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// A directory that the server's user may write to.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.directory.path()).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

fn printed(Output { status, stdout, stderr }: Output, commands: &[&str]) -> Result<String> {
    if !status.success() {
        bail!("psql failed at {commands:?}: {}", String::from_utf8_lossy(&stderr));
    }
    Ok(String::from_utf8(stdout)?)
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
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
