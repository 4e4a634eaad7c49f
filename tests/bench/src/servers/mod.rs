//! Servers of the bench's own: on free ports of 127.0.0.1, in temporary directories, gone when they are dropped.

pub mod mosquitto;
pub mod postgres;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until the server answers; `ready` gives an error when it never will.
fn wait_for(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !ready()? {
        if Instant::now() >= deadline {
            bail!("{what} did not answer within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
