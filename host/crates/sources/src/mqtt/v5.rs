//! The packets of MQTT 5.0, by rumqttc's codec.

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login,
    Packet as Raw, Publish as RawPublish, PublishProperties, RetainForwardRule, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tidegate_config::{MqttSource as Settings, MqttVersion, Qos};

use super::error::{LinkError, advice, said};
use super::options;
use super::oversized::beginning;
use super::packet::{
    Answer, CONTENT_TYPE, CORRELATION_DATA, Codec, Packet, Publish, RESPONSE_TOPIC, Said, SessionState, Welcome,
    no_alias, out_of_place, qos_2,
};
use super::window::PacketId;

/// The first byte of a DISCONNECT.
const DISCONNECT: u8 = 0xE0;

/// 5.0.
pub(super) struct V5;

impl Codec for V5 {
    fn connect(&self, settings: &Settings, client_id: &str, outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let properties = ConnectProperties {
            session_expiry_interval: Some(u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX)),
            receive_maximum: Some(settings.receive_maximum.max(1)),
            // Never the limit of packets: see `oversized.rs`.
            ..ConnectProperties::new()
        };
        let connect = Connect {
            keep_alive: options::keep_alive(&settings.endpoint),
            client_id: client_id.to_owned(),
            clean_start: false,
            properties: Some(properties),
        };
        let login = options::credentials(&settings.endpoint).map(|(user, password)| Login::new(user, password));
        write(&Raw::Connect(connect, None, login), outgoing)
    }

    fn subscribe(&self, filters: &[(String, Qos)], outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let filters = filters.iter().map(|(filter, qos)| Filter {
            // Retained messages come once, not again with each reconnect to a session that still stands (§3.8.3.1).
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new(filter.clone(), raw_qos(*qos))
        });
        let subscribe = Subscribe { pkid: options::SUBSCRIBE_ID, filters: filters.collect(), properties: None };
        write(&Raw::Subscribe(subscribe), outgoing)
    }

    fn unsubscribe(&self, id: u16, filter: &str, outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let unsubscribe = Unsubscribe { pkid: id, filters: vec![filter.to_owned()], properties: None };
        write(&Raw::Unsubscribe(unsubscribe), outgoing)
    }

    fn next(&self, incoming: &mut BytesMut, max_packet: u32) -> Result<Option<Packet>, LinkError> {
        if let Some(reason) = short_disconnect(incoming) {
            return Err(ended(Disconnect::new(reason?)));
        }
        let received = incoming.len();
        let packet = match Raw::read(incoming, Some(max_packet)) {
            Ok(Raw::Publish(publish)) => Packet::Message(message(publish)?),
            Ok(Raw::PingResp(_)) => Packet::Alive,
            Ok(Raw::SubAck(suback)) => Packet::Subscribed(answers(suback)),
            Ok(Raw::UnsubAck(unsuback)) => unsubscribed(unsuback),
            Ok(Raw::ConnAck(connack)) => Packet::Connected(welcome(connack)?),
            Ok(Raw::Disconnect(disconnect)) => return Err(ended(disconnect)),
            Ok(_) => return Err(out_of_place()),
            // The codec says the same of a packet that ends before its properties do; but that it has taken off.
            Err(Error::InsufficientBytes(_)) if incoming.len() == received => return Ok(None),
            Err(Error::PayloadSizeLimitExceeded { pkt_size, .. }) => {
                return beginning(incoming, MqttVersion::V5, pkt_size, max_packet);
            }
            Err(error) => return Err(malformed(&error)),
        };
        Ok(Some(packet))
    }
}

fn write(packet: &Raw, outgoing: &mut BytesMut) -> Result<(), LinkError> {
    match packet.write(outgoing, None) {
        Ok(_bytes) => Ok(()),
        Err(error) => Err(LinkError::lost(format!("a packet cannot be written: {error}"), advice::SHORTER)),
    }
}

#[cold]
fn malformed(error: &Error) -> LinkError {
    LinkError::protocol(format!("the broker sent a malformed packet: {error}"))
}

#[inline]
fn message(publish: RawPublish) -> Result<Publish, LinkError> {
    if publish.qos == QoS::ExactlyOnce {
        return Err(qos_2());
    }
    if publish.topic.is_empty() {
        return Err(no_alias());
    }
    let (said, properties) = publish.properties.map_or_else(Default::default, told);
    Ok(Publish {
        topic: publish.topic,
        payload: publish.payload,
        id: PacketId(publish.pkid),
        retained: publish.retain,
        duplicate: publish.dup,
        said,
        properties,
    })
}

/// What a message says of itself, and its user properties. What is left out is for the broker, or was its word to us.
fn told(properties: PublishProperties) -> (Said, Vec<(String, String)>) {
    let PublishProperties { content_type, response_topic, correlation_data, user_properties, .. } = properties;
    let all = [
        (CONTENT_TYPE, content_type.map(Bytes::from)),
        (RESPONSE_TOPIC, response_topic.map(Bytes::from)),
        (CORRELATION_DATA, correlation_data),
    ];
    let said = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    (said.collect(), user_properties)
}

fn welcome(connack: ConnAck) -> Result<Welcome, LinkError> {
    let properties = connack.properties;
    if connack.code != ConnectReturnCode::Success {
        let text = properties.and_then(|properties| properties.reason_string);
        return Err(LinkError::refused("the broker refused us", connack.code, text, advice::REFUSED));
    }
    Ok(Welcome {
        session: if connack.session_present { SessionState::Resumed } else { SessionState::New },
        keep_alive: properties.as_ref().and_then(|properties| properties.server_keep_alive),
        max_packet: properties.and_then(|properties| properties.max_packet_size),
    })
}

fn answers(suback: SubAck) -> Vec<Answer> {
    let text = suback.properties.and_then(|properties| properties.reason_string);
    let answer = |code| match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Answer::Granted(Qos::AtMostOnce),
        SubscribeReasonCode::Success(_) => Answer::Granted(Qos::AtLeastOnce),
        reason => Answer::Refused(said(reason, text.clone())),
    };
    suback.return_codes.into_iter().map(answer).collect()
}

/// That there was no such subscription is as good.
fn unsubscribed(unsuback: UnsubAck) -> Packet {
    let good =
        |reason: &UnsubAckReason| matches!(reason, UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted);
    let refused = unsuback.reasons.into_iter().find(|reason| !good(reason));
    let text = unsuback.properties.and_then(|properties| properties.reason_string);
    Packet::Unsubscribed(unsuback.pkid, refused.map(|reason| said(reason, text)))
}

/// The reason of a DISCONNECT without properties, maybe without a reason too (§3.14.2). rumqttc's codec wants both.
fn short_disconnect(incoming: &[u8]) -> Option<Result<DisconnectReasonCode, LinkError>> {
    match *incoming {
        [DISCONNECT, 0, ..] => Some(Ok(DisconnectReasonCode::NormalDisconnection)),
        [DISCONNECT, 1, reason, ..] => {
            Some(DisconnectReasonCode::try_from(reason).map_err(|error| malformed(&error)))
        }
        _ => None,
    }
}

#[cold]
fn ended(disconnect: Disconnect) -> LinkError {
    let text = disconnect.properties.and_then(|properties| properties.reason_string);
    LinkError::refused("the broker ended the connection", disconnect.reason_code, text, advice::CLOSED)
}

fn raw_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}
