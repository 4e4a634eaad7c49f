//! One connection to the broker: the task that keeps it, and the count of what was acknowledged.
//!
//! The task does nothing but poll, so that pings and acks go on between writes and no poll is ever cut off in the middle. It ends
//! with the connection and never connects again: a new connection is a new [`Link`], with counts from zero and nothing left over.
//!
//! ```text
//! opening ──CONNACK──▶ connected ──error, or the last client gone──▶ lost
//!    └──────────────error──────────────────────────────────────────────┘
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use rumqttc::{AsyncClient, v5};
use tidegate_config::{MqttSink, MqttVersion, Qos};
use tidegate_model::SinkError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::options::{self, CONNECT_TIMEOUT_S};

/// Publishes handed to the task before it must take some.
const QUEUE: usize = 64;
/// How long saying good-bye may take.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

/// A connection, opening or open.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    address: String,
    /// How many were given to the client so far.
    published: u64,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Client {
    V3(AsyncClient),
    V5(v5::AsyncClient),
}

/// How far the task has come: kept as a level, not as events, so that nobody has to keep pace with it.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Acknowledged by the broker, or sent at QoS 0.
    settled: u64,
    /// The first that the broker refused: which in the order of publishing, and why.
    refused: Option<(u64, Refusal)>,
    lost: Option<Lost>,
}

/// Why the broker does not take a publish (MQTT 5; before, it cannot say so).
#[derive(Clone, Debug)]
enum Refusal {
    /// As it stands, it never will.
    Lasting(String),
    /// It may later.
    Passing(String),
}

/// Why the connection is gone.
#[derive(Clone, Debug)]
enum Lost {
    /// The broker does not let us in.
    NotAdmitted(String),
    /// Anything else.
    Broken(String),
}

/// What the task learns from either version's event loop.
enum Learned {
    /// A publish went out: its packet id, 0 at QoS 0.
    Sent(u16),
    /// The broker acknowledged this packet id, or refused it and said why.
    Acked(u16, Option<Refusal>),
    Nothing,
}

impl Link {
    /// Starts the task; the connection stands when the first publish is acknowledged. Fails only if the settings cannot be used.
    pub(super) fn open(settings: &MqttSink) -> Result<Self, SinkError> {
        let endpoint = &settings.endpoint;
        let (report, progress) = watch::channel(Progress::default());
        let (client, task) = match endpoint.version {
            MqttVersion::V3 => {
                let (client, mut events) = AsyncClient::new(options::v3(settings)?, QUEUE);
                events.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
                let polling = async move {
                    let mut counts = Counts::default();
                    loop {
                        match events.poll().await {
                            Ok(event) => counts.learn(learned_v3(&event), &report),
                            Err(error) => break report.send_modify(|p| p.lost = Some(lost_v3(&error))),
                        }
                    }
                };
                (Client::V3(client), tidegate_telemetry::spawn("alerts-connection", polling))
            }
            MqttVersion::V5 => {
                let (client, mut events) = v5::AsyncClient::new(options::v5(settings)?, QUEUE);
                let polling = async move {
                    let mut counts = Counts::default();
                    loop {
                        match events.poll().await {
                            Ok(event) => counts.learn(learned_v5(&event), &report),
                            Err(error) => break report.send_modify(|p| p.lost = Some(lost_v5(&error))),
                        }
                    }
                };
                (Client::V5(client), tidegate_telemetry::spawn("alerts-connection", polling))
            }
        };
        Ok(Self { client, address: options::address(endpoint), published: 0, progress, task })
    }

    /// Whether the connection is not known to be gone.
    pub(super) fn stands(&self) -> bool {
        self.progress.borrow().lost.is_none() && !self.task.is_finished()
    }

