//! The least that can receive MQTT with rumqttc: one thread, one loop, which counts messages and drops them.
//!
//! The options are those of the host's source but in two things, both in the baseline's favour: rumqttc acknowledges by itself, in
//! its reads' batches, and Nagle's algorithm is left on, so that the kernel gathers those acknowledgements.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, v5};
use tidegate_config::MqttSource;

use super::{Consumer, PATIENCE, settings};
use crate::mqtt::wire::{Qos, Version};

/// As in the host's source, which publishes nothing.
const OUTGOING_INFLIGHT: u16 = 16;

/// A bare client.
pub struct Bare {
    version: Version,
    qos: Qos,
    messages: usize,
    running: Option<Running>,
}

struct Running {
    subscribed: Receiver<()>,
    finished: Receiver<Instant>,
    thread: JoinHandle<Result<()>>,
}

impl Bare {
    /// One that stops after so many messages.
    pub fn new(version: Version, qos: Qos, messages: usize) -> Self {
        Self { version, qos, messages, running: None }
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the bare client was not started")
    }
}

impl Consumer for Bare {
    fn connect(&mut self, port: u16) -> Result<()> {
        let settings = settings(port, self.version, self.qos)?;
        let (version, qos, due) = (self.version, self.qos, self.messages);
        let (say_subscribed, subscribed) = sync_channel(1);
        let (say_finished, finished) = sync_channel(1);
        let thread = std::thread::Builder::new().name("bare".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let count = Count { come: 0, bytes: 0, due };
            let subscribed = || {
                // Nobody waits for it where messages come at once.
                let _ = say_subscribed.try_send(());
            };
            let ended = runtime.block_on(async {
                match version {
                    Version::V3 => receive_v3(&settings, qos, count, subscribed).await,
                    Version::V5 => receive_v5(&settings, qos, count, subscribed).await,
                }
            })?;
            // Who waits for it is there, or has given up.
            let _ = say_finished.try_send(ended);
            Ok(())
        })?;
        self.running = Some(Running { subscribed, finished, thread });
        Ok(())
    }

    fn subscribed(&mut self) -> Result<()> {
        self.running()?.subscribed.recv_timeout(PATIENCE).context("the bare client did not subscribe")
    }

    fn finished(&mut self) -> Result<Instant> {
        self.running()?.finished.recv_timeout(PATIENCE).context("the bare client did not get all messages")
    }

    fn close(self: Box<Self>) -> Result<()> {
        let running = self.running.context("the bare client was not started")?;
        running.thread.join().map_err(|_| anyhow!("the bare client panicked"))?
    }
}

/// What a loop has received.
struct Count {
    come: usize,
    /// Keeps the payload from being nothing to anybody.
    bytes: usize,
    due: usize,
}

impl Count {
    #[inline]
    fn take(&mut self, payload: &[u8]) {
        self.come += 1;
        self.bytes += payload.len();
    }

    fn end(self) -> Result<Instant> {
        let end = Instant::now();
        ensure!(self.bytes > self.come, "{} messages with {} bytes came", self.come, self.bytes);
        Ok(end)
    }
}

async fn receive_v3(settings: &MqttSource, qos: Qos, mut count: Count, subscribed: impl Fn()) -> Result<Instant> {
    let endpoint = &settings.endpoint;
    let max_packet = endpoint.max_packet_bytes as usize;
    let mut options = MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    options
        .set_clean_session(false)
        .set_keep_alive(endpoint.keep_alive)
        .set_max_packet_size(max_packet, max_packet)
        .set_inflight(OUTGOING_INFLIGHT);
    let (client, mut eventloop) = AsyncClient::new(options, 4);
    let qos = match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    };
    for subscription in &settings.subscriptions {
        client.try_subscribe(subscription.filter.as_str(), qos)?;
    }
    loop {
        match eventloop.poll().await? {
            Event::Incoming(Packet::Publish(publish)) => {
                count.take(&publish.payload);
                if count.come == count.due {
                    return count.end();
                }
            }
            Event::Incoming(Packet::SubAck(_)) => subscribed(),
            Event::Incoming(Packet::Disconnect) => bail!("the broker disconnected the bare client"),
            _ => {}
        }
    }
}

async fn receive_v5(settings: &MqttSource, qos: Qos, mut count: Count, subscribed: impl Fn()) -> Result<Instant> {
    use v5::mqttbytes::{QoS, v5::Packet};
    let endpoint = &settings.endpoint;
    let mut options = v5::MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(settings.session_expiry.as_secs() as u32))
        .set_receive_maximum(Some(settings.receive_maximum))
        .set_max_packet_size(Some(endpoint.max_packet_bytes))
        .set_keep_alive(endpoint.keep_alive)
        .set_outgoing_inflight_upper_limit(OUTGOING_INFLIGHT);
    let (client, mut eventloop) = v5::AsyncClient::new(options, 4);
    let qos = match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    };
    for subscription in &settings.subscriptions {
        client.try_subscribe(subscription.filter.as_str(), qos)?;
    }
    loop {
        match eventloop.poll().await? {
            v5::Event::Incoming(Packet::Publish(publish)) => {
                count.take(&publish.payload);
                if count.come == count.due {
                    return count.end();
                }
            }
            v5::Event::Incoming(Packet::SubAck(_)) => subscribed(),
            v5::Event::Incoming(Packet::Disconnect(_)) => bail!("the broker disconnected the bare client"),
            _ => {}
        }
    }
}
