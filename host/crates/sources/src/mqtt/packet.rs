//! What brokers tell us, the same for both versions of the protocol, and what turns it to bytes and back.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use bytes::{Bytes, BytesMut};
use tidegate_config::{MqttSource as Settings, Qos};

use super::error::LinkError;
use super::window::PacketId;

/// The property of a message that was too large: how many bytes its payload has.
pub(super) const PAYLOAD_BYTES: &str = "payload-bytes";
/// The properties that MQTT 5 has for what a payload is, where an answer is wanted, and what that is to bear (§3.3.2.3).
pub(super) const CONTENT_TYPE: &str = "mqtt.content-type";
pub(super) const RESPONSE_TOPIC: &str = "mqtt.response-topic";
pub(super) const CORRELATION_DATA: &str = "mqtt.correlation-data";

/// One version of the protocol: the packets that differ between versions, over rumqttc's codecs. No state, no I/O.
pub(super) trait Codec: Sync {
    /// Writes CONNECT.
    fn connect(&self, settings: &Settings, client_id: &str, outgoing: &mut BytesMut) -> Result<(), LinkError>;

    /// Writes SUBSCRIBE.
    fn subscribe(&self, filters: &[(String, Qos)], outgoing: &mut BytesMut) -> Result<(), LinkError>;

    /// Writes UNSUBSCRIBE for one filter.
    fn unsubscribe(&self, id: u16, filter: &str, outgoing: &mut BytesMut) -> Result<(), LinkError>;

    /// Takes the first packet off what was received; none while it is not there as a whole. Of a PUBLISH that says it is longer
    /// than `max_packet` bytes only the beginning is; any other packet that says so is an error at once.
    fn next(&self, incoming: &mut BytesMut, max_packet: u32) -> Result<Option<Packet>, LinkError>;
}

/// What a broker may send to a client that only subscribes. Refusals and the broker's DISCONNECT are errors.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// CONNACK.
    Connected(Welcome),
    /// PUBLISH.
    Message(Publish),
    /// The beginning of a PUBLISH beyond our limit, and how many of its bytes follow it: to be skipped.
    Oversized(Publish, usize),
    /// SUBACK: the answer to each subscription, in order.
    Subscribed(Vec<Answer>),
    /// UNSUBACK: the packet id of the question, and why the broker refuses, if it does.
    Unsubscribed(u16, Option<String>),
    /// PINGRESP.
    Alive,
}

/// How the broker takes us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) session: SessionState,
    /// In place of the keep-alive that we asked for: seconds; 0 is none.
    pub(super) keep_alive: Option<u16>,
    /// The longest packet that the broker takes, in bytes.
    pub(super) max_packet: Option<u32>,
}

/// Whether the broker still knows us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// With our subscriptions, and what it has kept for us.
    Resumed,
    /// It has kept nothing.
    New,
}

/// A broker's answer to one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is granted.
    Granted(Qos),
    /// It is not, and why.
    Refused(String),
}

/// Properties by name.
pub(super) type Said = Vec<(&'static str, Bytes)>;

/// A message. Topic and payload are views into what was read from the socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// [`PacketId::NONE`] for QoS 0.
    pub(super) id: PacketId,
    pub(super) retained: bool,
    pub(super) duplicate: bool,
    /// What MQTT 5 lets a message say of itself, by the names that we have for it.
    pub(super) said: Said,
    /// MQTT 5 user properties.
    pub(super) properties: Vec<(String, String)>,
}

/// A PUBLISH that would need PUBREC: a broker sends no message at a higher QoS than was subscribed to (5.0 §3.8.4).
#[cold]
pub(super) fn qos_2() -> LinkError {
    LinkError::protocol("the broker sent a message at QoS 2, which we subscribe to nothing at")
}

/// A PUBLISH without a topic: that of an earlier one is meant (5.0 §3.3.2.3.4).
#[cold]
pub(super) fn no_alias() -> LinkError {
    LinkError::protocol("the broker sent a message without a topic, which would be a topic alias, and we allow none")
}

/// A packet that only clients send, or that answers what we never said.
#[cold]
pub(super) fn out_of_place() -> LinkError {
    LinkError::protocol("the broker sent a packet that a subscriber cannot get")
}
