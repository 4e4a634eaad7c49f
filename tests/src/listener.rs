//! A subscriber that remembers what it hears.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

use crate::machine::runtime;
use crate::mosquitto::Mosquitto;
use crate::wait::{DEADLINE, wait_for};

/// One subscription.
#[derive(Debug)]
pub struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    polling: tokio::task::JoinHandle<()>,
    _client: AsyncClient,
}

/// A message it heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Where.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Heard {
    /// The payload as JSON.
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.payload);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}) on {}: {text}", self.topic))
    }
}

impl Listener {
    /// Subscribes, and returns when the broker has agreed.
    pub fn start(broker: &Mosquitto, filter: &str) -> Self {
        let id = format!("listener-{:x}", fastrand::u64(..));
        let options = MqttOptions::new(id, "127.0.0.1", broker.port());
        let _entered = runtime().enter();
        let (client, mut events) = AsyncClient::new(options, 10);
        runtime().block_on(client.subscribe(filter, QoS::AtLeastOnce)).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (agreed, wait) = sync_channel(1);
        let ears = heard.clone();
        let polling = runtime().spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(agreed.try_send(())),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let message = Heard { topic: publish.topic, payload: publish.payload.to_vec() };
                        ears.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                    }
                    Ok(_) => {}
                    Err(error) => panic!("the listener lost its broker: {error}"),
                }
            }
        });
        wait.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("waited {DEADLINE:?} for a subscription"));
        Self { heard, polling, _client: client }
    }

    /// All it has heard.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has heard `count` messages; gives them.
    pub fn wait_for(&self, count: usize) -> Vec<Heard> {
        wait_for(&format!("{count} messages"), DEADLINE, || {
            let heard = self.heard();
            if heard.len() >= count { Ok(heard) } else { Err(format!("{heard:?}")) }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.polling.abort();
    }
}
