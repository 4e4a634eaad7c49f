//! Alerts that stand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Alerts that stand.
pub(crate) struct Alerts;

impl JsonSchema for Alerts {
    fn schema_name() -> Cow<'static, str> {
        "Alerts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": {
                "type": "object",
                "required": ["rule", "topic", "key", "severity", "since_us", "message"],
                "properties": {
                    "rule": { "type": "string" },
                    "topic": { "type": "string", "description": "The series it is about." },
                    "key": { "type": "string", "description": "Tells apart several of one rule on one series." },
                    "severity": { "enum": ["info", "warning", "critical"] },
                    "since_us": { "type": "integer", "description": "Microseconds since 1970-01-01 UTC." },
                    "message": { "type": "string" }
                }
            }
        })
    }
}
