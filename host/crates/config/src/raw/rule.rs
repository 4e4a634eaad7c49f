//! `<rule>.toml` in the rules directory, as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// A named use of a module. The rule is called as the file is, without `.toml`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "<rule>.toml")]
pub(crate) struct RawRuleFile {
    /// The file name of the module, which stands in the same directory: `threshold.wasm`.
    #[schemars(required)]
    pub module: Option<String>,
    /// Whether the rule runs. Default: true.
    pub enabled: Option<bool>,
    /// Rules run by ascending order. Default: 100.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub order: Option<i64>,
    /// The topic filters of what the rule gets. Default: those that the module itself names.
    pub topics: Option<Vec<String>>,
    /// What the module's own configuration is; `tidegate rule inspect` shows which keys it takes.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub config: Option<toml::Table>,
    /// The topic filters that the rule may send commands to. Default: none.
    pub commands: Option<Vec<String>>,
    /// What the rule may use up.
    pub limits: Option<RawRuleLimits>,
}

/// What one rule may use up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRuleLimits {
    /// Memory of one instance, in MiB. Default: 16.
    #[schemars(range(min = 1, max = 64))]
    pub memory_mib: Option<i64>,
    /// CPU time of one call, in milliseconds. Default: 50.
    #[schemars(range(min = 1, max = 10_000))]
    pub cpu_ms: Option<i64>,
}
