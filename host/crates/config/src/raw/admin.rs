//! `[admin]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The HTTP interface: health, metrics, API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAdmin {
    /// Address and port to listen on; one that others can reach needs credentials and TLS. Default: `127.0.0.1:8081`.
    pub listen: Option<String>,
    /// A file that holds a token with all scopes, which callers show as `Authorization: Bearer …`.
    pub token_file: Option<String>,
    /// The environment variable that holds that token.
    pub token_env: Option<String>,
    /// Tokens by the name of who holds them, as `tidegate token new` writes them: any number may be valid at once.
    #[serde(default)]
    pub tokens: BTreeMap<String, RawToken>,
    /// The certificate shown to callers (PEM): with it and `key_file`, only TLS is spoken.
    pub cert_file: Option<String>,
    /// Its key (PEM).
    pub key_file: Option<String>,
    /// Mutual TLS: only callers whose certificate one of these authorities (PEM) has signed are spoken with.
    pub client_ca_file: Option<String>,
    /// What such a certificate permits by itself, without a token: of `read`, `rules`, `data`, `admin`. Default: nothing.
    pub client_scopes: Option<Vec<String>>,
    /// `yes, behind a proxy`: an address that others can reach may do without TLS, since a proxy in front has it.
    pub insecure: Option<String>,
    /// Rules and modules cannot be changed by the API: for nodes whose files come from elsewhere. Default: false.
    pub readonly: Option<bool>,
    /// Another address for `/livez`, `/readyz`, `/health` and `/metrics`, which are then served there only. It needs no
    /// credentials: what it tells are names of rules, sources and sinks, and numbers.
    pub probes_listen: Option<String>,
    /// The most connections at once, on each address; a quarter of the files that the process may have open, if that is less. Default: 1024.
    #[schemars(range(min = 1, max = 65_536))]
    pub max_connections: Option<i64>,
    /// The most requests a second of each caller, by token or certificate; those who show none count as one caller. Default: 500.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_s: Option<i64>,
}

/// One token: not itself, but what tells it when it is shown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawToken {
    /// The sha256 of the token, in 64 hexadecimal digits.
    #[schemars(required)]
    pub sha256: Option<String>,
    /// What it permits, of `read`, `rules`, `data`, `admin`.
    #[schemars(required)]
    pub scopes: Option<Vec<String>>,
    /// Until when it is valid: a day or a time, UTC, as in `2027-01-31` or `2027-01-31T12:00:00Z`. Default: for ever.
    pub expires: Option<String>,
}
