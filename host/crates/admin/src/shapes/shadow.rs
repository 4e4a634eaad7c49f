//! Shadows of rules.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_engine::{PromoteState, ShadowStart};

use super::Definition;

/// What is to run beside a rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShadowInput {
    /// What would be PUT to make it serve. Its module is uploaded first; its topics are those of the rule.
    #[schemars(with = "Definition")]
    pub definition: Value,
    /// The state it begins with. Default: `copied`.
    #[serde(default)]
    pub state: Begins,
    /// The most it may cost a lane: percent of its time. Default: 25.
    #[schemars(range(min = 1, max = 100))]
    pub max_share_percent: Option<u32>,
}

/// The state that a shadow begins with.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Begins {
    /// A copy of what the rule has.
    #[default]
    Copied,
    /// None.
    Empty,
}

/// How a shadow is to serve.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromoteInput {
    pub state: Goes,
}

/// The state that a shadow goes on with when it serves.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Goes {
    /// What it has built.
    Own,
    /// What the rule has.
    TakenOver,
}

impl From<Begins> for ShadowStart {
    fn from(state: Begins) -> Self {
        match state {
            Begins::Copied => Self::Copied,
            Begins::Empty => Self::Empty,
        }
    }
}

impl From<Goes> for PromoteState {
    fn from(state: Goes) -> Self {
        match state {
            Goes::Own => Self::Own,
            Goes::TakenOver => Self::TakenOver,
        }
    }
}

/// A shadow, and what it has found.
pub(crate) struct ShadowShape;

impl JsonSchema for ShadowShape {
    fn schema_name() -> Cow<'static, str> {
        "Shadow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let definition = generator.subschema_for::<Definition>();
        let made = || {
            json_schema!({
                "type": "object",
                "required": ["outcome"],
                "properties": {
                    "outcome": { "enum": ["passed", "filtered", "rejected", "held"] },
                    "reason": { "type": "string" },
                    "points": { "type": "array", "items": { "type": "object" } }
                }
            })
        };
        let row = json_schema!({
            "type": "object",
            "required": ["topic", "time_us", "serving", "candidate"],
            "properties": {
                "topic": { "type": "string" },
                "time_us": { "type": "integer" },
                "serving": made(),
                "candidate": made()
            }
        });
        let mut schema = json_schema!({
            "type": "object",
            "required": ["generation", "serving_generation", "sha256", "file", "state", "batches", "rows", "rows_changed"],
            "properties": {
                "generation": { "type": "integer", "minimum": 0, "description": "The number it will have if it serves with its own state." },
                "serving_generation": { "type": "integer", "minimum": 0, "description": "What it is compared with." },
                "sha256": { "type": "string" },
                "file": definition,
                "state": { "enum": ["running", "stopped", "ended"] },
                "reason": { "type": "string", "description": "Why it is not running." },
                "last_fault": { "type": "string" },
                "ns_per_row_serving": { "type": "number", "minimum": 0 },
                "ns_per_row_candidate": { "type": "number", "minimum": 0 },
                "max_share_percent": { "type": "number" },
                "row_differences": { "type": "array", "maxItems": 100, "description": "The newest.", "items": row },
                "alert_differences": {
                    "type": "array",
                    "maxItems": 100,
                    "description": "The newest alerts that only one of them sent.",
                    "items": alert()
                }
            }
        });
        let counts = COUNTS.iter().map(|(name, about)| {
            ((*name).to_owned(), json!({ "type": "integer", "minimum": 0, "description": about }))
        });
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.extend(counts);
        }
        schema
    }
}

/// What is counted, with what it means.
const COUNTS: [(&str, &str); 16] = [
    ("batches", "Calls compared."),
    ("rows", "Rows in them."),
    ("skipped_batches", "Calls that passed it by, since it had used up its share of the time."),
    ("skipped_rows", "Rows in them."),
    ("rows_changed", "Rows of which it made something else."),
    ("rejected_serving", "Rows that the serving one refused."),
    ("rejected_candidate", "Rows that the candidate refused."),
    ("alerts_only_serving", "Alerts that only the serving one sent."),
    ("alerts_only_candidate", "Alerts that only the candidate would have sent."),
    ("commands_serving", "Commands of the serving one."),
    ("commands_candidate", "Commands of the candidate, which nobody gets."),
    ("generated_serving", "Points that ticks of the serving one made."),
    ("generated_candidate", "Points that ticks of the candidate made."),
    ("cost_nanos", "What it has cost the lanes, comparing included."),
    ("memory_bytes", "Linear memory of its instances, and the alerts that stand by their state."),
    ("faults", "How often it failed; it began anew each time, without state."),
];

fn alert() -> Schema {
    json_schema!({
        "type": "object",
        "required": ["only", "topic", "key", "transition", "severity", "time_us", "message"],
        "properties": {
            "only": { "enum": ["serving", "candidate"] },
            "topic": { "type": "string" },
            "key": { "type": "string" },
            "transition": { "enum": ["raised", "cleared", "event"] },
            "severity": { "enum": ["info", "warning", "critical"] },
            "time_us": { "type": "integer" },
            "value": { "type": ["number", "null"] },
            "message": { "type": "string" }
        }
    })
}
