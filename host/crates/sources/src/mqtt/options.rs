//! What our packets say of the settings, in both versions of the protocol.

use tidegate_config::{MqttEndpoint, MqttSource, Qos};

/// The packet id of SUBSCRIBE. Those of UNSUBSCRIBE follow it; no other packet of ours needs one.
pub(super) const SUBSCRIBE_ID: u16 = 1;

/// The client id of connection `index` of `connections`, stable over restarts: the broker keeps the session under it.
pub(super) fn client_id(endpoint: &MqttEndpoint, index: u16, connections: u16) -> String {
    if connections <= 1 { endpoint.client_id.clone() } else { format!("{}-{}", endpoint.client_id, index + 1) }
}

/// All client ids of a source.
pub(super) fn client_ids(settings: &MqttSource) -> impl Iterator<Item = String> {
    let connections = settings.connections.max(1);
    (0..connections).map(move |index| client_id(&settings.endpoint, index, connections))
}

/// Whether a source would have had this client id with some number of connections.
pub(super) fn may_have_had(endpoint: &MqttEndpoint, id: &str) -> bool {
    let number = |n: &str| n.parse::<u16>().is_ok_and(|n| (1..=64).contains(&n));
    id.strip_prefix(&endpoint.client_id)
        .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(number))
}

/// The filters as they go into SUBSCRIBE.
pub(super) fn filters(settings: &MqttSource) -> impl Iterator<Item = (String, Qos)> {
    let filter = |text: &str| match &settings.share {
        Some(group) => format!("$share/{group}/{text}"),
        None => text.to_owned(),
    };
    settings.subscriptions.iter().map(move |s| (filter(s.filter.as_str()), s.qos))
}

/// Whole seconds, at least one: 0 would mean none.
pub(super) fn keep_alive(endpoint: &MqttEndpoint) -> u16 {
    u16::try_from(endpoint.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1)
}

/// User name and password, if there is a user.
pub(super) fn credentials(endpoint: &MqttEndpoint) -> Option<(String, String)> {
    let user = endpoint.username.clone()?;
    Some((user, endpoint.password.as_ref().map_or_else(String::new, |secret| secret.reveal().to_owned())))
}
