//! Settings to the client library's options, for both versions of the protocol.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tidegate_config::{MqttEndpoint, MqttSource, Qos};

/// We publish nothing, so this is only the range of packet ids for SUBSCRIBE; rumqttc keeps a slot for each.
const OUTGOING_INFLIGHT: u16 = 16;
/// rumqttc panics below this with MQTT 5, and means seconds in whole numbers.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The protocol counts seconds in 16 bits.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(u16::MAX as u64);

/// The client id of connection `index` of `connections`, stable over restarts: the broker keeps the session under it.
pub(super) fn client_id(endpoint: &MqttEndpoint, index: u16, connections: u16) -> String {
    if connections <= 1 { endpoint.client_id.clone() } else { format!("{}-{}", endpoint.client_id, index + 1) }
}

/// The filters as they go into SUBSCRIBE.
pub(super) fn filters(settings: &MqttSource) -> Vec<(String, Qos)> {
    let filter = |text: &str| match &settings.share {
        Some(group) => format!("$share/{group}/{text}"),
        None => text.to_owned(),
    };
    settings.subscriptions.iter().map(|s| (filter(s.filter.as_str()), s.qos)).collect()
}

/// Options for 3.1.1.
pub(super) fn v3(settings: &MqttSource, client_id: &str, tls: Option<Arc<ClientConfig>>) -> rumqttc::MqttOptions {
    let endpoint = &settings.endpoint;
    let mut options = rumqttc::MqttOptions::new(client_id, host(endpoint), endpoint.port);
    let max_packet = endpoint.max_packet_bytes as usize;
    options
        .set_clean_session(false)
        .set_keep_alive(keep_alive(endpoint))
        .set_max_packet_size(max_packet, max_packet)
        .set_inflight(OUTGOING_INFLIGHT)
        .set_manual_acks(true)
        .set_transport(transport(tls));
    if let Some((user, password)) = credentials(endpoint) {
        options.set_credentials(user, password);
    }
    options
}

/// Options for 5.0.
pub(super) fn v5(settings: &MqttSource, client_id: &str, tls: Option<Arc<ClientConfig>>) -> rumqttc::v5::MqttOptions {
    let endpoint = &settings.endpoint;
    let mut options = rumqttc::v5::MqttOptions::new(client_id, host(endpoint), endpoint.port);
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX)))
        .set_receive_maximum(Some(settings.receive_maximum.max(1)))
        .set_max_packet_size(Some(endpoint.max_packet_bytes))
        .set_keep_alive(keep_alive(endpoint))
        .set_outgoing_inflight_upper_limit(OUTGOING_INFLIGHT)
        .set_manual_acks(true)
        .set_transport(transport(tls));
    if let Some((user, password)) = credentials(endpoint) {
        options.set_credentials(user, password);
    }
    options
}

fn keep_alive(endpoint: &MqttEndpoint) -> Duration {
    endpoint.keep_alive.clamp(MIN_KEEP_ALIVE, MAX_KEEP_ALIVE)
}

fn credentials(endpoint: &MqttEndpoint) -> Option<(String, String)> {
    let user = endpoint.username.clone()?;
    Some((user, endpoint.password.as_ref().map_or_else(String::new, |secret| secret.reveal().to_owned())))
}

fn transport(tls: Option<Arc<ClientConfig>>) -> Transport {
    tls.map_or(Transport::Tcp, |config| Transport::Tls(TlsConfiguration::Rustls(config)))
}

/// rumqttc joins host and port with a colon, which an IPv6 address must be guarded from. TLS wants the bare address.
fn host(endpoint: &MqttEndpoint) -> String {
    match endpoint.host.parse::<Ipv6Addr>() {
        Ok(address) if endpoint.tls.is_none() => format!("[{address}]"),
        _ => endpoint.host.clone(),
    }
}
