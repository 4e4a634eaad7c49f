//! A PUBLISH beyond our limit: its beginning is kept for a dead letter, the rest is let pass.
//!
//! Neither version leaves a better way. 3.1.1 cannot tell a broker our limit, and an end of the connection would only make it send the message
//! again. A broker of version 5 that is told (Maximum Packet Size) has to throw such a message away and to behave as if we had acknowledged it
//! (5.0 §3.1.2.11.4): it would be lost, and nobody would ever hear of it. So that limit is not told.
//!
//! Guarantees: what is waited for is bounded by our limit, the longest topic and [`KEPT_BYTES`], whatever the message promises.

use bytes::{Buf, BytesMut};
use tidegate_config::MqttVersion;

use super::error::LinkError;
use super::packet::{PAYLOAD_BYTES, Packet, Publish, no_alias, qos_2};
use super::window::PacketId;

/// The type of a PUBLISH, in the upper half of its first byte.
const PUBLISH: u8 = 3;
/// How much of the payload is kept, for a person to see what it is.
const KEPT_BYTES: usize = 1_024;

/// The beginning of a packet that says it has `bytes` bytes, where `most` is our limit: topic, packet id and some payload (§3.3); none while
/// that is not there. An error, if it is no PUBLISH: we have asked for nothing that could be answered at such length.
#[cold]
pub(super) fn beginning(
    incoming: &mut BytesMut,
    version: MqttVersion,
    bytes: usize,
    most: u32,
) -> Result<Option<Packet>, LinkError> {
    match incoming.first() {
        Some(first) if first >> 4 == PUBLISH => {}
        _ => return Err(LinkError::too_large(bytes, most)),
    }
    let mut header = &incoming[..];
    let flags = header.get_u8();
    let Some(remaining) = variable_int(&mut header)? else { return Ok(None) };
    let qos = flags >> 1 & 3;
    if qos > 1 {
        return Err(qos_2());
    }
    let id_bytes = if qos == 1 { 2 } else { 0 };
    let fixed_bytes = incoming.len() - header.len();
    let Some(topic_bytes) = header.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes))) else {
        return Ok(None);
    };
    let too_short =
        || LinkError::protocol("the broker sent a PUBLISH whose topic or properties are longer than it is");
    let Some(after_id) = remaining.checked_sub(2 + topic_bytes + id_bytes) else { return Err(too_short()) };
    let Some(mut after_topic) = header.get(2 + topic_bytes + id_bytes..) else { return Ok(None) };
    let before_length = after_topic.len();
    let properties = match version {
        MqttVersion::V3 => 0,
        MqttVersion::V5 => match variable_int(&mut after_topic)? {
            Some(properties) => properties,
            None => return Ok(None),
        },
    };
    let length_bytes = before_length - after_topic.len();
    let Some(payload) = after_id.checked_sub(length_bytes + properties) else { return Err(too_short()) };
    if topic_bytes == 0 && version == MqttVersion::V5 {
        return Err(no_alias());
    }
    // Properties beyond our limit are not waited for, and so nothing of the payload behind them is kept.
    let (passed, kept) = if properties > most as usize { (0, 0) } else { (properties, payload.min(KEPT_BYTES)) };
    if after_topic.len() < passed + kept {
        return Ok(None);
    }
    incoming.advance(fixed_bytes + 2);
    let topic = incoming.split_to(topic_bytes).freeze();
    let id = if qos == 1 { PacketId(incoming.get_u16()) } else { PacketId::NONE };
    incoming.advance(length_bytes + passed);
    let publish = Publish {
        topic,
        payload: incoming.split_to(kept).freeze(),
        id,
        retained: flags & 1 == 1,
        duplicate: flags & 8 == 8,
        said: Vec::new(),
        properties: vec![(PAYLOAD_BYTES.to_owned(), payload.to_string())],
    };
    Ok(Some(Packet::Oversized(publish, properties - passed + payload - kept)))
}

