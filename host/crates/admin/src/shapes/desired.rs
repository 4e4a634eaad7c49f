//! The whole of a host's rules as one document, and what comes of giving it to a host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Definition;
use crate::rules::ManifestShape;

/// The rules of a host, and the modules they use: what `export` gives, and `import` and `desired` take.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// By name: what would be PUT to `/api/v1/rules/{rule}`. A `module` of the document is named `<sha256>.wasm`.
    #[schemars(with = "BTreeMap<String, Definition>")]
    pub rules: BTreeMap<String, Value>,
    /// Modules; those that the host has already can be left out.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub modules: Vec<ModulePart>,
    /// The host's `tidegate.toml` without its secrets, for people: it is compared, and never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub configuration: Option<String>,
    /// Of all rules when it was exported, as in `If-Match`; it is not looked at when the document is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub etag: Option<String>,
}

/// A module in a document.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModulePart {
    /// Its digest.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Its bytes, in base64; a host that has it already needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub content: Option<String>,
    /// Who vouches for it, where signatures are required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManifestShape")]
    pub manifest: Option<Value>,
}

/// How it is exported.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// Whether the modules' bytes are in it. Default: true.
    pub modules: Option<bool>,
}

/// How it is taken.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConvergeQuery {
    /// Only says what would be changed; everything is looked over as if it were. Default: false.
    pub plan: Option<bool>,
}

/// What was changed, or would be.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Converged {
    /// Whether nothing was done, as asked.
    pub plan: bool,
    /// Whether the host differs from the document, or did.
    pub differs: bool,
    /// Every rule of the document and of the host, by name.
    pub rules: Vec<RuleChange>,
    /// The modules that were taken in.
    pub modules: Vec<String>,
    /// Of all rules as they are now, as in `If-Match`.
    pub etag: String,
    /// Whether the host's configuration is that of the document, if that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Likeness>,
}

/// What becomes of a rule.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RuleChange {
    pub rule: String,
    pub action: Action,
    /// In what the two differ, up to 100 of them.
    pub differences: Vec<Difference>,
}

/// What becomes of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// It is as it should be.
    Unchanged,
    /// It is made.
    Created,
    /// It is made anew.
    Replaced,
    /// It is taken away.
    Deleted,
    /// The document says nothing of it, and it stays.
    Left,
}

/// One difference.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Difference {
    /// Where: a JSON pointer into the definition; `/sha256` is the module's digest.
    pub pointer: String,
    /// As it was; nothing if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// As it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Whether two are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Likeness {
    Same,
    Differs,
}
