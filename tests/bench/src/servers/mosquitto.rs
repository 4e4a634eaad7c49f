//! A mosquitto that drops nothing.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A running broker.
pub struct Mosquitto {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Mosquitto {
    /// Starts one; tries again where somebody else took its port first.
    pub fn start() -> Result<Self> {
        let program = program().context("mosquitto is not installed; run deploy/dev/setup.sh")?;
        let mut last = None;
        for _ in 0..3 {
            match Self::try_start(&program) {
                Ok(broker) => return Ok(broker),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("never tried")?.context("mosquitto did not start in three attempts"))
    }

    fn try_start(program: &PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = super::free_port()?;
        let config = directory.path().join("conf");
        std::fs::write(
            &config,
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 200\nmax_queued_messages 0\n\
                 persistence false\nset_tcp_nodelay true\nlog_type error\nlog_dest stderr\n"
            ),
        )?;
        let child =
            Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut broker = Self { child, port, _directory: directory };
        super::wait_for("mosquitto", || {
            if let Some(status) = broker.child.try_wait()? {
                bail!("mosquitto ended at once: {status}");
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(broker)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    places.map(|place| PathBuf::from(place).join("mosquitto")).into_iter().find(|program| program.exists())
}
