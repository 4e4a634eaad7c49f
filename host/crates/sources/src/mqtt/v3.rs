//! The packets of MQTT 3.1.1, by rumqttc's codec.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::{
    Connect, ConnectReturnCode, Login, Packet as Raw, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use tidegate_config::{MqttSource as Settings, Qos};

use super::error::{LinkError, advice};
use super::options;
use super::packet::{Answer, Codec, PAYLOAD_BYTES, Packet, Publish, SessionState, Welcome, out_of_place, qos_2};
use super::window::PacketId;

/// The type of a PUBLISH, in the upper half of its first byte.
const PUBLISH: u8 = 3;
/// How much of the payload of a PUBLISH beyond our limit is kept, for a person to see what it is.
const KEPT_BYTES: usize = 1_024;

/// 3.1.1.
pub(super) struct V3;

impl Codec for V3 {
    fn connect(&self, settings: &Settings, client_id: &str, outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let mut connect = Connect::new(client_id);
        connect.clean_session = false;
        connect.keep_alive = options::keep_alive(&settings.endpoint);
        connect.login = options::credentials(&settings.endpoint).map(|(user, password)| Login::new(user, password));
        write(&Raw::Connect(connect), outgoing)
    }

    fn subscribe(&self, settings: &Settings, outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let filters = options::filters(settings).map(|(filter, qos)| SubscribeFilter::new(filter, raw_qos(qos)));
        write(&Raw::Subscribe(Subscribe { pkid: options::SUBSCRIBE_ID, filters: filters.collect() }), outgoing)
    }

    fn next(&self, incoming: &mut BytesMut, max_packet: u32) -> Result<Option<Packet>, LinkError> {
        let packet = match Raw::read(incoming, max_packet as usize) {
            Ok(Raw::Publish(publish)) => Packet::Message(message(publish)?),
            Ok(Raw::PingResp) => Packet::Alive,
            Ok(Raw::SubAck(suback)) => Packet::Subscribed(suback.return_codes.into_iter().map(answer).collect()),
            Ok(Raw::ConnAck(connack)) => {
                if connack.code != ConnectReturnCode::Success {
                    return Err(LinkError::refused("the broker refused us", connack.code, None, advice::REFUSED));
                }
                let session = if connack.session_present { SessionState::Resumed } else { SessionState::New };
                Packet::Connected(Welcome { session, keep_alive: None, max_packet: None })
            }
            Ok(_) => return Err(out_of_place()),
            Err(Error::InsufficientBytes(_)) => return Ok(None),
            Err(Error::PayloadSizeLimitExceeded(bytes)) => match incoming.first() {
                Some(first) if first >> 4 == PUBLISH => return beginning(incoming),
                _ => return Err(LinkError::too_large(bytes, max_packet)),
            },
            Err(error) => return Err(LinkError::protocol(format!("the broker sent a malformed packet: {error}"))),
        };
        Ok(Some(packet))
    }
}

fn write(packet: &Raw, outgoing: &mut BytesMut) -> Result<(), LinkError> {
    match packet.write(outgoing, usize::MAX) {
        Ok(_bytes) => Ok(()),
        Err(error) => Err(LinkError::lost(format!("a packet cannot be written: {error}"), advice::SHORTER)),
    }
}

#[inline]
fn message(publish: rumqttc::Publish) -> Result<Publish, LinkError> {
    if publish.qos == QoS::ExactlyOnce {
        return Err(qos_2());
    }
    Ok(Publish {
        topic: Bytes::from(publish.topic),
        payload: publish.payload,
        id: PacketId(publish.pkid),
        retained: publish.retain,
        duplicate: publish.dup,
        said: Vec::new(),
        properties: Vec::new(),
    })
}

/// The beginning of a PUBLISH that is too large, once it is there: topic, packet id and some payload (§3.3).
#[cold]
fn beginning(incoming: &mut BytesMut) -> Result<Option<Packet>, LinkError> {
    let mut header = &incoming[..];
    let available = header.len();
    let flags = header.get_u8();
    let mut remaining = 0_usize;
    for shift in [0, 7, 14, 21] {
        let Some(&byte) = header.first() else { return Ok(None) };
        header.advance(1);
        remaining |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let qos = flags >> 1 & 3;
    if qos > 1 {
        return Err(qos_2());
    }
    let id_bytes = if qos == 1 { 2 } else { 0 };
    let Some(topic_bytes) = header.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes))) else {
        return Ok(None);
    };
    let Some(payload) = remaining.checked_sub(2 + topic_bytes + id_bytes) else {
        return Err(LinkError::protocol("the broker sent a PUBLISH whose topic is longer than it is itself"));
    };
    let kept = payload.min(KEPT_BYTES);
    if header.len() < 2 + topic_bytes + id_bytes + kept {
        return Ok(None);
    }
    let fixed = available - header.len();
    incoming.advance(fixed + 2);
    let topic = incoming.split_to(topic_bytes).freeze();
    let id = if qos == 1 { PacketId(incoming.get_u16()) } else { PacketId::NONE };
    let publish = Publish {
        topic,
        payload: incoming.split_to(kept).freeze(),
        id,
        retained: flags & 1 == 1,
        duplicate: flags & 8 == 8,
        said: Vec::new(),
        properties: vec![(PAYLOAD_BYTES.to_owned(), payload.to_string())],
    };
    Ok(Some(Packet::Oversized(publish, payload - kept)))
}

fn answer(code: SubscribeReasonCode) -> Answer {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Answer::Granted(Qos::AtMostOnce),
        SubscribeReasonCode::Success(_) => Answer::Granted(Qos::AtLeastOnce),
        SubscribeReasonCode::Failure => Answer::Refused("0x80, failure".into()),
    }
}

fn raw_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}
