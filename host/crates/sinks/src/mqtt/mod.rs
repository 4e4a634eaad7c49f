//! Alerts, commands and copies of dead letters to an MQTT broker, over a connection of their own.
//!
//! An alert goes as JSON ([`crate::json`]) to `<prefix>/<rule>/<topic>`, with the topic's levels as they are: `alerts/overheat/#`
//! is what a rule says, `alerts/+/dev/line1/#` what is said of a line. A write returns when the broker has acknowledged all it
//! published. When the connection breaks before, all of it is published again over the next one: at least once. Nothing is ever
//! published that was not given to a write that still waits, so no old alert comes late.
//!
//! With a `status_topic` the connection also says whether this host is there ([`Mqtt::presence`]).

mod link;
mod options;
mod presence;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_config::{MqttSink, Qos};
use tidegate_model::{Alert, Command, DeadLetter, Delivery, Sink, SinkError, Wants, Written};
use tokio::sync::{Mutex, watch};

use crate::json::{AlertJson, DeadLetterJson};
use link::{Link, Outgoing};

/// How long the broker may take to acknowledge a write; then the connection is given up, and the write tried again.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last word may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// MQTT's limit for a topic, in bytes (MQTT 5, 1.5.4).
const MAX_TOPIC_BYTES: usize = 65_535;
/// The most that a PUBLISH has besides topic and payload: fixed header, topic length, packet id, property length.
const PACKET_OVERHEAD_BYTES: usize = 16;

/// Alerts, commands and copies of dead letters to an MQTT broker.
#[derive(Debug)]
pub struct Mqtt {
    outlet: Arc<Outlet>,
    /// Set when the sink closes: nobody connects after that.
    closing: watch::Sender<bool>,
}

/// The connection, which writes and the presence share.
#[derive(Debug)]
struct Outlet {
    settings: MqttSink,
    link: Mutex<Option<Link>>,
}

impl Mqtt {
    /// A sink for the broker of `settings`; connects at the first write.
    pub fn new(settings: MqttSink) -> Self {
        let outlet = Arc::new(Outlet { settings, link: Mutex::default() });
        Self { outlet, closing: watch::Sender::new(false) }
    }

    /// Keeps the connection up and the `status_topic` true, alerts or not, until the sink closes: to be run as a task of its own.
    /// `None` without such a topic.
    pub fn presence(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.outlet.settings.status_topic.as_ref()?;
        Some(presence::keep(self.outlet.clone(), self.closing.subscribe()))
    }
}

impl Outlet {
    fn outgoing(&self, deliveries: &[Arc<Delivery>]) -> Result<Vec<Outgoing>, SinkError> {
        let mut outgoing = Vec::new();
        for delivery in deliveries {
            for alert in &delivery.alerts {
                outgoing.extend(self.fitting(&alert.rule, self.alert(alert)?));
            }
            for command in &delivery.commands {
                outgoing.extend(self.fitting(&command.rule, of_command(command)));
            }
            if let Some(levels) = &self.settings.dead_letters {
                for letter in &delivery.dead_letters {
                    let rule = letter.rule.as_deref().unwrap_or_default();
                    outgoing.extend(self.fitting(rule, self.dead_letter(levels, letter)?));
                }
            }
        }
        Ok(outgoing)
    }

    fn alert(&self, alert: &Alert) -> Result<Outgoing, SinkError> {
        Ok(Outgoing {
            topic: topic_below(&self.settings.prefix, &alert.rule, &alert.topic),
            payload: json("an alert", &AlertJson::from(alert))?,
            qos: self.settings.qos,
            retain: self.settings.retain,
        })
    }

    fn dead_letter(&self, levels: &str, letter: &DeadLetter) -> Result<Outgoing, SinkError> {
        Ok(Outgoing {
            // What a rule made of itself came on no topic.
            topic: topic_below(levels, "", &letter.topic).trim_end_matches('/').to_owned(),
            payload: json("a dead letter", &DeadLetterJson::from(letter))?,
            qos: self.settings.qos,
            retain: false,
        })
    }

