//! From an endpoint of the settings to the two clients of rumqttc, one for each version of MQTT.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport, v5};
use tidegate_config::{MqttEndpoint, MqttSink};
use tidegate_model::SinkError;

use super::presence::OFFLINE;
use crate::tls;

/// How long reaching the broker may take.
pub(super) const CONNECT_TIMEOUT_S: u64 = 10;
/// Publishes on the way to the broker that it has not acknowledged.
const IN_FLIGHT: u16 = 100;
/// The shortest keep-alive that rumqttc takes.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Where the broker is, for messages.
pub(super) fn address(endpoint: &MqttEndpoint) -> String {
    format!("the MQTT broker at {}:{}", endpoint.host, endpoint.port)
}

/// For MQTT 3.1.1. A clean session: we subscribe to nothing, and what was not acknowledged we publish again ourselves.
pub(super) fn v3(settings: &MqttSink) -> Result<rumqttc::MqttOptions, SinkError> {
    let endpoint = &settings.endpoint;
    let mut options = rumqttc::MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    let max_bytes = endpoint.max_packet_bytes as usize;
    options
        .set_clean_session(true)
        .set_keep_alive(endpoint.keep_alive.max(SHORTEST_KEEP_ALIVE))
        .set_inflight(IN_FLIGHT)
        .set_max_packet_size(max_bytes, max_bytes);
    if let Some(topic) = &settings.status_topic {
        options.set_last_will(rumqttc::LastWill::new(topic, OFFLINE, rumqttc::QoS::AtLeastOnce, true));
    }
    if let Some(username) = &endpoint.username {
        options.set_credentials(username, password(endpoint));
    }
    if let Some(transport) = transport(endpoint)? {
        options.set_transport(transport);
    }
    Ok(options)
}

/// For MQTT 5.
pub(super) fn v5(settings: &MqttSink) -> Result<v5::MqttOptions, SinkError> {
    let endpoint = &settings.endpoint;
    let mut options = v5::MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    options
        .set_clean_start(true)
        .set_keep_alive(endpoint.keep_alive.max(SHORTEST_KEEP_ALIVE))
        .set_connection_timeout(CONNECT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_max_packet_size(Some(endpoint.max_packet_bytes));
    if let Some(topic) = &settings.status_topic {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        options.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, OFFLINE, qos, true, None));
    }
    if let Some(username) = &endpoint.username {
        options.set_credentials(username, password(endpoint));
    }
    if let Some(transport) = transport(endpoint)? {
        options.set_transport(transport);
    }
    Ok(options)
}

fn password(endpoint: &MqttEndpoint) -> &str {
    endpoint.password.as_ref().map_or("", |password| password.reveal())
}

fn transport(endpoint: &MqttEndpoint) -> Result<Option<Transport>, SinkError> {
    let Some(settings) = &endpoint.tls else { return Ok(None) };
    let client = tls::client(settings)?;
    Ok(Some(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(client)))))
}
