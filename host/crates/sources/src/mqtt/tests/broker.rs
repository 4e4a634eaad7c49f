//! A mosquitto of our own, and a publisher.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tempfile::TempDir;

use crate::testing::DEADLINE;

/// mosquitto on a port of 127.0.0.1, with persistence, so that it can be stopped and started.
pub(super) struct Broker {
    dir: TempDir,
    pub(super) port: u16,
    child: Child,
}

impl Broker {
    /// None, loudly, where mosquitto is not installed; a failure where the environment demands it.
    pub(super) fn start() -> Option<Self> {
        let Some(program) = program() else {
            assert!(
                std::env::var_os("TIDEGATE_REQUIRE_SERVERS").is_none_or(|v| v != "1"),
                "mosquitto is not installed, and TIDEGATE_REQUIRE_SERVERS=1"
            );
            eprintln!("SKIPPED: mosquitto is not installed, so nothing was tested against a real broker");
            return None;
        };
        // Another process may take a port between our look and mosquitto's; then another one will do.
        for _ in 0..10 {
            let dir = TempDir::new().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let home = dir.path().display();
            let config = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 200\n\
                 persistence true\npersistence_location {home}/\nuser root\nlog_dest file {home}/log\n"
            );
            std::fs::write(dir.path().join("conf"), config).unwrap();
            let mut broker = Self { child: spawn(&program, &dir), dir, port };
            if broker.is_ready() {
                return Some(broker);
            }
        }
        panic!("mosquitto did not start in ten attempts");
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
        self.child = spawn(&program().unwrap(), &self.dir);
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
        tokio::time::timeout(DEADLINE, async { tokio::join!(sending, polling) }).await.expect("publishing should end");
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

fn program() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"].map(PathBuf::from).into_iter().find(|p| p.exists())
}

fn spawn(program: &PathBuf, dir: &TempDir) -> Child {
    let config = dir.path().join("conf");
    Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
