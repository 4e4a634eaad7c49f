//! What a rule is tried on, and what it would do.

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
}

/// All that a rule would do.
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
