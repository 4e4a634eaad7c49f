//! `[admin]`: where the HTTP interface listens, who may ask it, and for what.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{Name, Secret};

/// The HTTP interface.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens. Not a loopback address only with credentials.
    pub listen: SocketAddr,
    /// A token with all scopes, kept in a file or variable of its own.
    pub token: Option<Secret>,
    /// Tokens known by their digest.
    pub tokens: Vec<Token>,
    /// Only TLS is spoken, with these.
    pub tls: Option<AdminTls>,
    /// Whether the API may change rules and modules.
    pub changes: Changes,
    /// Where health and metrics are served, if not with the rest.
    pub probes: Option<SocketAddr>,
    /// The most connections at once, on each address.
    pub max_connections: usize,
    /// The most requests a second of each caller.
    pub requests_per_s: u32,
}

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who holds it; stands in the audit log.
    pub name: Name,
    /// Its sha256.
    pub sha256: [u8; 32],
    /// What it permits.
    pub scopes: Scopes,
    /// When it is valid no more.
    pub expires: Option<SystemTime>,
}

/// TLS of a server. PEM files.
#[derive(Clone, Debug)]
pub struct AdminTls {
    /// The certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Mutual TLS: the authorities that sign callers' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// What such a certificate permits by itself.
    pub client_scopes: Scopes,
}

/// Whether the API may change rules and modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// It may.
    Allowed,
    /// `readonly = true`: the files come from elsewhere.
    Refused,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See how everything is: no payloads.
    Read,
    /// Change rules and modules, and try them.
    Rules,
    /// See messages, and replay or purge them.
    Data,
    /// All of this, and what is about the host as a whole.
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Rules, Scope::Data, Scope::Admin];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Rules => "rules",
            Scope::Data => "data",
            Scope::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is none of the scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: choose of read, rules, data and admin")]
pub struct ScopeError(pub String);

impl std::str::FromStr for Scope {
    type Err = ScopeError;

    fn from_str(word: &str) -> Result<Self, ScopeError> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| ScopeError(word.to_owned()))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// None of them.
    pub const NONE: Scopes = Scopes(0);

    /// All of them.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether they permit what needs `scope`: `admin` permits everything, each other only itself.
    pub fn permit(self, scope: Scope) -> bool {
        self.0 & (bit(scope) | bit(Scope::Admin)) != 0
    }

    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |&scope| self.0 & bit(scope) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

const fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}
