//! `[rules]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What modules must have before they may serve.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRules {
    /// Only modules that a key of `keys` has signed are loaded: `<module>.wasm.sig` stands beside each, as `tidegate rule sign` makes it.
    /// Default: false.
    pub require_signatures: Option<bool>,
    /// Public ed25519 keys, in 64 hexadecimal digits, by a name of yours; any number of them is good at once.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
}
