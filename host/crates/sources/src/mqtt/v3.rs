//! The packets of MQTT 3.1.1, by rumqttc's codec.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::{
    Connect, ConnectReturnCode, Login, Packet as Raw, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode,
    Unsubscribe,
};
use tidegate_config::{MqttSource as Settings, MqttVersion, Qos};

use super::error::{LinkError, advice};
use super::options;
use super::oversized::beginning;
use super::packet::{Answer, Codec, Packet, Publish, SessionState, Welcome, out_of_place, qos_2};
use super::window::PacketId;

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

    fn subscribe(&self, filters: &[(String, Qos)], outgoing: &mut BytesMut) -> Result<(), LinkError> {
        let filters = filters.iter().map(|(filter, qos)| SubscribeFilter::new(filter.clone(), raw_qos(*qos)));
        write(&Raw::Subscribe(Subscribe { pkid: options::SUBSCRIBE_ID, filters: filters.collect() }), outgoing)
    }

    fn unsubscribe(&self, id: u16, filter: &str, outgoing: &mut BytesMut) -> Result<(), LinkError> {
        write(&Raw::Unsubscribe(Unsubscribe { pkid: id, topics: vec![filter.to_owned()] }), outgoing)
    }

    fn next(&self, incoming: &mut BytesMut, max_packet: u32) -> Result<Option<Packet>, LinkError> {
        let packet = match Raw::read(incoming, max_packet as usize) {
            Ok(Raw::Publish(publish)) => Packet::Message(message(publish)?),
            Ok(Raw::PingResp) => Packet::Alive,
            Ok(Raw::SubAck(suback)) => Packet::Subscribed(suback.return_codes.into_iter().map(answer).collect()),
            Ok(Raw::UnsubAck(unsuback)) => Packet::Unsubscribed(unsuback.pkid, None),
            Ok(Raw::ConnAck(connack)) => {
                if connack.code != ConnectReturnCode::Success {
                    return Err(LinkError::refused("the broker refused us", connack.code, None, advice::REFUSED));
                }
                let session = if connack.session_present { SessionState::Resumed } else { SessionState::New };
                Packet::Connected(Welcome { session, keep_alive: None, max_packet: None })
            }
            Ok(_) => return Err(out_of_place()),
            Err(Error::InsufficientBytes(_)) => return Ok(None),
            Err(Error::PayloadSizeLimitExceeded(bytes)) => {
                return beginning(incoming, MqttVersion::V3, bytes, max_packet);
            }
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
