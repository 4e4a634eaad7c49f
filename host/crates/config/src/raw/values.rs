//! Values that may be written in more than one way.
//!
//! They are read by visitors, not by `#[serde(untagged)]`: untagged enums forget where in the file a mistake stands, and
//! can only say that nothing matched.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};

use super::RawSubscription;

/// A topic filter alone, or with settings of its own.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum TopicEntry {
    /// A topic filter, such as `dev/#`.
    Filter(String),
    /// A topic filter with settings of its own.
    Detailed(RawSubscription),
}

/// One text or a list of them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum OneOrMany {
    /// One text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

/// What records stay together by: something of a record, or levels of its logical topic.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawRecordsBy {
    /// Something of a record.
    Named(RawTogether),
    /// Levels of its logical topic, from 0.
    Levels(Vec<i64>),
}

/// Something of a Kafka record.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTogether {
    /// Its logical topic.
    Topic,
    /// Its key; a record without one stays with its topic.
    Key,
    /// The Kafka partition that it is of.
    Partition,
}

/// The value of a librdkafka setting, or where to find it.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum ClientValue {
    /// The value itself.
    Text(String),
    /// The value, a whole number.
    Number(i64),
    /// The value, true or false.
    Switch(bool),
    /// Where the value is kept.
    Kept(KeptValue),
}

/// Where a secret is kept; one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptValue {
    /// A file that holds the value.
    pub file: Option<String>,
    /// The environment variable that holds the value.
    pub env: Option<String>,
}

// A value may be a password; whoever prints the raw form must not print it.
impl fmt::Debug for ClientValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientValue::Kept(kept) => kept.fmt(f),
            ClientValue::Text(_) | ClientValue::Number(_) | ClientValue::Switch(_) => f.write_str("«value»"),
        }
    }
}

impl<'de> Deserialize<'de> for TopicEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = TopicEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic filter in quotes or a table with `filter`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TopicEntry, E> {
                Ok(TopicEntry::Filter(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TopicEntry, A::Error> {
                RawSubscription::deserialize(MapAccessDeserializer::new(map)).map(TopicEntry::Detailed)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for RawRecordsBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = RawRecordsBy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"topic\", \"key\", \"partition\" or a list of levels")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawRecordsBy, E> {
                RawTogether::deserialize(text.into_deserializer()).map(RawRecordsBy::Named)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawRecordsBy, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(RawRecordsBy::Levels)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for ClientValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = ClientValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a whole number, true or false, or a table with `file` or `env`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ClientValue, E> {
                Ok(ClientValue::Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ClientValue, E> {
                Ok(ClientValue::Number(number))
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<ClientValue, E> {
                Ok(ClientValue::Switch(on))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClientValue, A::Error> {
                KeptValue::deserialize(MapAccessDeserializer::new(map)).map(ClientValue::Kept)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
