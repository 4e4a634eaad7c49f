//! A mosquitto of our own, and a publisher.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tempfile::TempDir;
use tidegate_config::Tls;

use crate::servers_run::{missing, used};
use crate::testing::DEADLINE;

/// mosquitto on a port of 127.0.0.1, with persistence, so that it can be stopped and started.
pub(super) struct Broker {
    dir: TempDir,
    pub(super) port: u16,
    /// 0 without TLS.
    pub(super) tls_port: u16,
    child: Child,
}

impl Broker {
    /// None, loudly, where mosquitto is not installed; a failure where the environment demands it.
    pub(super) fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// With a second listener that speaks TLS, as `localhost`, and demands a certificate.
    pub(super) fn start_tls() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(tls: bool) -> Option<Self> {
        let program = required("mosquitto")?;
        used("MQTT: mosquitto");
        // Another process may take a port between our look and mosquitto's; then another one will do.
        for _ in 0..10 {
            let dir = TempDir::new().unwrap();
            let (port, tls_port) = (free_port(), if tls { free_port() } else { 0 });
            let home = dir.path().display();
            let mut config = format!(
                "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 200\nuser root\n\
                 persistence true\npersistence_location {home}/\nlog_dest file {home}/log\nlistener {port} 127.0.0.1\n"
            );
            if tls {
                make_certificates(dir.path())?;
                write!(
                    config,
                    "listener {tls_port} 127.0.0.1\ncafile {home}/ca.pem\ncertfile {home}/broker.pem\n\
                     keyfile {home}/broker.key\nrequire_certificate true\n"
                )
                .unwrap();
            }
            std::fs::write(dir.path().join("conf"), config).unwrap();
            let mut broker = Self { child: spawn(&program, &dir), dir, port, tls_port };
            if broker.is_ready() {
                return Some(broker);
            }
        }
        panic!("mosquitto did not start in ten attempts");
    }

    /// How to speak TLS to it.
    pub(super) fn tls(&self) -> Tls {
        let file = |name| Some(self.dir.path().join(name));
        Tls { ca_file: file("ca.pem"), cert_file: file("client.pem"), key_file: file("client.key") }
    }

    fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Stops it in order, so that it writes its sessions to disk.
    pub(super) fn stop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port with the same sessions.
    pub(super) fn restart(&mut self) {
        self.child = spawn(&required("mosquitto").unwrap(), &self.dir);
        assert!(self.is_ready(), "mosquitto did not start again");
    }

    /// Publishes all of these and waits until the broker has them. (topic, payload, retain)
    pub(super) async fn publish(&self, qos: QoS, messages: &[(String, String, bool)]) {
        let id = format!("publisher-{}", fastrand::u64(..));
        let (client, mut eventloop) = AsyncClient::new(MqttOptions::new(id, "127.0.0.1", self.port), 64);
        let sent = messages.to_vec();
        let sending = async move {
            for (topic, payload, retain) in sent {
                client.publish(topic, qos, retain, payload).await.unwrap();
            }
            client.disconnect().await.unwrap();
        };
        let expected = if qos == QoS::AtMostOnce { 0 } else { messages.len() };
        let polling = async {
            let (mut acknowledged, mut left) = (0, false);
            while acknowledged < expected || !left {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => acknowledged += 1,
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => left = true,
                    Ok(_) => {}
                    // After DISCONNECT the broker hangs up, before or after the last PUBACK was read.
                    Err(error) => {
                        assert!(left, "publishing failed: {error}");
                        break;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, async { tokio::join!(sending, polling) })
            .await
            .expect("publishing should end");
    }

    /// Publishes numbered payloads on one topic, one connection.
    pub(super) async fn publish_numbers(&self, qos: QoS, topic: &str, numbers: std::ops::Range<u32>) {
        let messages: Vec<_> = numbers.map(|n| (topic.to_owned(), number(n), false)).collect();
        self.publish(qos, &messages).await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have been stopped by the test.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A payload that sorts as its number does.
pub(super) fn number(n: u32) -> String {
    format!("{n:06}")
}

/// A port that was free a moment ago, and not one of those that the system gives to whoever connects: a broker comes back to it.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(1_000).find(free).expect("a free port")
}

/// Where a program is. None, loudly, where it is not installed; a failure where the environment demands it.
fn required(program: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(|dir| PathBuf::from(dir).join(program));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        missing(program, "not installed");
    }
    found
}

/// An authority, and certificates of the broker and of a client that it signed.
fn make_certificates(dir: &Path) -> Option<()> {
    let openssl = required("openssl")?;
    let run = |args: String| {
        let done = Command::new(&openssl).current_dir(dir).args(args.split(' ')).output().unwrap();
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    for (name, subject) in [("broker", "localhost"), ("client", "tidegate")] {
        std::fs::write(dir.join("names"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
        run(format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
        run(format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
        ));
    }
    Some(())
}

fn spawn(program: &PathBuf, dir: &TempDir) -> Child {
    let config = dir.path().join("conf");
    Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
