//! What the API takes and gives, where that is not some other crate's: with the schemas that the OpenAPI document shows.

mod alerts;
mod audit;
mod desired;
mod generations;
mod letters;
mod live;
mod modules;
mod series;
mod shadow;
mod state;
mod trace;
mod trial;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::RuleTotals;

use crate::problem::Problem;
pub(crate) use alerts::{AlertQuery, PastAlerts, PastQuery};
pub(crate) use audit::{AuditPage, AuditQuery};
pub(crate) use desired::{
    Action, ConvergeQuery, Converged, Difference, Document, ExportQuery, Likeness, ModulePart, RuleChange,
};
pub(crate) use generations::{RollbackInput, Versions};
pub(crate) use letters::{Counted, LetterPage, LetterQuery, PurgeQuery};
pub(crate) use live::{SeenAlert, SeenMessage, SeenPoint, TailQuery};
pub(crate) use modules::{Description, Module, Modules, PruneQuery, Pruned, UploadQuery};
pub(crate) use series::{OneSeries, Series, SeriesQuery};
pub(crate) use shadow::{PromoteInput, ShadowInput, ShadowShape};
pub(crate) use state::{Ledger, OneSpool, ResetQuery, StateReset};
pub(crate) use trace::{TraceNext, TraceOutput, TraceStep};
pub(crate) use trial::{Property, TrialCommand, TrialInput, TrialMessage, TrialOutput, TrialReject};

/// A JSON object whose members the host's own documentation describes.
pub(crate) struct AnyJson;

impl JsonSchema for AnyJson {
    fn schema_name() -> Cow<'static, str> {
        "Object".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// A rule's file.
pub(crate) struct Definition;

impl JsonSchema for Definition {
    fn schema_name() -> Cow<'static, str> {
        "Definition".into()
    }

    /// That of `<rule>.toml`, its own definitions in place: what is a schema of its own there is one member of one object here.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = RuleFile::json_schema();
        let inner = schema.as_object_mut().and_then(|it| {
            it.remove("$schema");
            it.remove("$defs")
        });
        inline(&mut schema, &inner.unwrap_or_default(), 0);
        without_null(&mut schema);
        Schema::try_from(schema).unwrap_or_default()
    }
}

/// Puts definitions in the place of references to them. `depth` ends what would refer to itself.
fn inline(schema: &mut Value, definitions: &Value, depth: usize) {
    if depth > 16 {
        return;
    }
    match schema {
        Value::Object(fields) => {
            let named = fields.get("$ref").and_then(|it| it.as_str()?.strip_prefix("#/$defs/").map(str::to_owned));
            if let Some(Value::Object(definition)) = named.and_then(|name| definitions.get(&name).cloned()) {
                fields.remove("$ref");
                fields.extend(definition);
            }
            fields.values_mut().for_each(|inner| inline(inner, definitions, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| inline(inner, definitions, depth + 1)),
        _ => {}
    }
}

/// What is optional in a file is left out, and never null.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A rule as it is shown.
pub(crate) struct RuleShape;

impl JsonSchema for RuleShape {
    fn schema_name() -> Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let definition = generator.subschema_for::<Definition>();
        let stats = generator.subschema_for::<RuleTotals>();
        json_schema!({
            "type": "object",
            "required": ["name", "state", "module", "topics", "order", "generation", "etag", "stats"],
            "properties": {
                "name": { "type": "string" },
                "state": { "enum": ["serving", "pending", "disabled", "failed", "quarantined"] },
                "problem": { "type": "string", "description": "What is wrong with it, or with its newest file." },
                "problem_code": { "type": "string", "description": "The same, for programs." },
                "module": { "type": "string", "description": "The module's file." },
                "sha256": { "type": "string", "description": "The digest of the module that serves." },
                "kind": { "enum": ["decoder", "processor"] },
                "version": { "type": "string" },
                "summary": { "type": "string" },
                "topics": { "type": "array", "items": { "type": "string" } },
                "order": { "type": "integer" },
                "generation": { "type": "integer", "minimum": 0, "description": "Counts up with every change." },
                "stats": stats,
                "etag": { "type": "string", "description": "Of its file and module, as in `If-Match`." },
                "file": definition
            }
        })
    }
}

/// The value of an optional limit, or why it cannot be that.
pub(crate) fn limit(asked: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    match asked {
        None => Ok(default),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(Problem::bad(format!("limit cannot be {n}: choose from 1 to {most}"))),
    }
}
