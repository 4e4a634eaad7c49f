//! A publisher that keeps the ledger of what the broker has taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};

use crate::machine::runtime;
use crate::message::Message;
use crate::mosquitto::Mosquitto;
use crate::wait::{DEADLINE, wait_for};

/// How often a broker that is away is looked for.
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// At which quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// At most once.
    Zero,
    /// At least once: taken when the broker has acknowledged it.
    One,
}

/// One connection that publishes. Survives a broker that goes and comes back with its sessions.
#[derive(Debug)]
pub struct Publisher {
    client: AsyncClient,
    qos: Qos,
    taken: Arc<AtomicU64>,
    sent: Vec<Message>,
    polling: tokio::task::JoinHandle<()>,
}

impl Publisher {
    /// Connects.
    pub fn connect(broker: &Mosquitto, qos: Qos) -> Self {
        let id = format!("publisher-{:x}", fastrand::u64(..));
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
        // A session of its own, so that what was on the way when the broker went is sent again when it is back.
        options.set_clean_session(false).set_inflight(100).set_max_packet_size(4 << 20, 4 << 20);
        let _entered = runtime().enter();
        let (client, events) = AsyncClient::new(options, 1_000);
        let taken = Arc::new(AtomicU64::new(0));
        let polling = runtime().spawn(poll(events, qos, taken.clone()));
        Self { client, qos, taken, sent: Vec::new(), polling }
    }

    /// Hands these over, as fast as the broker takes them.
    pub fn publish(&mut self, messages: impl IntoIterator<Item = Message>) {
        let qos = match self.qos {
            Qos::Zero => QoS::AtMostOnce,
            Qos::One => QoS::AtLeastOnce,
        };
        for message in messages {
            let publish = self.client.publish(&message.topic, qos, false, message.payload.clone());
            runtime()
                .block_on(async { tokio::time::timeout(DEADLINE, publish).await })
                .unwrap_or_else(|_| panic!("waited {DEADLINE:?} for room to publish"))
                .unwrap();
            self.sent.push(message);
        }
    }

    /// Hands these over and waits until the broker has taken all there ever were.
    pub fn deliver(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.publish(messages);
        self.flush();
    }

    /// Waits until the broker has taken everything.
    pub fn flush(&self) {
        let due = self.sent.len() as u64;
        wait_for("the broker to take what was published", DEADLINE, || {
            let taken = self.taken.load(SeqCst);
            if taken >= due { Ok(()) } else { Err(format!("{taken} of {due}")) }
        });
    }

    /// The ledger.
    pub fn sent(&self) -> &[Message] {
        &self.sent
    }

    /// Goes on publishing what `make` makes of 0, 1, 2 …, about `rate` messages a second, until [`Load::end`].
    pub fn load(mut self, rate: u64, make: impl Fn(u64) -> Message + Send + 'static) -> Load {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let mut number = 0;
            while !ended.load(SeqCst) {
                let due = start.elapsed().as_millis() as u64 * rate / 1_000;
                self.publish((number..due.max(number)).map(&make));
                number = due.max(number);
                // The pace of the load, not a wait for anything.
                std::thread::sleep(Duration::from_millis(5));
            }
            self
        });
        Load { end, thread }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

/// A publisher at work.
#[derive(Debug)]
pub struct Load {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Publisher>,
}

impl Load {
    /// Ends it, when the broker has taken everything.
    pub fn end(self) -> Publisher {
        self.end.store(true, SeqCst);
        let publisher = self.thread.join().unwrap();
        publisher.flush();
        publisher
    }
}

async fn poll(mut events: EventLoop, qos: Qos, taken: Arc<AtomicU64>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) if qos == Qos::One => drop(taken.fetch_add(1, SeqCst)),
            Ok(Event::Outgoing(Outgoing::Publish(_))) if qos == Qos::Zero => drop(taken.fetch_add(1, SeqCst)),
            Ok(_) => {}
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(_) => tokio::time::sleep(RECONNECT_EVERY).await,
        }
    }
}
