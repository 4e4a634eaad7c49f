//! What a rule is tried on, and what it would do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Definition, SeenAlert, SeenPoint};

/// What a rule is tried on: messages for a decoder, points for a processor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialInput {
    /// The rule's file, where it is not there yet or is to be tried otherwise.
    #[schemars(with = "Option<Definition>")]
    pub definition: Option<Value>,
    /// For a decoder.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub messages: Vec<TrialMessage>,
    /// For a processor.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub points: Vec<SeenPoint>,
    /// Whether it is ticked afterwards, at this time: microseconds since 1970-01-01 UTC.
    pub tick_us: Option<i64>,
}

/// A message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialMessage {
    #[schemars(length(min = 1, max = 65_535))]
    pub topic: String,
    /// Its payload, where that is text.
    pub payload: Option<String>,
    /// Its payload in base64.
    pub payload_base64: Option<String>,
    /// When it was received: microseconds since 1970-01-01 UTC. Default: now.
    pub time_us: Option<i64>,
    /// MQTT 5 user properties, Kafka headers and key (`kafka.key`), as rules are given them.
    #[serde(default)]
    pub properties: Vec<Property>,
}

/// A user property, header or key of a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Property {
    pub key: String,
    /// Its value, where that is text.
    pub value: Option<String>,
    /// Its value in base64.
    pub value_base64: Option<String>,
}

/// All that a rule would do. Of a trial 10,000 of each sort are shown at most, and 8 MiB of names, texts and payloads.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct TrialOutput {
    /// What goes on to later rules and to sinks.
    pub points: Vec<SeenPoint>,
    pub alerts: Vec<SeenAlert>,
    /// Rows it refuses.
    pub rejected: Vec<TrialReject>,
    /// Rows it keeps for later.
    pub held: Vec<u32>,
    /// Messages it would publish, where its `commands` permit their topics.
    pub commands: Vec<TrialCommand>,
    /// How it failed, if it did: as it would in a lane, and then nothing of the batch is above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How long the calls took, in nanoseconds.
    pub nanos: u64,
}

/// A row it would refuse.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TrialReject {
    pub row: u32,
    pub reason: String,
}

/// A message it would publish.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TrialCommand {
    pub topic: String,
    pub payload_base64: String,
    pub qos: u8,
    pub retain: bool,
    /// Whether its `commands` permit the topic.
    pub permitted: bool,
}

impl Property {
    /// Its value; or what is wrong with it, and in which field.
    pub fn bytes(&self) -> Result<Vec<u8>, (&'static str, String)> {
        match (&self.value, &self.value_base64) {
            (text, None) => Ok(text.clone().unwrap_or_default().into_bytes()),
            (None, Some(coded)) => STANDARD.decode(coded).map_err(|error| ("value_base64", error.to_string())),
            (Some(_), Some(_)) => Err(("value", "there is `value_base64` as well: keep one of them".to_owned())),
        }
    }
}

impl TrialCommand {
    /// About how many bytes of it are shown.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload_base64.len()
    }
}
