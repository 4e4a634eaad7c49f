//! The manifests by which modules are vouched for. One is taken in before its module, so that nothing of a module is looked at before
//! it is known who has signed it; and anew at any time, as when the old one is about to expire.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_engine::{LoadError, MAX_MANIFEST_BYTES, Manifest, SIGNATURE_SUFFIX, Signed};

use super::change::lock;
use super::directory::{FileError, Open};
use super::{Desk, modules};
use crate::gate::Changed;
use crate::problem::Problem;

/// What `tidegate rule sign` writes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is the form of it; the engine reads it")]
pub(crate) struct ManifestShape {
    /// What the module is called; versions are compared within a name.
    name: String,
    /// Its version: semantic.
    version: String,
    /// The sha256 of the module.
    sha256: String,
    /// When it is good no more: RFC 3339, UTC.
    expires: String,
    /// The ed25519 signature, in 128 hexadecimal digits.
    signature: String,
}

/// Who vouches for a module.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Signature {
    /// What the module is called by who signed it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When that is good no more.
    pub expires: String,
    /// The key that signed it, as this host's configuration calls it.
    pub key: String,
}

/// A manifest that has been taken in.
pub(crate) struct Taken {
    pub signature: Signature,
    pub new: bool,
    pub changed: Changed,
}

impl From<Signed> for Signature {
    fn from(signed: Signed) -> Self {
        Self {
            name: signed.name.to_string(),
            version: signed.version.to_string(),
            expires: humantime::format_rfc3339_seconds(signed.expires).to_string(),
            key: signed.key.to_string(),
        }
    }
}

impl Desk {
    /// Takes in a manifest for the module with this digest, which may come later. Blocks.
    pub fn vouch(&self, sha256: &str, manifest: &Value) -> Result<Taken, Problem> {
        let manifest = Manifest::read(manifest.to_string().as_bytes()).map_err(LoadError::from)?;
        if !self.registry.trust().has_keys() {
            let detail = "this host knows no key, so it cannot tell who signed this; name some under [rules.keys]";
            return Err(Problem::conflict("no_keys", detail));
        }
        let signed = self.registry.trust().verify(&manifest, sha256, SystemTime::now()).map_err(LoadError::from)?;
        let _alone = self.begin()?;
        let directory = self.directory.open()?;
        let _locked = lock(&directory)?;
        let mut files: Vec<String> =
            self.files()?.into_iter().filter(|module| module.sha256 == sha256).map(|module| module.file).collect();
        if files.is_empty() {
            files.push(modules::kept_name(sha256));
        }
        let mut before = None;
        for file in &files {
            before = before.or(manifest_of(&directory, file)?);
            directory.write(&beside(file), manifest.to_json().as_bytes())?;
        }
        self.registry.rescan()?;
        let changed = Changed {
            before: before.as_deref().map(super::digest),
            after: Some(super::digest(manifest.to_json().as_bytes())),
        };
        Ok(Taken { signature: signed.into(), new: before.is_none(), changed })
    }

    /// Who vouches for the module in `file`, or why it is not believed; nothing where this host knows no key.
    pub(super) fn voucher(&self, directory: &Open, file: &str, sha256: &str) -> Result<Option<Signature>, String> {
        let trust = self.registry.trust();
        let manifest =
            if trust.has_keys() { manifest_of(directory, file).map_err(|error| error.to_string())? } else { None };
        let Some(manifest) = manifest else { return Ok(None) };
        let read = Manifest::read(&manifest).and_then(|manifest| trust.verify(&manifest, sha256, SystemTime::now()));
        read.map(|signed| Some(signed.into())).map_err(|error| error.to_string())
    }
}

/// What stands beside a module.
pub(super) fn manifest_of(directory: &Open, module: &str) -> Result<Option<Vec<u8>>, FileError> {
    directory.read(&beside(module), MAX_MANIFEST_BYTES as u64)
}

/// The file that stands beside a module.
pub(super) fn beside(module: &str) -> String {
    format!("{module}{SIGNATURE_SUFFIX}")
}

/// Renames a module, with what stands beside it: at no time is it there without.
pub(super) fn move_module(directory: &Open, from: &str, to: &str) -> Result<(), FileError> {
    let manifest = manifest_of(directory, from)?;
    if let Some(manifest) = &manifest {
        directory.write(&beside(to), manifest)?;
    }
    directory.rename(from, to)?;
    if manifest.is_some() {
        directory.remove(&beside(from))?;
    }
    Ok(())
}
