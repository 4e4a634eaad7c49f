//! Where the logical topic of a record stands: in the Kafka topic, the key, a header or a field of a JSON payload.

use std::borrow::Cow;
use std::fmt;

use rdkafka::Message;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidegate_config::TopicFrom;

use super::headers;

/// The most bytes of a topic, as in MQTT (5.0 §1.5.4): alerts on it are published there.
const MAX_TOPIC_BYTES: usize = 65_535;

/// Finds the logical topic of records.
#[derive(Debug)]
pub(super) enum LogicalTopic {
    Topic,
    Key,
    Header(String),
    /// The parts of the JSON pointer, unescaped.
    Field(Vec<String>),
}

impl LogicalTopic {
    pub(super) fn new(from: &TopicFrom) -> Self {
        match from {
            TopicFrom::Topic => Self::Topic,
            TopicFrom::Key => Self::Key,
            TopicFrom::Header(name) => Self::Header(name.clone()),
            TopicFrom::Field(pointer) => Self::Field(pointer_parts(pointer)),
        }
    }

    /// The logical topic of a record; none where there is none, or none that could be a topic.
    pub(super) fn find<'m>(&self, message: &'m impl Message) -> Option<Cow<'m, [u8]>> {
        self.said(message).filter(|said| fits(said))
    }

    /// What the record says of it, whether or not it could be a topic: enough to see whether it is one that is known.
    #[inline]
    pub(super) fn said<'m>(&self, message: &'m impl Message) -> Option<Cow<'m, [u8]>> {
        Some(match self {
            Self::Topic => Cow::Borrowed(message.topic().as_bytes()),
            Self::Key => Cow::Borrowed(message.key()?),
            Self::Header(name) => Cow::Borrowed(headers::of(message).find(|header| header.key == name)?.value?),
            Self::Field(path) => match field(message.payload()?, path)? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        })
    }
}

/// Whether it could be a topic.
pub(super) fn fits(said: &[u8]) -> bool {
    !said.is_empty() && said.len() <= MAX_TOPIC_BYTES && !said.contains(&0)
}

/// RFC 6901 §4: `~1` is `/`, `~0` is `~`, in that order.
fn pointer_parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// The text or whole number `path` leads to, without making anything of the rest of the document.
fn field<'de>(json: &'de [u8], path: &[String]) -> Option<Cow<'de, str>> {
    let mut document = serde_json::Deserializer::from_slice(json);
    let found = At(path).deserialize(&mut document).ok()?;
    document.end().ok()?;
    found
}

/// Reads one JSON value for what `path` leads to within it.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> At<'_> {
    fn here(&self, text: impl FnOnce() -> Cow<'de, str>) -> Option<Cow<'de, str>> {
        self.0.is_empty().then(text)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.here(|| Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.here(|| Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.here(|| Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.here(|| Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(next) = map.next_key_seed(Is(self.0.first()))? {
            match (next, self.0) {
                (true, [_, rest @ ..]) if found.is_none() => found = map.next_value_seed(At(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let [index, rest @ ..] = self.0
            && let Ok(index) = index.parse::<usize>()
        {
            for _ in 0..index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            let found = seq.next_element_seed(At(rest))?.flatten();
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(found);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads a key for whether it is the one.
struct Is<'p>(Option<&'p String>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(self.0.is_some_and(|wanted| wanted == key))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn record(payload: Option<&str>, key: Option<&[u8]>, header: Option<(&str, &str)>) -> OwnedMessage {
        let headers = header.map(|(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        let payload = payload.map(|text| text.as_bytes().to_vec());
        OwnedMessage::new(payload, key.map(<[u8]>::to_vec), "fleet".into(), Timestamp::NotAvailable, 0, 0, headers)
    }

    fn check(from: TopicFrom, record: &OwnedMessage, expect: Option<&str>) {
        let found = LogicalTopic::new(&from).find(record);
        assert_eq!(found.as_deref(), expect.map(str::as_bytes), "{from:?} in {record:?}");
    }

    /// Guarantees: each place is looked at, and what cannot be a topic is none.
    #[test]
    fn every_place() {
        let full = record(Some("{}"), Some(b"dev/a"), Some(("topic", "dev/b")));
        check(TopicFrom::Topic, &full, Some("fleet"));
        check(TopicFrom::Key, &full, Some("dev/a"));
        check(TopicFrom::Header("topic".into()), &full, Some("dev/b"));
        check(TopicFrom::Header("other".into()), &full, None);
        let bare = record(None, None, None);
        check(TopicFrom::Key, &bare, None);
        check(TopicFrom::Header("topic".into()), &bare, None);
        check(TopicFrom::Field("/t".into()), &bare, None);
        check(TopicFrom::Key, &record(None, Some(b""), None), None);
        check(TopicFrom::Key, &record(None, Some(b"a\0b"), None), None);
    }

    /// Guarantees: JSON pointers lead where RFC 6901 says; anything but text and whole numbers is none, and so is a
    /// payload that is not JSON to its end.
    #[test]
    fn json_pointers() {
        for (json, pointer, expect) in [
            (r#"{"t":"dev/a","v":1}"#, "/t", Some("dev/a")),
            (r#"{"v":[1,{"t":2}],"meta":{"t":"dev/b"}}"#, "/meta/t", Some("dev/b")),
            (r#"{"a":["x","dev/c","y"]}"#, "/a/1", Some("dev/c")),
            (r#"{"a":["x"]}"#, "/a/1", None),
            (r#"{"a":["x"]}"#, "/a/b", None),
            (r#"{"a/b":"c"}"#, "/a~1b", Some("c")),
            (r#"{"m~n":"c"}"#, "/m~0n", Some("c")),
            (r#"{"t":"a\/b\u00fc"}"#, "/t", Some("a/bü")),
            (r#"{"id":42}"#, "/id", Some("42")),
            (r#"{"id":-42}"#, "/id", Some("-42")),
            (r#"{"id":4.5}"#, "/id", None),
            (r#"{"id":true}"#, "/id", None),
            (r#"{"id":null}"#, "/id", None),
            (r#"{"id":{"t":"x"}}"#, "/id", None),
            (r#"{"t":"x"}"#, "/t/u", None),
            (r#""dev/d""#, "", Some("dev/d")),
            (r#"{"t":"dev/a""#, "/t", None),
            (r#"{"t":"dev/a"} x"#, "/t", None),
            ("not JSON", "/t", None),
        ] {
            check(TopicFrom::Field(pointer.into()), &record(Some(json), None, None), expect);
        }
    }
}
