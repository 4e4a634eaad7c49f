//! A mosquitto of the test's own, on a free port of 127.0.0.1, gone with the test.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_config::{MqttEndpoint, MqttVersion};

/// A running broker, or one that was stopped and may be started again.
pub struct Mosquitto {
    program: PathBuf,
    dir: TempDir,
    pub port: u16,
    broker: Option<Child>,
}

impl Mosquitto {
    /// A broker that is not running yet; `None`, said aloud, where mosquitto is not installed.
    pub fn stopped(more: &str) -> Option<Self> {
        let places = [
            "/usr/sbin/mosquitto",
            "/usr/local/sbin/mosquitto",
            "/usr/bin/mosquitto",
            "/opt/homebrew/sbin/mosquitto",
        ];
        let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
            crate::missing("mosquitto");
            return None;
        };
        crate::servers_run::used("MQTT: mosquitto");
        let dir = tempfile::tempdir().unwrap();
        let port = crate::free_port();
        let config =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n{more}\n");
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        Some(Self { program: program.to_owned(), dir, port, broker: None })
    }

    /// A running broker.
    pub fn start() -> Option<Self> {
        let mut broker = Self::stopped("")?;
        broker.run();
        Some(broker)
    }

    /// Starts it, or starts it again.
    pub fn run(&mut self) {
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.broker = Some(child);
        crate::wait_for("mosquitto to listen", || {
            TcpStream::connect(("127.0.0.1", self.port)).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            broker.kill().unwrap();
            broker.wait().unwrap();
        }
    }

    /// How to reach it.
    pub fn endpoint(&self, client_id: &str, version: MqttVersion) -> MqttEndpoint {
        MqttEndpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: None,
            version,
            client_id: client_id.to_owned(),
            username: None,
            password: None,
            keep_alive: Duration::from_secs(30),
            max_packet_bytes: 1 << 20,
        }
    }

    /// A file in its directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
