//! Modules: what they are and say of themselves, how they are taken in, and which are let go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_engine::Module as Admitted;

use crate::rules::Signature;

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

/// Which modules that nothing needs are deleted: those that agree with all that is given. One of `older_than_s` and `keep` must be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneQuery {
    /// Uploaded, last, before so many seconds.
    #[schemars(range(min = 0))]
    pub older_than_s: Option<u32>,
    /// All but so many, the newest.
    #[schemars(range(min = 0))]
    pub keep: Option<u32>,
    /// Whether it is only said which those are. Default: false.
    pub plan: Option<bool>,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Pruned {
    /// Whether nothing was, but only said.
    pub plan: bool,
    /// The newest first.
    pub modules: Modules,
    /// How many that nothing needs are left.
    pub left: u64,
}
