//! MQTT 5 over rumqttc.
//!
//! rumqttc 0.25 keeps the connection of its version 5 event loop to itself, so PUBACKs go through its request channel, where
//! each is a flush of its own. Nagle's algorithm is left on, so that the kernel gathers them; the answers a broker owes
//! us are not delayed by it, since its next PUBLISH carries the TCP acknowledgement.
//!
//! A poll in progress may be dropped: see `v3.rs`. A request taken from the channel waits for room only behind 8 KiB of
//! unsent bytes, 2,000 PUBACKs that a broker refuses to read; should it come to that, what is lost is an
//! acknowledgement, and the message comes again.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, Publish as RawPublish, RetainForwardRule, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Raw, EventLoop, MqttOptions, StateError};
use tidegate_config::Qos;

use super::link::{Answer, Event, Link, LinkError, Publish, advice};
use super::window::{PacketId, Window};

/// A connection by 5.0.
pub(super) struct V5 {
    client: AsyncClient,
    eventloop: EventLoop,
    filters: Vec<(String, Qos)>,
}

impl V5 {
    /// `receive_maximum` as in the options: no more PUBACKs can wait at a time.
    pub(super) fn new(options: MqttOptions, filters: Vec<(String, Qos)>, receive_maximum: u16) -> Self {
        let (client, eventloop) = AsyncClient::new(options, usize::from(receive_maximum) + 4);
        Self { client, eventloop, filters }
    }
}

impl Link for V5 {
    type Publish = RawPublish;

    #[inline]
    fn ready(&mut self) -> Option<Event<Self::Publish>> {
        self.eventloop.state.events.pop_front().map(event)
    }

    async fn poll(&mut self) -> Result<Event<Self::Publish>, LinkError> {
        self.eventloop.poll().await.map(event).map_err(error)
    }

    fn subscribe(&mut self) -> Result<(), LinkError> {
        let filters = self.filters.iter().map(|(filter, qos)| Filter {
            // Retained messages come once, not again with each reconnect to a session that still stands (§3.8.3.1).
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new(filter.clone(), raw_qos(*qos))
        });
        self.client
            .try_subscribe_many(filters)
            .map_err(|error| LinkError::lost(format!("SUBSCRIBE could not be sent: {error}"), advice::CLOSED))
    }

    async fn acknowledge(&mut self, window: &mut Window) -> Result<(), LinkError> {
        while let Some(id) = window.next_settled() {
            let received = RawPublish { qos: QoS::AtLeastOnce, pkid: id.0, ..RawPublish::default() };
            if self.client.try_ack(&received).is_err() {
                // The channel is full: polling empties it, and the loop comes back here after each poll.
                break;
            }
            window.acknowledged();
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.eventloop.clean();
        self.eventloop.pending.clear();
        self.eventloop.state.events.clear();
    }

    async fn leave(&mut self) -> Result<(), LinkError> {
        // Requests leave in order: when DISCONNECT is out, so is every PUBACK before it.
        while self.client.try_disconnect().is_err() {
            // The channel is full: polling empties it.
            self.eventloop.poll().await.map_err(error)?;
        }
        let mut told = false;
        loop {
            match self.eventloop.poll().await {
                Ok(Raw::Outgoing(rumqttc::Outgoing::Disconnect)) => told = true,
                Ok(_) => {}
                Err(_hung_up) if told => return Ok(()),
                Err(cause) => return Err(error(cause)),
            }
        }
    }
}

fn raw_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

#[inline]
fn event(raw: Raw) -> Event<RawPublish> {
    match raw {
        Raw::Incoming(Packet::Publish(publish)) => Event::Message(publish),
        Raw::Incoming(Packet::ConnAck(_)) => Event::Connected,
        Raw::Incoming(Packet::SubAck(suback)) => Event::Subscribed(answers(suback)),
        Raw::Incoming(_) | Raw::Outgoing(_) => Event::Other,
    }
}

fn answers(suback: SubAck) -> Vec<Answer> {
    let said = suback.properties.and_then(|properties| properties.reason_string);
    let answer = |code| match (code, &said) {
        (SubscribeReasonCode::Success(QoS::AtMostOnce), _) => Answer::Granted(Qos::AtMostOnce),
        (SubscribeReasonCode::Success(_), _) => Answer::Granted(Qos::AtLeastOnce),
        (reason, Some(said)) => Answer::Refused(format!("{reason:?}: {said}")),
        (reason, None) => Answer::Refused(format!("{reason:?}")),
    };
    suback.return_codes.into_iter().map(answer).collect()
}

fn error(cause: ConnectionError) -> LinkError {
    let advice = match &cause {
        ConnectionError::Io(_) => advice::UNREACHABLE,
        ConnectionError::ConnectionRefused(_) | ConnectionError::NotConnAck(_) => advice::REFUSED,
        ConnectionError::Tls(_) => advice::TLS,
        ConnectionError::MqttState(StateError::Deserialization(_) | StateError::IncomingPacketTooLarge { .. }) => {
            advice::TOO_LARGE
        }
        ConnectionError::Timeout(_) | ConnectionError::MqttState(StateError::AwaitPingResp) => advice::SILENT,
        ConnectionError::MqttState(_) | ConnectionError::RequestsDone => advice::CLOSED,
    };
    LinkError::lost(cause.to_string(), advice)
}

impl Publish for RawPublish {
    #[inline]
    fn topic(&self) -> &[u8] {
        &self.topic
    }
    #[inline]
    fn payload(&self) -> &[u8] {
        &self.payload
    }
    #[inline]
    fn packet_id(&self) -> PacketId {
        PacketId(self.pkid)
    }
    #[inline]
    fn retained(&self) -> bool {
        self.retain
    }
    #[inline]
    fn duplicate(&self) -> bool {
        self.dup
    }
    #[inline]
    fn properties(&self) -> &[(String, String)] {
        self.properties.as_ref().map_or(&[], |properties| &properties.user_properties)
    }
}
