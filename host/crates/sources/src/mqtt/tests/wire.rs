//! Packets as a broker puts them on the wire, byte by byte, so that they can be wrong.

use tidegate_config::MqttVersion;

/// A packet with a first byte and all that follows its length.
pub(in crate::mqtt) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    bytes.push(length as u8);
    bytes.extend(body);
    bytes
}

/// A string with its length before it.
pub(in crate::mqtt) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// The length of properties, where there are none; nothing in 3.1.1.
pub(in crate::mqtt) fn no_properties(version: MqttVersion) -> &'static [u8] {
    match version {
        MqttVersion::V3 => &[],
        MqttVersion::V5 => &[0],
    }
}

/// CONNACK: taken in, with a new session.
pub(in crate::mqtt) fn connack(version: MqttVersion) -> Vec<u8> {
    packet(0x20, &[&[0, 0], no_properties(version)].concat())
}

/// SUBACK: one subscription granted at QoS 1.
pub(in crate::mqtt) fn suback(version: MqttVersion) -> Vec<u8> {
    packet(0x90, &[&[0, 1], no_properties(version), &[1]].concat())
}

/// PUBLISH at QoS 1, of `payload` on `dev/a`.
pub(in crate::mqtt) fn publish(version: MqttVersion, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text("dev/a"), &id.to_be_bytes()[..], no_properties(version), payload].concat())
}
