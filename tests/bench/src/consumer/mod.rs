//! The two that are compared behind the same feeder or broker: the host ([`host`]) and a bare client ([`bare`]).

pub mod bare;
pub mod checked;
pub mod host;

use std::time::{Duration, Instant};

use anyhow::Result;
use tidegate_config::{LaneBy, MqttEndpoint, MqttSource, MqttVersion, Qos, Subscription};

use crate::mqtt::wire;

/// How long a run may take before it is given up: many times what it needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Takes messages from a port of 127.0.0.1.
pub trait Consumer {
    /// Connects and subscribes, in the background.
    fn connect(&mut self, port: u16) -> Result<()>;

    /// Waits until the subscription stands.
    fn subscribed(&mut self) -> Result<()>;

    /// Waits until all messages that are due have come, in the host also until they are settled; gives when that was.
    fn finished(&mut self) -> Result<Instant>;

    /// Ends it, and looks at what came.
    fn close(self: Box<Self>) -> Result<()>;
}

/// The settings that both connect with: those that a configuration has when nothing is said, and one subscription.
pub fn settings(port: u16, version: wire::Version, qos: wire::Qos) -> Result<MqttSource> {
    Ok(MqttSource {
        endpoint: MqttEndpoint {
            host: "127.0.0.1".to_owned(),
            port,
            tls: None,
            version: match version {
                wire::Version::V3 => MqttVersion::V3,
                wire::Version::V5 => MqttVersion::V5,
            },
            client_id: "bench".to_owned(),
            username: None,
            password: None,
            keep_alive: Duration::from_secs(30),
            max_packet_bytes: 1 << 20,
        },
        subscriptions: vec![Subscription {
            filter: "dev/#".parse()?,
            qos: match qos {
                wire::Qos::AtMostOnce => Qos::AtMostOnce,
                wire::Qos::AtLeastOnce => Qos::AtLeastOnce,
            },
            lane_by: LaneBy::Topic,
        }],
        share: None,
        share_by: tidegate_config::ShareBy::Unknown,
        connections: 1,
        receive_maximum: RECEIVE_MAXIMUM,
        journal: tidegate_config::Journal::Off,
        stale_after: None,
        session_expiry: Duration::from_secs(86_400),
    })
}

/// How many messages may be unacknowledged: what the host asks for when nothing is said.
pub const RECEIVE_MAXIMUM: u16 = 1_000;