    /// Resolves when the connection is known to be gone; at once, if it is already.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut progress = self.progress.clone();
        async move {
            // An error means that the task has ended, which is the same.
            let _ended = progress.wait_for(|p| p.lost.is_some()).await.is_err();
        }
    }

    /// Publishes all and returns when all are settled. After an error the link is of no more use.
    pub(super) async fn publish(&mut self, outgoing: Vec<Outgoing>) -> Result<(), SinkError> {
        let first = self.published;
        self.published += outgoing.len() as u64;
        let topics: Vec<String> = outgoing.iter().map(|each| each.topic.clone()).collect();
        for each in outgoing {
            // Waits when the queue is full; ends with an error when the task, which holds the other end, does.
            if self.client.publish(each).await.is_err() {
                break;
            }
        }
        let all = self.published;
        let ended = |p: &Progress| p.settled >= all || p.refused.is_some() || p.lost.is_some();
        let progress = match self.progress.wait_for(ended).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(SinkError::Retry(format!("{}: its task has ended unexpectedly", self.address))),
        };
        if let Some((number, why)) = progress.refused {
            let topic = number.checked_sub(first).and_then(|i| topics.get(i as usize)).map_or("", String::as_str);
            return Err(match why {
                Refusal::Passing(why) => SinkError::Retry(format!("{} did not take {topic}: {why}", self.address)),
                Refusal::Lasting(why) => SinkError::NeedsOperator(format!(
                    "{} refuses what is published on {topic}: {why}; check what this user may publish",
                    self.address
                )),
            });
        }
        match progress.lost {
            _ if progress.settled >= all => Ok(()),
            Some(Lost::NotAdmitted(why)) => Err(SinkError::NeedsOperator(format!(
                "{} does not let us in: {why}; check user name, password and client id",
                self.address
            ))),
            Some(Lost::Broken(why)) => Err(SinkError::Retry(format!("{}: {why}", self.address))),
            None => Ok(()),
        }
    }

    /// Says good-bye, and ends the task in any case.
    pub(super) async fn close(mut self) {
        let said = match &self.client {
            Client::V3(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        };
        if said {
            // The broker closes when it has our DISCONNECT, which ends the task.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.task).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    async fn publish(&self, outgoing: Outgoing) -> Result<(), ()> {
        let Outgoing { topic, payload, qos, retain } = outgoing;
        match self {
            Self::V3(client) => {
                let qos = match qos {
                    Qos::AtMostOnce => rumqttc::QoS::AtMostOnce,
                    Qos::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
                };
                client.publish_bytes(topic, qos, retain, payload).await.map_err(drop)
            }
            Self::V5(client) => {
                let qos = match qos {
                    Qos::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
                    Qos::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
                };
                client.publish_bytes(topic, qos, retain, payload).await.map_err(drop)
            }
        }
    }
}

/// Brings acks, which name packet ids, back to what was published, which is counted.
#[derive(Default)]
struct Counts {
    /// How many went out; they go out in the order they were published.
    sent: u64,
    /// Which publish has this packet id now.
    under: HashMap<u16, u64>,
}

impl Counts {
    fn learn(&mut self, learned: Learned, report: &watch::Sender<Progress>) {
        match learned {
            Learned::Sent(0) => {
                self.sent += 1;
                report.send_modify(|p| p.settled += 1);
            }
            Learned::Sent(packet_id) => {
                self.under.insert(packet_id, self.sent);
                self.sent += 1;
            }
            Learned::Acked(packet_id, refusal) => {
                let number = self.under.remove(&packet_id);
                report.send_modify(|p| match (refusal, number) {
                    (Some(why), number) => p.refused = Some((number.unwrap_or(u64::MAX), why)),
                    (None, Some(_)) => p.settled += 1,
                    (None, None) => {}
                });
            }
            Learned::Nothing => {}
        }
    }
}

fn learned_v3(event: &rumqttc::Event) -> Learned {
    use rumqttc::{Event, Outgoing, Packet};
    match event {
        Event::Outgoing(Outgoing::Publish(packet_id)) => Learned::Sent(*packet_id),
        Event::Incoming(Packet::PubAck(ack)) => Learned::Acked(ack.pkid, None),
        _ => Learned::Nothing,
    }
}

fn learned_v5(event: &v5::Event) -> Learned {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::{Packet, PubAckReason};
    match event {
        v5::Event::Outgoing(Outgoing::Publish(packet_id)) => Learned::Sent(*packet_id),
        v5::Event::Incoming(Packet::PubAck(ack)) => Learned::Acked(
            ack.pkid,
            match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                reason @ (PubAckReason::NotAuthorized
                | PubAckReason::TopicNameInvalid
                | PubAckReason::PayloadFormatInvalid) => Some(Refusal::Lasting(format!("{reason:?}"))),
                reason => Some(Refusal::Passing(format!("{reason:?}"))),
            },
        ),
        _ => Learned::Nothing,
    }
}

fn lost_v3(error: &rumqttc::ConnectionError) -> Lost {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError};
    match error {
        ConnectionError::ConnectionRefused(Code::ServiceUnavailable) => Lost::Broken(error.to_string()),
        ConnectionError::ConnectionRefused(code) => Lost::NotAdmitted(format!("{code:?}")),
        _ => Lost::Broken(error.to_string()),
    }
}

fn lost_v5(error: &v5::ConnectionError) -> Lost {
    use v5::mqttbytes::v5::ConnectReturnCode as Code;
    match error {
        v5::ConnectionError::ConnectionRefused(
            code @ (Code::BadUserNamePassword
            | Code::NotAuthorized
            | Code::Banned
            | Code::BadAuthenticationMethod
            | Code::BadClientId
            | Code::ClientIdentifierNotValid
            | Code::RefusedProtocolVersion
            | Code::UnsupportedProtocolVersion),
        ) => Lost::NotAdmitted(format!("{code:?}")),
        _ => Lost::Broken(error.to_string()),
    }
}
