//! The audit log: which of its lines, and pages of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which lines of the audit log, and how many.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// How many lines, the newest; up to 1000. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Who was refused, instead of what was changed. Default: false.
    pub denials: Option<bool>,
    /// Only of this caller: a token's name, or what else was known.
    pub who: Option<String>,
    /// Only this operation, as this document names it: `putRule`.
    pub operation: Option<String>,
    /// Only what was done to this: the name of a rule, the digest of a module, the number of a letter.
    pub about: Option<String>,
    /// Then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Before then.
    pub until_us: Option<i64>,
}

/// Lines of the audit log, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditPage {
    pub lines: Vec<serde_json::Map<String, Value>>,
    /// Whether these are all: there may else be older ones.
    pub complete: bool,
}
