//! `[rules]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What modules must have before they may serve, and what looking them over may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRules {
    /// How long a module may take to be compiled, in seconds, by the wall; a tenth longer where the machine gives its compiler too little of its
    /// processors. Others wait meanwhile that change rules. A slow node with modules made of Python may need more. Default: 20.
    #[schemars(range(min = 1, max = 3600))]
    pub compile_timeout_s: Option<i64>,
    /// Only modules that a key of `keys` has signed are loaded: `<module>.wasm.sig` stands beside each, as `tidegate rule sign` makes it.
    /// Default: false.
    pub require_signatures: Option<bool>,
    /// Public ed25519 keys, in 64 hexadecimal digits, by a name of yours; any number of them is good at once.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
}
