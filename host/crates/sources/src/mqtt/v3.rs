//! MQTT 3.1.1 over rumqttc.
//!
//! PUBACKs are written to the connection itself, a batch with one flush: through rumqttc's request channel each would be a
//! system call. That needs the event loop, so a poll in progress is dropped for it. In rumqttc 0.25 that loses nothing:
//! what is read waits in the codec's buffer or in `state.events`, an unfinished flush is finished by the next one, and
//! the only packets poll itself writes (SUBSCRIBE, PINGREQ, DISCONNECT) wait for room only behind 8 KiB of unsent bytes,
//! which [`Link::acknowledge`] never leaves behind.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event as Raw, EventLoop, Packet, PubAck, QoS, StateError, SubscribeFilter,
    SubscribeReasonCode,
};
use tidegate_config::Qos;

use super::link::{Answer, Event, Link, LinkError, Publish, advice};
use super::window::{PacketId, Window};

/// How long the broker may take no bytes from us.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection by 3.1.1.
pub(super) struct V3 {
    client: AsyncClient,
    eventloop: EventLoop,
    filters: Vec<(String, Qos)>,
}

impl V3 {
    pub(super) fn new(options: rumqttc::MqttOptions, filters: Vec<(String, Qos)>) -> Self {
        // Two requests at most wait at a time: SUBSCRIBE after CONNACK, and DISCONNECT.
        let (client, mut eventloop) = AsyncClient::new(options, 4);
        let mut network = eventloop.network_options();
        network.set_tcp_nodelay(true);
        eventloop.set_network_options(network);
        Self { client, eventloop, filters }
    }

    async fn write_acks(&mut self, window: &mut Window) -> Result<(), StateError> {
        let Some(network) = self.eventloop.network.as_mut() else { return Ok(()) };
        while let Some(id) = window.next_settled() {
            network.write(Packet::PubAck(PubAck::new(id.0))).await?;
            window.acknowledged();
        }
        network.flush().await
    }
}

impl Link for V3 {
    type Publish = rumqttc::Publish;

    #[inline]
    fn ready(&mut self) -> Option<Event<Self::Publish>> {
        self.eventloop.state.events.pop_front().map(event)
    }

    async fn poll(&mut self) -> Result<Event<Self::Publish>, LinkError> {
        self.eventloop.poll().await.map(event).map_err(error)
    }

    fn subscribe(&mut self) -> Result<(), LinkError> {
        let filters = self.filters.iter().map(|(filter, qos)| SubscribeFilter::new(filter.clone(), raw_qos(*qos)));
        self.client
            .try_subscribe_many(filters)
            .map_err(|error| LinkError::lost(format!("SUBSCRIBE could not be sent: {error}"), advice::CLOSED))
    }

    async fn acknowledge(&mut self, window: &mut Window) -> Result<(), LinkError> {
        match tokio::time::timeout(FLUSH_TIMEOUT, self.write_acks(window)).await {
            Ok(done) => done.map_err(|cause| error(ConnectionError::MqttState(cause))),
            Err(_) => Err(error(ConnectionError::FlushTimeout)),
        }
    }

    fn abandon(&mut self) {
        self.eventloop.clean();
        self.eventloop.pending.clear();
        self.eventloop.state.events.clear();
    }

    async fn leave(&mut self) -> Result<(), LinkError> {
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
fn event(raw: Raw) -> Event<rumqttc::Publish> {
    match raw {
        Raw::Incoming(Packet::Publish(publish)) => Event::Message(publish),
        Raw::Incoming(Packet::ConnAck(_)) => Event::Connected,
        Raw::Incoming(Packet::SubAck(suback)) => {
            let answer = |code| match code {
                SubscribeReasonCode::Success(QoS::AtMostOnce) => Answer::Granted(Qos::AtMostOnce),
                SubscribeReasonCode::Success(_) => Answer::Granted(Qos::AtLeastOnce),
                SubscribeReasonCode::Failure => Answer::Refused("0x80, failure".into()),
            };
            Event::Subscribed(suback.return_codes.into_iter().map(answer).collect())
        }
        Raw::Incoming(_) | Raw::Outgoing(_) => Event::Other,
    }
}

fn error(cause: ConnectionError) -> LinkError {
    let advice = match &cause {
        ConnectionError::Io(_) => advice::UNREACHABLE,
        ConnectionError::ConnectionRefused(_) | ConnectionError::NotConnAck(_) => advice::REFUSED,
        ConnectionError::Tls(_) => advice::TLS,
        ConnectionError::MqttState(StateError::Deserialization(_)) => advice::TOO_LARGE,
        ConnectionError::NetworkTimeout
        | ConnectionError::FlushTimeout
        | ConnectionError::MqttState(StateError::AwaitPingResp) => advice::SILENT,
        ConnectionError::MqttState(_) | ConnectionError::RequestsDone => advice::CLOSED,
    };
    LinkError::lost(cause.to_string(), advice)
}

impl Publish for rumqttc::Publish {
    #[inline]
    fn topic(&self) -> &[u8] {
        self.topic.as_bytes()
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
        &[]
    }
}
