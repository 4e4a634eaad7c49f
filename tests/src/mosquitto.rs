//! A mosquitto of one's own.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::machine::{free_port, is_root, program};
use crate::server::{Server, Signal};
use crate::servers_run::used;
use crate::wait::{DEADLINE, wait_for};

/// mosquitto on a port of 127.0.0.1, with persistence, so that it can go and come back with its sessions.
#[derive(Debug)]
pub struct Mosquitto {
    /// Before the directory, so that it ends first.
    server: Server,
    program: PathBuf,
    directory: TempDir,
    port: u16,
}

impl Mosquitto {
    /// None, loudly, where mosquitto is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with lines of one's own in its configuration.
    pub fn start_with(lines: &str) -> Option<Self> {
        let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = program("mosquitto", "mosquitto", &places)?;
        used("MQTT: mosquitto");
        let mut last = String::new();
        for _ in 0..5 {
            let (directory, port) = (TempDir::new().unwrap(), free_port());
            let home = directory.path().display();
            let user = if is_root() { "user root\n" } else { "" };
            // Without these limits it drops what a slow client has not taken yet, and a test would see loss that is not ours.
            let config = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n{user}\
                 max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 200\n\
                 persistence true\npersistence_location {home}/\n\
                 log_dest stdout\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n{lines}\n"
            );
            std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
            let server = spawn(&program, &directory);
            let mut broker = Self { server, program: program.clone(), directory, port };
            match broker.listens() {
                Ok(()) => return Some(broker),
                Err(log) => last = log,
            }
        }
        panic!("mosquitto did not start in five attempts; {last}");
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As clients name it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Ends it in order: it writes its sessions to disk.
    pub fn stop(&mut self) {
        self.server.signal(Signal::Term);
        self.server.wait(DEADLINE);
    }

    /// Ends it as a failing machine would: what it held in memory is gone.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Asks it to write its sessions and messages to disk now; it goes on, and does so when it comes to it.
    pub fn save(&self) {
        self.server.signal(Signal::Usr1);
    }

    /// What it has on disk of sessions and messages, payloads as they are; what it would start again with. It replaces this file
    /// whole, or not at all.
    pub fn on_disk(&self) -> Vec<u8> {
        match std::fs::read(self.directory.path().join("mosquitto.db")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("what mosquitto keeps cannot be read: {error}"),
        }
    }

    /// Waits until it keeps nothing with that payload any more: all who had it have acknowledged it.
    pub fn wait_forgotten(&self, payload: &[u8]) {
        wait_for("the broker to forget what was acknowledged", DEADLINE, || {
            self.save();
            let kept = self.on_disk().windows(payload.len()).any(|bytes| bytes == payload);
            if kept { Err("it is kept") } else { Ok(()) }
        });
    }

    /// Starts it again, on the same port, with what it has on disk.
    pub fn start_again(&mut self) {
        self.server = spawn(&self.program, &self.directory);
        self.listens().unwrap_or_else(|log| panic!("mosquitto did not start again; {log}"));
    }

    /// Waits until it listens; the end of its log if it ends instead.
    fn listens(&mut self) -> Result<(), String> {
        let port = self.port;
        wait_for("mosquitto to listen", DEADLINE, || {
            if self.server.ended().is_some() {
                return Ok(Err(self.server.tail()));
            }
            TcpStream::connect(("127.0.0.1", port)).map(|_| Ok(()))
        })
    }
}

fn spawn(program: &PathBuf, directory: &TempDir) -> Server {
    let mut command = Command::new(program);
    command.arg("-c").arg(directory.path().join("mosquitto.conf"));
    Server::spawn("mosquitto", &mut command, &directory.path().join("mosquitto.log"))
}
