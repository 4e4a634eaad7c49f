//! What the connection loop needs of a client library, the same for both versions of the protocol.

use std::future::Future;

use tidegate_config::Qos;

use super::window::Window;

/// One connection of a client, made again by itself when it is polled after a failure.
pub(super) trait Link: Send {
    /// A received message.
    type Publish: Publish;

    /// The next event that was already read from the socket, if there is one.
    fn ready(&mut self) -> Option<Event<Self::Publish>>;

    /// Waits for the next event, connecting first where there is no connection. Once connected it may be dropped and
    /// called again: nothing that was read is lost.
    fn poll(&mut self) -> impl Future<Output = Result<Event<Self::Publish>, LinkError>> + Send;

    /// Asks for the subscriptions; the answer is [`Event::Subscribed`].
    fn subscribe(&mut self) -> Result<(), LinkError>;

    /// Acknowledges what the window gives. What cannot be sent now stays in the window.
    fn acknowledge(&mut self, window: &mut Window) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Drops the connection and all that was read from it: a message of an old connection must not be taken for one of
    /// the next, since packet ids mean something only within a connection.
    fn abandon(&mut self);

    /// Sends what is on its way, then DISCONNECT; the broker keeps the session. Ends when the broker hangs up: only then has
    /// it read everything, and a successor under our client id cannot overtake our last acknowledgements.
    fn leave(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event<P> {
    /// The broker took us in (CONNACK).
    Connected,
    /// A message came (PUBLISH).
    Message(P),
    /// The answer to each subscription, in order (SUBACK).
    Subscribed(Vec<Answer>),
    /// Something that needs nothing of us.
    Other,
}

/// A broker's answer to one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is granted.
    Granted(Qos),
    /// It is not, and why.
    Refused(String),
}

/// A message as the client library gives it.
pub(super) trait Publish: Send {
    fn topic(&self) -> &[u8];
    fn payload(&self) -> &[u8];
    /// [`super::window::PacketId::NONE`] for QoS 0. QoS 2 cannot come: a broker sends no message at a higher QoS than was
    /// subscribed to (MQTT 5.0 §3.8.4).
    fn packet_id(&self) -> super::window::PacketId;
    fn retained(&self) -> bool;
    fn duplicate(&self) -> bool;
    /// MQTT 5 user properties.
    fn properties(&self) -> &[(String, String)];
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {advice}")]
pub(super) struct LinkError {
    pub(super) what: String,
    /// What a person can do about it.
    pub(super) advice: &'static str,
}

impl LinkError {
    /// From a client library's error, by what it says of itself.
    pub(super) fn lost(what: String, advice: &'static str) -> Self {
        Self { what, advice }
    }
}

/// What to do about common failures; both client libraries word them alike.
pub(super) mod advice {
    pub(in super::super) const UNREACHABLE: &str = "check that the broker runs and that host and port are right";
    pub(in super::super) const REFUSED: &str =
        "check user name, password and client id, and the broker's access rules";
    pub(in super::super) const TLS: &str =
        "check ca_file, the broker's certificate and its name, and our own certificate";
    pub(in super::super) const CLOSED: &str =
        "the broker's log says why; a second client with the same client id would also do this";
    pub(in super::super) const TOO_LARGE: &str =
        "a message may be larger than max_packet_bytes: raise it, or the broker will send the message again for ever";
    pub(in super::super) const STALE: &str =
        "see whether anything is published on our topics, and whether `stale_after_s` fits how often it is";
    pub(in super::super) const SILENT: &str = "the broker did not answer in time: check the network and its load";
}
