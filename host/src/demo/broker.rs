//! The demo's own MQTT broker: rumqttd on 127.0.0.1, in memory.
//!
//! Good for a demo, and no more: rumqttd 0.20 hears of a client that leaves twice, by its DISCONNECT and by the end of its connection, and takes the
//! second for the client that has got its number meanwhile. Whoever connects just then is thrown out, its message not acknowledged. So clients that
//! come and go should come one after another; those that stay, as the demo's own and its host, are never meant.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// A broker that runs until the process ends: rumqttd offers no other way.
pub struct EmbeddedBroker {
    /// Where it speaks MQTT 3.1.1.
    pub v4: SocketAddr,
    /// Where it speaks MQTT 5.
    pub v5: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts it on two free ports, or 3.1.1 on `port` and 5 on the next. Returns when both answer.
    pub fn start(port: Option<u16>) -> anyhow::Result<Self> {
        let v4 = free(port)?;
        let v5 = free(port.map(|port| port.saturating_add(1)))?;
        let config = Config {
            router: RouterConfig {
                max_connections: 1_000,
                max_outgoing_packet_count: 200,
                // What subscribers have not read yet: far above what the demo sends while the host looks away.
                max_segment_size: 64 << 20,
                max_segment_count: 10,
                ..RouterConfig::default()
            },
            v4: Some(HashMap::from([("v4".to_owned(), server("v4", v4))])),
            v5: Some(HashMap::from([("v5".to_owned(), server("v5", v5))])),
            ..Config::default()
        };
        tidegate_telemetry::thread("broker", move || {
            if let Err(error) = Broker::new(config).start() {
                tracing::error!("the embedded broker ended: {error}");
            }
        })
        .context("the embedded broker's thread cannot start")?;
        for address in [v4, v5] {
            answers(address)?;
        }
        Ok(Self { v4, v5 })
    }
}

fn server(name: &str, listen: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: name.to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1 << 20,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    }
}

/// rumqttd takes an address, not a socket: the port is free now, and taken in a moment.
fn free(port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    let socket = TcpListener::bind(wanted).with_context(|| format!("{wanted} is taken; choose another --port"))?;
    Ok(socket.local_addr()?)
}

fn answers(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the embedded broker did not come up on {address}")
}
