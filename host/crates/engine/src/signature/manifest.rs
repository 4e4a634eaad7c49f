//! What is signed of a module.

use std::fmt;
use std::time::SystemTime;

use ed25519_dalek::{Signature, VerifyingKey};
use semver::Version;
use serde::{Deserialize, Serialize};
use tidegate_config::Name;

use super::SignatureError;
use super::key::SigningKey;
use crate::module::hex;

/// The largest manifest that is looked at.
pub const MAX_MANIFEST_BYTES: usize = 4 << 10;
/// The longest version.
const MAX_VERSION_BYTES: usize = 128;
/// What the signed text begins with, so that a signature is good for nothing else.
const DOMAIN: &str = "tidegate module manifest v1";

/// What somebody has signed: that the module with this digest is this version of what is called so, until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the module is called. Versions are compared within a name.
    pub name: Name,
    /// Its version: semantic.
    pub version: Version,
    /// The sha256 of the module's bytes, in 64 hexadecimal digits.
    pub sha256: String,
    /// When it is good no more: RFC 3339, UTC, as it was signed.
    pub expires: String,
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    sha256: String,
    expires: String,
    /// 128 hexadecimal digits.
    signature: String,
}

impl Manifest {
    /// Signs.
    ///
    /// # Errors
    /// The version is too long.
    pub fn sign(
        name: Name,
        version: Version,
        sha256: &str,
        expires: SystemTime,
        key: &SigningKey,
    ) -> Result<Self, SignatureError> {
        let expires = humantime::format_rfc3339_seconds(expires).to_string();
        let mut manifest = Self { name, version, sha256: sha256.to_owned(), expires, signature: [0; 64] };
        manifest.signature = key.sign(manifest.text().as_bytes());
        Self::read(manifest.to_json().as_bytes())
    }

    /// Reads one, whoever has signed it.
    ///
    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8]) -> Result<Self, SignatureError> {
        let malformed = |why: String| SignatureError::Malformed(why);
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(malformed(format!("it has more than {MAX_MANIFEST_BYTES} bytes")));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let sha256 = unhex::<32>(&written.sha256).map(|digest| hex(&digest));
        if written.version.len() > MAX_VERSION_BYTES {
            return Err(malformed(format!("`version` has more than {MAX_VERSION_BYTES} bytes")));
        }
        let manifest = Self {
            name: written.name.parse().map_err(|error| malformed(format!("`name`: {error}")))?,
            version: written.version.parse().map_err(|error| malformed(format!("`version`: {error}")))?,
            sha256: sha256.ok_or_else(|| malformed("`sha256` has not 64 hexadecimal digits".to_owned()))?,
            expires: written.expires,
            signature: unhex(&written.signature)
                .ok_or_else(|| malformed("`signature` has not 128 hexadecimal digits".to_owned()))?,
        };
        manifest.expires().map(|_| manifest)
    }

    /// As it is written into a file.
    pub fn to_json(&self) -> String {
        let written = Written {
            name: self.name.to_string(),
            version: self.version.to_string(),
            sha256: self.sha256.clone(),
            expires: self.expires.clone(),
            signature: hex(&self.signature),
        };
        // Five texts: there is nothing in it that could fail.
        serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"
    }

    /// When it is good no more.
    ///
    /// # Errors
    /// That is no time.
    pub fn expires(&self) -> Result<SystemTime, SignatureError> {
        humantime::parse_rfc3339(&self.expires)
            .map_err(|_| SignatureError::Malformed("`expires` is no time, as 2027-01-31T00:00:00Z is".to_owned()))
    }

    pub(super) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        // Strict: of all signatures that some verifiers take for good, the one that all do.
        key.verify_strict(self.text().as_bytes(), &Signature::from_bytes(&self.signature)).is_ok()
    }

    /// What is signed. No field can have a line feed in it, so there is one reading of it.
    fn text(&self) -> String {
        let Self { name, version, sha256, expires, .. } = self;
        format!("{DOMAIN}\nname {name}\nversion {version}\nsha256 {sha256}\nexpires {expires}\n")
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The bytes that so many hexadecimal digits, in small letters, stand for.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
    if digits.len() == 2 * N { bytes.try_into().ok() } else { None }
}
