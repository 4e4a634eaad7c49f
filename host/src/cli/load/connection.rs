//! Connections to the broker, and what has passed over them.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rumqttc::{
    AsyncClient, ClientError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

/// How long a broker may take to answer at the begin.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait before connecting anew.
const RECONNECT: Duration = Duration::from_secs(1);
/// Messages made and not yet written, of one connection: enough for what is due in a few milliseconds.
const QUEUE: usize = 1024;
/// Unacknowledged messages, over all connections; rumqttc keeps a table of so many.
const IN_FLIGHT: u16 = 40_000;

/// What has passed over all connections. Written by their tasks, read by progress and report.
#[derive(Default)]
pub struct Traffic {
    /// Messages written to sockets.
    pub written: AtomicU64,
    /// Messages acknowledged by the broker.
    pub acked: AtomicU64,
    /// Messages of them that are garbage.
    pub garbage: AtomicU64,
}

/// Where the broker is and how to get in.
pub struct Broker {
    host: String,
    port: u16,
    transport: Transport,
    credentials: Option<(String, String)>,
}

impl Broker {
    /// From a URL and what goes with it.
    pub fn new(
        url: &str,
        username: Option<String>,
        password: Option<String>,
        ca_file: &Path,
    ) -> anyhow::Result<Self> {
        let example = "write --url mqtt://host:1883, or mqtts://host:8883 for TLS";
        // The text is not repeated: a password may stand in it.
        let parsed = Url::parse(url).with_context(|| format!("--url is no URL; {example}"))?;
        let host = parsed
            .host_str()
            .filter(|host| !host.is_empty())
            .with_context(|| format!("--url has no host; {example}"))?;
        let (port, transport) = match parsed.scheme() {
            "mqtt" => (1883, Transport::Tcp),
            "mqtts" => {
                let ca = std::fs::read(ca_file)
                    .with_context(|| format!("--ca-file {} cannot be read", ca_file.display()))?;
                (8883, Transport::tls_with_config(TlsConfiguration::Simple { ca, alpn: None, client_auth: None }))
            }
            other => bail!("`{other}` is no way to reach an MQTT broker; {example}"),
        };
        let inside = (!parsed.username().is_empty()).then(|| parsed.username().to_owned());
        let password = password.or_else(|| parsed.password().map(str::to_owned));
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: parsed.port().unwrap_or(port),
            transport,
            credentials: username.or(inside).map(|user| (user, password.unwrap_or_default())),
        })
    }

    fn options(&self, number: u16, connections: u16) -> MqttOptions {
        // Of this run only: another load may run beside this one, and its session is of no use to anybody.
        let client_id = format!("tidegate-load-{}-{number}", std::process::id());
        let mut options = MqttOptions::new(client_id, self.host.clone(), self.port);
        options
            .set_transport(self.transport.clone())
            .set_keep_alive(Duration::from_secs(30))
            .set_clean_session(true)
            .set_max_packet_size(1 << 20, 1 << 20)
            .set_inflight((IN_FLIGHT / connections).clamp(100, 10_000));
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        options
    }
}

/// All connections of a load; each is polled by a task of its own.
pub struct Connections {
    place: String,
    clients: Vec<AsyncClient>,
    tasks: Vec<JoinHandle<()>>,
    traffic: Arc<Traffic>,
    qos: QoS,
    sent: Arc<AtomicU64>,
}

/// Gives each topic its connection.
pub struct Senders {
    clients: Vec<AsyncClient>,
    qos: QoS,
    sent: Arc<AtomicU64>,
}

impl Senders {
    /// Queues a message; waits only while the queue of its connection is full.
    pub async fn send(&self, topic: &str, payload: &[u8]) -> Result<(), ClientError> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        let client = &self.clients[(hash % self.clients.len() as u64) as usize];
        client.publish(topic, self.qos, false, payload).await?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Connections {
    /// Opens `count` connections, all before it returns.
    ///
    /// # Errors
    /// One of them is refused, or not answered in 10 seconds.
    pub async fn open(broker: &Broker, count: u16, qos: QoS, traffic: &Arc<Traffic>) -> anyhow::Result<Self> {
        let place = format!("{}:{}", broker.host, broker.port);
        let mut connections = Self {
            place,
            clients: Vec::new(),
            tasks: Vec::new(),
            traffic: traffic.clone(),
            qos,
            sent: Arc::default(),
        };
        let mut answers = Vec::new();
        for number in 0..count {
            let (client, mut events) = AsyncClient::new(broker.options(number, count), QUEUE);
            // Small packets at a low rate would otherwise wait for the broker's delayed TCP acknowledgement.
            let mut network = events.network_options();
            network.set_tcp_nodelay(true);
            events.set_network_options(network);
            let (answer, answered) = oneshot::channel();
            let task = poll(events, number, answer, traffic.clone());
            connections.tasks.push(tidegate_telemetry::spawn("load-connection", task));
            connections.clients.push(client);
            answers.push(answered);
        }
        for answered in answers {
            let what =
                || format!("there is no connection to the broker at {}; does one listen there?", connections.place);
            let answer = timeout(CONNECT, answered).await.with_context(what)?;
            if let Err(error) = answer.context("a connection's task ended")? {
                return Err(anyhow::Error::msg(error).context(what()));
            }
        }
        Ok(connections)
    }

    /// Host and port of the broker.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The sending ends.
    pub fn senders(&self) -> Senders {
        Senders { clients: self.clients.clone(), qos: self.qos, sent: self.sent.clone() }
    }

    /// Waits up to `limit` until all that was sent has left, and at QoS 1 is acknowledged; then disconnects.
    pub async fn close(self, limit: Duration) {
        let until = Instant::now() + limit;
        let arrived = match self.qos {
            QoS::AtMostOnce => &self.traffic.written,
            QoS::AtLeastOnce | QoS::ExactlyOnce => &self.traffic.acked,
        };
        while arrived.load(Ordering::Relaxed) < self.sent.load(Ordering::Relaxed) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        for client in &self.clients {
            // A connection whose queue is full is stuck: it is cut off below.
            let _ = client.try_disconnect();
        }
        for mut task in self.tasks {
            if timeout(Duration::from_secs(1), &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// Polls one connection until it is told to disconnect. Counts what passes; `answer` gets how connecting went.
async fn poll(
    mut events: EventLoop,
    number: u16,
    answer: oneshot::Sender<Result<(), String>>,
    traffic: Arc<Traffic>,
) {
    let mut answer = Some(answer);
    loop {
        match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(_))) => {
                traffic.written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                traffic.acked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                if let Some(answer) = answer.take() {
                    let _ = answer.send(Ok(()));
                } else {
                    eprintln!("connection {number} is back; what was on its way may be lost");
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                if let Some(answer) = answer.take() {
                    let _ = answer.send(Err(error.to_string()));
                    return;
                }
                eprintln!("connection {number} is gone: {error}; connecting anew");
                sleep(RECONNECT).await;
            }
        }
    }
}