    /// Drops what MQTT cannot carry, and says so: it would break the connection every time, and stop all that comes after it.
    fn fitting(&self, rule: &str, outgoing: Outgoing) -> Option<Outgoing> {
        let bytes = outgoing.topic.len() + outgoing.payload.len() + PACKET_OVERHEAD_BYTES;
        let limit = self.settings.endpoint.max_packet_bytes;
        let why = if outgoing.topic.is_empty() || outgoing.topic.contains(['+', '#', '\0']) {
            "its topic is empty or has a wildcard".to_owned()
        } else if outgoing.topic.len() > MAX_TOPIC_BYTES || bytes > limit as usize {
            format!("it has {bytes} bytes; max_packet_bytes is {limit}")
        } else {
            return Some(outgoing);
        };
        tracing::error!(rule, topic = outgoing.topic, why, "not published, and never will be");
        None
    }

    /// Publishes all and waits for the broker's word on each.
    async fn publish(&self, mut outgoing: Vec<Outgoing>) -> Result<(), SinkError> {
        let mut place = self.link.lock().await;
        // Taken out: a write that is given up in the middle takes the connection with it, so that nobody counts its acks.
        let mut link = match place.take().filter(Link::stands) {
            Some(link) => link,
            None => {
                // First of all on a connection: that this host is there again.
                outgoing.splice(0..0, presence::status(&self.settings, presence::ONLINE));
                Link::open(&self.settings)?
            }
        };
        match tokio::time::timeout(ACK_TIMEOUT, link.publish(outgoing)).await {
            Ok(Ok(())) => {
                *place = Some(link);
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SinkError::Retry(format!(
                "{} has not acknowledged for {} s",
                options::address(&self.settings.endpoint),
                ACK_TIMEOUT.as_secs()
            ))),
        }
    }
}

#[async_trait]
impl Sink for Mqtt {
    fn wants(&self) -> Wants {
        let dead_letters = self.outlet.settings.dead_letters.is_some();
        Wants { alerts: true, commands: true, dead_letters, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let outgoing = self.outlet.outgoing(deliveries)?;
        if !outgoing.is_empty() {
            self.outlet.publish(outgoing).await?;
        }
        let alerts = deliveries.iter().map(|delivery| delivery.alerts.len() as u64).sum();
        Ok(Written { alerts, ..Written::default() })
    }

    async fn close(&mut self) {
        self.closing.send_replace(true);
        if let Some(mut link) = self.outlet.link.lock().await.take() {
            // A broker that gets our DISCONNECT leaves the last will unsaid.
            let offline = presence::status(&self.outlet.settings, presence::OFFLINE).into_iter().collect();
            let _said_or_lost = tokio::time::timeout(CLOSE_TIMEOUT, link.publish(offline)).await;
            link.close().await;
        }
    }
}

fn of_command(command: &Command) -> Outgoing {
    Outgoing {
        topic: command.topic.clone(),
        payload: Bytes::copy_from_slice(&command.payload),
        qos: if command.qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
        retain: command.retain,
    }
}

fn json(what: &str, form: &impl serde::Serialize) -> Result<Bytes, SinkError> {
    serde_json::to_vec(form)
        .map(Bytes::from)
        .map_err(|error| SinkError::NeedsOperator(format!("{what} cannot be written as JSON: {error}")))
}

/// `<prefix>/<rule>/<topic>`. Characters that MQTT forbids in what is published to (a Kafka topic may bring them) become `_`.
fn topic_below(prefix: &str, rule: &str, topic: &str) -> String {
    let mut whole = String::with_capacity(prefix.len() + rule.len() + topic.len() + 2);
    for level in [prefix.trim_end_matches('/'), rule] {
        if !level.is_empty() {
            whole.push_str(level);
            whole.push('/');
        }
    }
    whole.push_str(topic);
    if whole.contains(['+', '#', '\0']) { whole.replace(['+', '#', '\0'], "_") } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: levels stay, and no alert's topic can be refused for its characters.
    #[test]
    fn topics_of_alerts() {
        assert_eq!(topic_below("alerts", "overheat", "dev/l1/temp"), "alerts/overheat/dev/l1/temp");
        assert_eq!(topic_below("site/alerts/", "r", "a//b"), "site/alerts/r/a//b");
        assert_eq!(topic_below("", "r", "a+b/#\0"), "r/a_b/__");
    }
}
