//! `<rule>.toml` in the rules directory, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::OnQuarantine;

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
    /// Whether the module may import WASI: it gets an empty one, with clocks and random numbers, and no files, environment or
    /// network. For components made of Python or JavaScript. Default: false.
    pub wasi: Option<bool>,
    /// What becomes of the rows of a partition (by default: a topic) on which the rule failed five times in a minute. Default: "bypass".
    pub on_quarantine: Option<OnQuarantine>,
    /// Whether a module that refuses the state which another version of it has left begins without any. Else it does not serve, and the
    /// version before it goes on. Default: false.
    pub discard_state: Option<bool>,
    /// What the rule may use up.
    pub limits: Option<RawRuleLimits>,
}

/// What one rule may use up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRuleLimits {
    /// Memory of one instance, in MiB, beside 256 bytes for each topic and series that the host tells it of (up to 100,000). Default: 16.
    #[schemars(range(min = 1, max = 64))]
    pub memory_mib: Option<i64>,
    /// CPU time of one call, in milliseconds. Default: 50.
    #[schemars(range(min = 1, max = 10_000))]
    pub cpu_ms: Option<i64>,
    /// How long one call may last by the wall, in milliseconds, however little of the CPU it gets. Default: 2000.
    #[schemars(range(min = 1, max = 600_000))]
    pub wall_ms: Option<i64>,
    /// CPU time of a call that is no batch and no tick, in milliseconds: `configure`, `restore`, declarations. They may last 20 s by the wall, or four times this
    /// if that is more. Default: 500.
    #[schemars(range(min = 1, max = 10_000))]
    pub lifecycle_cpu_ms: Option<i64>,
    /// Stack of its calls, in KiB: how deep it may recurse. The stack that Rust and C keep beside it, for what has an address, is part of its memory.
    /// Default: 512.
    #[schemars(extend("enum" = crate::rule_file::STACKS_KIB))]
    pub stack_kib: Option<i64>,
    /// What one call may hand over, results and arguments, in MiB. Default: 64.
    #[schemars(range(min = 1, max = 256))]
    pub call_mib: Option<i64>,
    /// Lines it may log a second. Default: 20.
    #[schemars(range(min = 0, max = 10_000))]
    pub log_lines_per_s: Option<i64>,
    /// Names it may count under, and as many it may gauge under. Default: 64.
    #[schemars(range(min = 0, max = 1_000))]
    pub metric_names: Option<i64>,
    /// Series it may make. Default: 100000000, so that only the limit of the host counts (`max_series`). Set it where payloads could make
    /// a rule invent names.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub series: Option<i64>,
    /// Points it may make for each row it gets, on average of a batch. Default: 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rows_out_per_row: Option<i64>,
}
