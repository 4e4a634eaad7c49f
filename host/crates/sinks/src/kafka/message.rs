//! Key and headers of a message that is produced as it came.
//!
//! | header | what |
//! |---|---|
//! | `tidegate.received_us` | when it was received: microseconds since 1970-01-01 UTC |
//! | `tidegate.marks` | how it came, where there is something to say: `retained`, `redelivered`, `replayed`, `qos0`, with commas |
//! | `tidegate.topic` | its topic, where that is not the key |
//! | `kafka.key` | the key it had, where that is not the key |
//! | `mqtt.content-type`, `mqtt.response-topic`, `mqtt.correlation-data` | what MQTT 5 lets a message say of itself, where it does |
//! | any other | its MQTT 5 user properties, or the headers that it had, in their order |
//!
//! A property whose name begins with `tidegate.` is left out: whoever publishes must not be able to say when and how we received it.

use std::io::Write;

use rdkafka::message::{Header, OwnedHeaders};
use tidegate_config::MessageKey;
use tidegate_model::{Books, Marks, Messages, Properties};

/// What our own headers begin with.
const OURS: &str = "tidegate.";
/// The key of the message in `row`, if it is to have one.
pub(super) fn key<'a>(key: MessageKey, books: &'a Books, messages: &'a Messages, row: u32) -> Option<&'a [u8]> {
    let name = match key {
        MessageKey::None => None,
        MessageKey::Record => return property(messages, row, Properties::KEY),
        MessageKey::Topic => messages.topic_name(books, row),
        MessageKey::Lane => match messages.unnamed(row) {
            Some(name) => Some(name),
            None => {
                let topic = books.topic(*messages.topic.get(row as usize)?)?;
                books.partition(topic.partition).map(|name| &**name)
            }
        },
    };
    name.map(str::as_bytes)
}

/// The payload of the message in `row`; none if its record had none.
pub(super) fn payload(messages: &Messages, row: u32) -> Option<&[u8]> {
    let payload = messages.payload.get(row as usize);
    let tombstone = payload.is_empty() && property(messages, row, Properties::TOMBSTONE).is_some();
    (!tombstone).then_some(payload)
}

fn property<'a>(messages: &'a Messages, row: u32, name: &str) -> Option<&'a [u8]> {
    if messages.properties.row.is_empty() {
        return None;
    }
    messages.properties.of(row).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// The headers of the message in `row`.
pub(super) fn headers(key: MessageKey, books: &Books, messages: &Messages, row: u32) -> OwnedHeaders {
    let i = row as usize;
    let mut short = Short::default();
    let received_us = messages.received_us.get(i).copied().unwrap_or_default();
    // 20 digits at most, which there is room for.
    let _ = write!(short, "{received_us}");
    let mut headers = with(OwnedHeaders::new(), "tidegate.received_us", short.taken());
    let marks = Marks(messages.marks.get(i).copied().unwrap_or_default());
    if marks != Marks::default() {
        let mut short = Short::default();
        for (_, word) in Marks::WORDS.iter().filter(|(mark, _)| marks.has(*mark)) {
            let comma = if short.length == 0 { "" } else { "," };
            let _ = write!(short, "{comma}{word}");
        }
        headers = with(headers, "tidegate.marks", short.taken());
    }
    if key != MessageKey::Topic {
        headers = with(headers, "tidegate.topic", messages.topic_name(books, row).unwrap_or_default().as_bytes());
    }
    if messages.properties.row.is_empty() {
        return headers;
    }
    let told = |name: &str| name == Properties::TOMBSTONE || (name == Properties::KEY && key == MessageKey::Record);
    let properties = messages.properties.of(row).filter(|(name, _)| !name.starts_with(OURS) && !told(name));
    properties.fold(headers, |headers, (name, value)| with(headers, name, value))
}

fn with(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// A short text, made without an allocation for each message; all marks have room in it.
struct Short {
    bytes: [u8; Short::ROOM],
    length: usize,
}

impl Short {
    /// `retained,redelivered,replayed,qos0` is the longest.
    const ROOM: usize = 40;

    fn taken(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; Self::ROOM], length: 0 }
    }
}

impl Write for Short {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text[..taken]);
        self.length += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    /// Guarantees: a record says of its message all that the columns do; what a publisher claims in our name is left out.
    #[test]
    fn headers_tell_how_it_came() {
        let books = Books::new(1);
        let topic = books.intern_topic("plant/line1/temp", "line1").unwrap();
        let mut messages = Messages::default();
        let all = Marks::RETAINED.with(Marks::REDELIVERED).with(Marks::REPLAYED).with(Marks::AT_MOST_ONCE);
        let row = messages.push(topic, 1_703_289_600_000_001, all, b"x");
        messages.properties.push(row, "site", b"north");
        messages.properties.push(row, "tidegate.received_us", b"7");
        messages.properties.push(row, "mqtt.correlation-data", b"\xff");
        let row = messages.push(topic, i64::MIN, Marks::default(), b"y");
        messages.unnamed.push((row, "new/topic".into()));
        messages.properties.push(row, "mqtt.content-type", b"text/plain");
        let told = |kind: MessageKey, row: u32| {
            let headers = headers(kind, &books, &messages, row);
            let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
            let all: Vec<_> = headers.iter().map(|h| (h.key.to_owned(), text(h.value))).collect();
            (key(kind, &books, &messages, row).map(|key| text(Some(key))), all)
        };
        let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let received = ("tidegate.received_us", "1703289600000001");
        let marks = ("tidegate.marks", "retained,redelivered,replayed,qos0");
        let site = [("site", "north"), ("mqtt.correlation-data", "\u{fffd}")];
        let (key, headers) = told(MessageKey::Topic, 0);
        assert_eq!(
            (key.as_deref(), headers),
            (Some("plant/line1/temp"), pairs(&[received, marks, site[0], site[1]]))
        );
        let (key, headers) = told(MessageKey::Lane, 0);
        let topic = ("tidegate.topic", "plant/line1/temp");
        assert_eq!((key.as_deref(), headers), (Some("line1"), pairs(&[received, marks, topic, site[0], site[1]])));
        let least = ("tidegate.received_us", "-9223372036854775808");
        let kind = ("mqtt.content-type", "text/plain");
        assert_eq!(told(MessageKey::Topic, 1), (Some("new/topic".to_owned()), pairs(&[least, kind])));
        assert_eq!(told(MessageKey::None, 1), (None, pairs(&[least, ("tidegate.topic", "new/topic"), kind])));
    }
}
