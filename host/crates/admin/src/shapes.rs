//! What the API takes and gives, where that is not some other crate's: with the schemas that the OpenAPI document shows.

mod alerts;
mod audit;
mod desired;
mod generations;
mod letters;
mod live;
mod series;
mod shadow;
mod state;
mod trace;
mod trial;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::{Module as Admitted, RuleTotals};

use crate::problem::Problem;
use crate::rules::Signature;
pub(crate) use alerts::{AlertQuery, PastAlerts, PastQuery};
pub(crate) use audit::{AuditPage, AuditQuery};
pub(crate) use desired::{
    Action, ConvergeQuery, Converged, Difference, Document, ExportQuery, Likeness, ModulePart, RuleChange,
};
pub(crate) use generations::{RollbackInput, Versions};
pub(crate) use letters::{Counted, LetterPage, LetterQuery, PurgeQuery};
pub(crate) use live::{SeenAlert, SeenMessage, SeenPoint, TailQuery};
pub(crate) use series::{OneSeries, Series, SeriesQuery};
pub(crate) use shadow::{PromoteInput, ShadowInput, ShadowShape};
pub(crate) use state::{Ledger, OneSpool, ResetQuery, StateReset};
pub(crate) use trace::{TraceNext, TraceOutput, TraceStep};
pub(crate) use trial::{TrialCommand, TrialInput, TrialMessage, TrialOutput, TrialReject};

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
            "required": ["name", "state", "module", "topics", "order", "generation", "stats"],
            "properties": {
                "name": { "type": "string" },
                "state": { "enum": ["serving", "disabled", "failed", "quarantined"] },
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
                "etag": { "type": "string", "description": "Of its file and module, as in `If-Match`; not in lists." },
                "file": definition
            }
        })
    }
}

/// A module.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Module {
    /// Its digest: what it is asked for by.
    pub sha256: String,
    /// Its file in the rules directory: what a rule's `module` names.
    pub file: String,
    pub bytes: u64,
    /// Rules that use it.
    pub used_by: Vec<String>,
    /// What it says of itself, where one module is asked for: if it serves a rule, or has been looked over since the host started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Who vouches for it, where one module is asked for and this host knows keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Why it could not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a module says of itself.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Description {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// `decoder` or `processor`.
    pub kind: String,
    /// The topics it gets where no rule says otherwise.
    pub default_topics: Vec<String>,
    /// The JSON Schema of its configuration; null if it gives none.
    pub config_schema: Value,
}

impl Module {
    pub fn new(sha256: &str, file: &str, bytes: u64) -> Self {
        let (sha256, file) = (sha256.to_owned(), file.to_owned());
        Self { sha256, file, bytes, used_by: Vec::new(), description: None, signature: None, problem: None }
    }
}

impl Description {
    pub fn of(module: &Admitted) -> Self {
        let said = module.description();
        Self {
            name: said.name.clone(),
            version: said.version.clone(),
            summary: said.summary.clone(),
            kind: module.kind().as_str().to_owned(),
            default_topics: said.default_topics.clone(),
            config_schema: said.config_schema.clone(),
        }
    }
}

pub(crate) type Modules = Vec<Module>;

/// How a module is taken in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadQuery {
    /// Whether it may import WASI, and have up to 64 MiB: components made of Python or JavaScript. Default: false.
    pub wasi: Option<bool>,
}

/// The value of an optional limit, or why it cannot be that.
pub(crate) fn limit(asked: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    match asked {
        None => Ok(default),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(Problem::bad(format!("limit cannot be {n}: choose from 1 to {most}"))),
    }
}