/// A Variable Byte Integer (5.0 §1.5.5); none while it is not there.
fn variable_int(bytes: &mut &[u8]) -> Result<Option<usize>, LinkError> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
        *bytes = rest;
        value |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(Some(value));
        }
    }
    Err(LinkError::protocol("the broker sent a length of more than four bytes"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::mqtt::codec;
    use crate::mqtt::tests::VERSIONS;
    use crate::mqtt::tests::wire::{no_properties, packet, text};

    const MOST: u32 = 4_096;

    /// A PUBLISH at QoS 1, with these properties and 9,000 bytes of payload.
    fn publish(properties: &[u8]) -> Vec<u8> {
        packet(0x3A, &[&text("dev/a"), &[0, 7][..], properties, &[b'x'; 9_000]].concat())
    }

    /// What is taken of `bytes` as they come one by one: how many had come then, what was taken, and how many are to be skipped.
    fn taken(version: MqttVersion, bytes: &[u8]) -> (usize, Publish, usize) {
        let mut incoming = BytesMut::new();
        for (at, &byte) in bytes.iter().enumerate() {
            incoming.extend([byte]);
            if let Some(packet) = codec(version).next(&mut incoming, MOST).unwrap() {
                assert!(incoming.is_empty(), "{version:?}: what is skipped begins with what comes next");
                let Packet::Oversized(publish, skip) = packet else { panic!("{version:?}: {packet:?}") };
                return (at + 1, publish, skip);
            }
        }
        panic!("{version:?}: nothing was taken of {} bytes", bytes.len())
    }

    /// Guarantees: of a message beyond the limit topic, id, flags, length and the first 1,024 bytes of its payload are taken as soon as they are there,
    /// however the network cuts them, and all that follows is to be skipped, to the byte; properties are passed over.
    #[test]
    fn its_beginning() {
        let properties = [&[14, 38][..], &text("site"), &text("north")[..]].concat();
        for (version, properties) in [
            (MqttVersion::V3, no_properties(MqttVersion::V3)),
            (MqttVersion::V5, no_properties(MqttVersion::V5)),
            (MqttVersion::V5, &properties[..]),
        ] {
            let bytes = publish(properties);
            let (came, publish, skip) = taken(version, &bytes);
            assert_eq!((came, skip), (bytes.len() - 9_000 + KEPT_BYTES, 9_000 - KEPT_BYTES), "{version:?}");
            assert_eq!((&publish.topic[..], publish.id), (&b"dev/a"[..], PacketId(7)), "{version:?}");
            assert_eq!(publish.payload, [b'x'; KEPT_BYTES][..], "{version:?}");
            assert!(publish.duplicate && !publish.retained, "{version:?}");
            assert_eq!(publish.properties, [(PAYLOAD_BYTES.to_owned(), "9000".to_owned())], "{version:?}");
        }
    }

    /// Guarantees: properties beyond the limit are not waited for either.
    #[test]
    fn properties_beyond_the_limit() {
        let property = [&[38][..], &text("k"), &text(&"v".repeat(60_000))[..]].concat();
        let length = [property.len() as u8 | 0x80, (property.len() >> 7) as u8 | 0x80, (property.len() >> 14) as u8];
        let bytes = publish(&[&length[..], &property[..]].concat());
        let (came, publish, skip) = taken(MqttVersion::V5, &bytes);
        assert_eq!((came, skip), (bytes.len() - 9_000 - property.len(), 9_000 + property.len()));
        assert_eq!((&publish.topic[..], &publish.payload[..]), (&b"dev/a"[..], &b""[..]));
        assert_eq!(publish.properties, [(PAYLOAD_BYTES.to_owned(), "9000".to_owned())]);
    }

    /// Guarantees: a message whose parts are longer than it says to be is no message, and is not waited for.
    #[test]
    fn lengths_that_do_not_fit() {
        for version in VERSIONS {
            // 8,192 bytes are promised, and a topic of 65,535.
            let bytes = [0x32, 0x80, 0x40, 0xFF, 0xFF];
            let error = codec(version).next(&mut BytesMut::from(&bytes[..]), MOST).unwrap_err();
            assert!(error.what.contains("longer than it is"), "{version:?}: {error}");
        }
        let properties = [&[0x32, 0x80, 0x40][..], &text("dev/a"), &[0, 7, 0xFF, 0xFF, 0xFF, 0x7F][..]].concat();
        let error = codec(MqttVersion::V5).next(&mut BytesMut::from(&properties[..]), MOST).unwrap_err();
        assert!(error.what.contains("longer than it is"), "{error}");
    }
}
