//! A process of this same program, and the lines it says.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::feeder::Feed;
use super::publisher::Publish;
use super::wire::Qos;

/// How long a process may take to say the next line.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs until it is dropped: then it is killed, if it has not ended.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    /// At most two lines ever wait here.
    lines: Receiver<String>,
}

impl Process {
    /// A feeder, and the port it listens on.
    pub fn feeder(feed: Feed) -> Result<(Self, u16)> {
        let process = Self::start(&[
            "feed",
            "--messages",
            &feed.messages.to_string(),
            "--version",
            feed.version.as_str(),
            "--qos",
            level(feed.qos),
            "--window",
            &feed.window.to_string(),
            "--hundredth",
            feed.hundredth.name(),
        ])?;
        let line = process.line()?;
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        Ok((process, port.with_context(|| format!("the feeder said {line:?}"))?))
    }

    /// A publisher that is connected and waits for [`Process::go`].
    pub fn publisher(publish: Publish) -> Result<Self> {
        let process = Self::start(&[
            "publish",
            "--port",
            &publish.port.to_string(),
            "--messages",
            &publish.messages.to_string(),
            "--qos",
            level(publish.qos),
            "--window",
            &publish.window.to_string(),
        ])?;
        process.says("ready")?;
        Ok(process)
    }

    /// Any part of this program.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {arguments:?}"))?;
        let output = child.stdout.take().context("a process without output")?;
        let (to, lines) = channel();
        std::thread::Builder::new().name("lines".into()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { input: child.stdin.take(), child, lines })
    }

    /// Lets a publisher begin.
    pub fn go(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("a process without input")?;
        input.write_all(b"go\n").context("the publisher has gone")
    }

    /// Waits for this line.
    pub fn says(&self, due: &str) -> Result<()> {
        let line = self.line()?;
        if line == due { Ok(()) } else { bail!("a process was to say {due:?} and said {line:?}") }
    }

    /// The next line it says.
    pub fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("a process of the bench ended, or said nothing for two minutes")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const fn level(qos: Qos) -> &'static str {
    match qos {
        Qos::AtMostOnce => "0",
        Qos::AtLeastOnce => "1",
    }
}
