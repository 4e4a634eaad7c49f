//! Packets of MQTT 3.1.1 and 5.0, as bytes. Sections are of the OASIS standard 5.0; 3.1.1 differs where the code says so.

use std::io::{self, Read};

use clap::ValueEnum;

/// The versions spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    #[value(name = "3.1.1")]
    V3,
    #[value(name = "5")]
    V5,
}

impl Version {
    /// As it stands in CONNECT (§3.1.2.2), and on the command line.
    const fn level(self) -> u8 {
        match self {
            Version::V3 => 4,
            Version::V5 => 5,
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V3 => "3.1.1",
            Version::V5 => "5",
        }
    }
}

/// The QoS of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Qos {
    #[value(name = "0")]
    AtMostOnce,
    #[value(name = "1")]
    AtLeastOnce,
}

impl Qos {
    /// As it stands in packets.
    pub const fn level(self) -> u8 {
        match self {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
        }
    }
}

/// What a packet is (§2.1.2), as far as it is met here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect,
    ConnAck,
    PubAck,
    Subscribe,
    PingReq,
    Disconnect,
    Other(u8),
}

impl Kind {
    fn of(first: u8) -> Self {
        match first >> 4 {
            1 => Kind::Connect,
            2 => Kind::ConnAck,
            4 => Kind::PubAck,
            8 => Kind::Subscribe,
            12 => Kind::PingReq,
            14 => Kind::Disconnect,
            other => Kind::Other(other),
        }
    }
}

/// PINGRESP (§3.13).
pub const PINGRESP: [u8; 2] = [0xd0, 0];
/// DISCONNECT (§3.14), the same in both versions when all is well.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Packets out of a stream of bytes.
pub struct Packets<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Packets<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> Self {
        Self { from, buffer: vec![0; 1 << 16], start: 0, end: 0 }
    }

    /// Waits for the next packet and gives its kind and what follows its length; nothing at the end of the stream.
    pub fn next(&mut self) -> io::Result<Option<(Kind, &[u8])>> {
        loop {
            if let Some((kind, body)) = header(&self.buffer[self.start..self.end])? {
                let range = self.start + body.start..self.start + body.end;
                self.start = range.end;
                return Ok(Some((kind, &self.buffer[range])));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                return Err(bad("a packet is larger than any that is due here"));
            }
            match self.from.read(&mut self.buffer[self.end..])? {
                0 => return Ok(None),
                read => self.end += read,
            }
        }
    }
}

/// The kind, and where the body stands, of a packet that is there as a whole.
fn header(bytes: &[u8]) -> io::Result<Option<(Kind, std::ops::Range<usize>)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (at, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let start = 2 + at;
            return Ok((bytes.len() >= start + length).then(|| (Kind::of(first), start..start + length)));
        }
    }
    if rest.len() >= 4 { Err(bad("a packet's length has more than four bytes")) } else { Ok(None) }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether a CONNECT asks for this version (§3.1.2).
pub fn connects_with(body: &[u8], version: Version) -> bool {
    body.get(..7) == Some(&[0, 4, b'M', b'Q', b'T', b'T', version.level()][..])
}

/// The packet id that a SUBSCRIBE or PUBACK begins with.
pub fn packet_id(body: &[u8]) -> io::Result<u16> {
    match body {
        [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(bad("a packet without the id it must have")),
    }
}

/// A CONNACK that takes the client in, without a session of before (§3.2).
pub fn connack(version: Version) -> Vec<u8> {
    match version {
        Version::V3 => vec![0x20, 2, 0, 0],
        Version::V5 => vec![0x20, 3, 0, 0, 0],
    }
}

/// Whether a CONNACK takes us in.
pub fn is_taken_in(body: &[u8]) -> bool {
    body.get(1) == Some(&0)
}

/// The answer to a SUBSCRIBE of one filter (§3.9).
pub fn suback(version: Version, id: u16, granted: Qos) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    match version {
        Version::V3 => vec![0x90, 3, high, low, granted.level()],
        Version::V5 => vec![0x90, 4, high, low, 0, granted.level()],
    }
}

/// A CONNECT with a clean session and no keep-alive (§3.1), by 3.1.1.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', Version::V3.level(), 2, 0, 0];
    put_text(&mut body, client_id);
    let mut packet = vec![0x10];
    put_length(&mut packet, body.len());
    packet.extend_from_slice(&body);
    packet
}

/// Appends a PUBLISH (§3.3); the id is left out at QoS 0.
pub fn put_publish(to: &mut Vec<u8>, version: Version, qos: Qos, id: u16, topic: &str, payload: &[u8]) {
    let has_id = qos == Qos::AtLeastOnce;
    let properties = usize::from(version == Version::V5);
    to.push(0x30 | qos.level() << 1);
    put_length(to, 2 + topic.len() + 2 * usize::from(has_id) + properties + payload.len());
    put_text(to, topic);
    if has_id {
        to.extend_from_slice(&id.to_be_bytes());
    }
    if version == Version::V5 {
        to.push(0);
    }
    to.extend_from_slice(payload);
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u16).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// Variable byte integer (§1.5.5).
fn put_length(to: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: packets are found in a stream however it is cut, and lengths of two bytes are read.
    #[test]
    fn packets_in_pieces() {
        struct Pieces(Vec<u8>, usize);
        impl Read for Pieces {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let size = self.1.min(self.0.len()).min(to.len());
                to[..size].copy_from_slice(&self.0[..size]);
                self.0.drain(..size);
                Ok(size)
            }
        }
        let mut stream = connect("me");
        put_publish(&mut stream, Version::V5, Qos::AtLeastOnce, 7, "a/b", &[9; 300]);
        stream.extend([0x40, 2, 1, 2]);
        for cut in [1, 2, 3, 50, 1_000] {
            let mut packets = Packets::new(Pieces(stream.clone(), cut));
            let (kind, body) = packets.next().unwrap().unwrap();
            assert_eq!(kind, Kind::Connect);
            assert!(connects_with(body, Version::V3) && !connects_with(body, Version::V5));
            let (kind, body) = packets.next().unwrap().unwrap();
            assert_eq!((kind, body.len()), (Kind::Other(3), 2 + 3 + 2 + 1 + 300));
            let (kind, body) = packets.next().unwrap().unwrap();
            assert_eq!((kind, packet_id(body).unwrap()), (Kind::PubAck, 0x0102));
            assert!(packets.next().unwrap().is_none());
        }
    }
}
