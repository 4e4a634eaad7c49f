//! Generations of a rule, and going back to one.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// What is kept of a rule, the newest first.
pub(crate) struct Versions;

impl JsonSchema for Versions {
    fn schema_name() -> Cow<'static, str> {
        "Versions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": {
                "type": "object",
                "required": ["generation", "serving", "sha256", "module", "admitted_ms"],
                "properties": {
                    "generation": { "type": "integer", "minimum": 0 },
                    "serving": { "type": "boolean", "description": "Whether it serves, or would if the rule were not quarantined." },
                    "sha256": { "type": "string", "description": "The module's digest." },
                    "module": { "type": "string", "description": "The module's file." },
                    "admitted_ms": { "type": "integer", "minimum": 0, "description": "When it first served: milliseconds since 1970-01-01 UTC." },
                    "fault": { "type": "string", "description": "Why it was quarantined, if it was." }
                }
            }
        })
    }
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackInput {
    /// The generation. Default: the one before, leaving out those that were quarantined.
    #[schemars(range(min = 0))]
    pub generation: Option<u64>,
}
