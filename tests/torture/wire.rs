//! As much of MQTT as publishing and listening in takes (MQTT 3.1.1 and 5.0, sections 2 and 3).

/// A packet, as far as torture asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// By a client of this protocol level, 4 for 3.1.1 and 5 for 5.0, that keeps its session or not.
    Connect { level: u8, keeps_session: bool },
    /// The broker's answer: 0 is yes.
    ConnAck { code: u8 },
    /// With its packet identifier, none at QoS 0.
    Publish { id: Option<u16>, payload: &'a [u8] },
    /// Receipt, with a reason code from 0x80 if it was refused.
    PubAck { id: u16, reason: u8 },
    /// Anything else, or not to be understood.
    Other,
}

/// Packets out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Frames {
    waiting: Vec<u8>,
}

impl Frames {
    /// Calls `each` with every packet that is complete now.
    pub fn take(&mut self, bytes: &[u8], level: u8, mut each: impl FnMut(Packet<'_>)) {
        self.waiting.extend_from_slice(bytes);
        let mut start = 0;
        while let Some((header, length)) = header(&self.waiting[start..]) {
            let Some(frame) = self.waiting.get(start..start + header + length) else { break };
            each(packet(frame[0], &frame[header..], level).unwrap_or(Packet::Other));
            start += header + length;
        }
        self.waiting.drain(..start);
    }
}

/// The lengths of a packet's fixed header and of its rest.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (size, length) = varint(bytes.get(1..)?)?;
    Some((1 + size, length))
}

/// A variable byte integer: how many bytes it takes, and what it is.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((at + 1, value));
        }
    }
    None
}

fn packet(first: u8, body: &[u8], level: u8) -> Option<Packet<'_>> {
    let short = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    Some(match first >> 4 {
        // Protocol name "MQTT" with its length, level, flags; bit 1 of these asks for a clean session or start.
        1 => Packet::Connect { level: *body.get(6)?, keeps_session: body.get(7)? & 0b10 == 0 },
        2 => Packet::ConnAck { code: *body.get(1)? },
        3 => {
            let mut at = 2 + usize::from(short(0)?);
            let id = if first & 0b110 == 0 { None } else { Some(short(at)?) };
            at += if id.is_some() { 2 } else { 0 };
            if level >= 5 {
                let (size, length) = varint(body.get(at..)?)?;
                at += size + length;
            }
            Packet::Publish { id, payload: body.get(at..)? }
        }
        4 => Packet::PubAck { id: short(0)?, reason: body.get(2).copied().unwrap_or(0) },
        _ => Packet::Other,
    })
}

/// CONNECT by 3.1.1, without keep-alive, with a session that ends with the connection.
pub fn connect(client_id: &str) -> Vec<u8> {
    let body =
        [b"\0\x04MQTT\x04\x02\0\0", &(client_id.len() as u16).to_be_bytes()[..], client_id.as_bytes()].concat();
    framed(0x10, &body)
}

/// PUBLISH by 3.1.1 at QoS 1.
pub fn publish(topic: &str, id: u16, again: bool, payload: &[u8]) -> Vec<u8> {
    let topic_length = (topic.len() as u16).to_be_bytes();
    let body = [&topic_length[..], topic.as_bytes(), &id.to_be_bytes(), payload].concat();
    framed(0x32 | if again { 0x08 } else { 0 }, &body)
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mut length = body.len();
    loop {
        let more = length > 0x7f;
        frame.push((length & 0x7f) as u8 | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: packets are found however the stream is cut, and say what was put in.
    #[test]
    fn packets_in_pieces() {
        let payload = [b'x'; 300];
        let stream = [connect("me"), publish("a/b", 7, true, &payload), vec![0x40, 2, 0, 7], vec![0xd0, 0]].concat();
        for piece in 1..stream.len() {
            let (mut frames, mut seen) = (Frames::default(), 0);
            for bytes in stream.chunks(piece) {
                frames.take(bytes, 4, |packet| {
                    let due = [
                        Packet::Connect { level: 4, keeps_session: false },
                        Packet::Publish { id: Some(7), payload: &payload },
                        Packet::PubAck { id: 7, reason: 0 },
                        Packet::Other,
                    ];
                    assert_eq!(packet, due[seen]);
                    seen += 1;
                });
            }
            assert_eq!(seen, 4);
        }
        // 5.0 has properties before the payload: here one of three bytes.
        let mut frames = Frames::default();
        frames.take(&framed(0x32, b"\0\x01a\0\x09\x03\x23\0\x01hi"), 5, |packet| {
            assert_eq!(packet, Packet::Publish { id: Some(9), payload: b"hi" });
        });
    }
}
