//! A child process, its log, and its end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::wait_for;

/// The most of a log that a failing test shows, in bytes.
const TAIL: u64 = 16 << 10;

/// A server that ends with this value.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    reach: Reach,
}

/// What ends with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The process alone.
    Process,
    /// The process and what it has started.
    Group,
}

/// What a process is told.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// End in order.
    Term,
    /// As Ctrl-C does: end in order. For PostgreSQL: end now, close connections.
    Int,
    /// For PostgreSQL: end without order, as if the power had failed.
    Quit,
    /// For mosquitto: write what is kept to disk.
    Usr1,
}

impl Server {
    /// Starts `command`; what it prints is appended to `log`.
    pub fn spawn(name: &'static str, command: &mut Command, log: &Path) -> Self {
        Self::begin(name, command, log, Reach::Process)
    }

    /// The same for a program that starts others, which are to end with it.
    pub fn spawn_group(name: &'static str, command: &mut Command, log: &Path) -> Self {
        Self::begin(name, command.process_group(0), log, Reach::Group)
    }

    fn begin(name: &'static str, command: &mut Command, log: &Path, reach: Reach) -> Self {
        let open = || File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(open()).stderr(open()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log: log.to_owned(), reach }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let flag = match signal {
            Signal::Term => "-TERM",
            Signal::Int => "-INT",
            Signal::Quit => "-QUIT",
            Signal::Usr1 => "-USR1",
        };
        // One that has ended already hears nothing.
        let _ = Command::new("kill").args([flag, &self.pid().to_string()]).stderr(Stdio::null()).status().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let (name, log) = (self.name, self.log.clone());
        wait_for(&format!("the end of {name}"), deadline, || self.ended().ok_or_else(|| tail(&log)))
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        if self.reach == Reach::Group {
            let group = format!("-{}", self.pid());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => format!("its log ends so:\n{text}"),
        Err(error) => format!("its log cannot be read: {error}"),
    }
}
