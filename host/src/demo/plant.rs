//! The simulated plant at the other end of the embedded broker, and a subscriber to the alerts that come back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::simulator::{Faults, Plan, Simulator};

/// The most alerts kept for the view.
const KEPT: usize = 50;
/// How often the plant looks what is due.
const BEAT: Duration = Duration::from_millis(5);

/// Publishes readings until it is stopped.
pub struct Plant {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Plant {
    /// Begins to publish `rate` messages a second, at QoS 1.
    pub fn start(broker: SocketAddr, rate: u32, runtime: &Handle) -> Self {
        let _in_runtime = runtime.enter();
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (client, mut events) = AsyncClient::new(options("demo-plant", broker), 1_000);
        let counted = acknowledged.clone();
        tidegate_telemetry::spawn("plant-connection", async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => drop(counted.fetch_add(1, Relaxed)),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!("the plant lost its broker: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
        let stopped = stop.clone();
        tidegate_telemetry::spawn("plant", async move {
            let mut simulator = Simulator::new(Plan {
                users: 10,
                devices_per_user: 2,
                plant: (2, 3, 10),
                garbage_share: 0.002,
                faults: Faults::Planted,
                seed: 7,
            });
            let (began, mut published) = (Instant::now(), 0u64);
            let mut beat = tokio::time::interval(BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
            while !stopped.load(Relaxed) {
                beat.tick().await;
                let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                while published < due && !stopped.load(Relaxed) {
                    let (topic, payload) = simulator.next(now_us());
                    let sent = client.publish(topic, QoS::AtLeastOnce, false, payload).await;
                    if sent.is_err() {
                        return;
                    }
                    published += 1;
                }
            }
        });
        Self { stop, acknowledged }
    }

    /// Publishes no more.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Messages the broker has taken.
    pub fn sent(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }
}

/// An alert, as it came back over MQTT.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenAlert {
    /// The rule that sent it.
    pub rule: String,
    /// The series it is about.
    pub topic: String,
    /// `raised`, `cleared` or `event`.
    pub transition: String,
    /// For people.
    pub message: String,
}

#[derive(Default)]
struct Seen {
    latest: VecDeque<SeenAlert>,
    raised: u64,
    cleared: u64,
    all: u64,
}

/// Subscribes to `alerts/#`, as anybody's program would.
pub struct AlertWatch(Arc<Mutex<Seen>>);

impl AlertWatch {
    /// Begins to watch.
    pub fn start(broker: SocketAddr, runtime: &Handle) -> Self {
        let _in_runtime = runtime.enter();
        let seen = Arc::<Mutex<Seen>>::default();
        let (client, mut events) = AsyncClient::new(options("demo-alerts", broker), 10);
        let to = seen.clone();
        tidegate_telemetry::spawn("alert-watch", async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        if let Err(error) = client.try_subscribe("alerts/#", QoS::AtLeastOnce) {
                            tracing::warn!("the demo's alert view cannot subscribe: {error}");
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => take(&to, &message.payload),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!("the demo's alert view lost its broker: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
        Self(seen)
    }

    /// The latest alerts, newest first.
    pub fn latest(&self) -> Vec<SeenAlert> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).latest.iter().cloned().collect()
    }

    /// Raised and cleared so far.
    pub fn counts(&self) -> (u64, u64) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.raised, seen.cleared)
    }

    /// All so far.
    pub fn seen(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

fn take(seen: &Mutex<Seen>, payload: &[u8]) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.all += 1;
    let Ok(alert) = serde_json::from_slice::<SeenAlert>(payload) else { return };
    match alert.transition.as_str() {
        "raised" => seen.raised += 1,
        "cleared" => seen.cleared += 1,
        _ => {}
    }
    seen.latest.push_front(alert);
    seen.latest.truncate(KEPT);
}

fn options(client: &str, broker: SocketAddr) -> MqttOptions {
    let mut options = MqttOptions::new(client, broker.ip().to_string(), broker.port());
    options.set_keep_alive(Duration::from_secs(30)).set_inflight(200).set_max_packet_size(1 << 20, 1 << 20);
    options
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}
