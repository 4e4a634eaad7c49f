//! Signed modules: who vouches for a module, and whether that is still good.
//!
//! A [`Manifest`] stands beside a module as `<module>.wasm.sig`. It names the module's sha256, what it is called, its version and until
//! when that holds, and is signed with ed25519. [`Trust`] knows the public keys, several at once so that one can follow another, and the
//! highest version of each name that has served ([`floors`]): what is older is refused, since an old module with a known hole has a good
//! signature too. All of this is asked before a byte of the module is parsed.

mod floors;
mod key;
mod manifest;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use ed25519_dalek::VerifyingKey;
use semver::Version;
use tidegate_config::{Name, Signatures};

use floors::Floors;

pub use floors::FloorsError;
pub use key::{KeyError, SigningKey};
pub use manifest::{MAX_MANIFEST_BYTES, Manifest};

/// The end of a manifest's file name, after the name of its module's.
pub const SUFFIX: &str = ".sig";

/// Whom this host believes.
#[derive(Debug)]
pub struct Trust {
    /// Modules without a good manifest are refused.
    required: bool,
    keys: Vec<(Name, VerifyingKey)>,
    floors: Option<Mutex<Floors>>,
    /// The latest time that is known to have been: what counts while the clock has not been set.
    known: SystemTime,
}

/// A manifest that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What the module is called, by who signed it.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Until when it may be loaded.
    pub expires: SystemTime,
    /// The name of the key, as this host's configuration calls it.
    pub key: Name,
}

/// Why a module is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It has no manifest, or none any more.
    #[error(
        "the module is not signed, and this host takes no others: sign it with `tidegate rule sign`, and put the manifest beside it as \
         `<module>.wasm.sig`"
    )]
    Unsigned,
    /// The manifest cannot be read.
    #[error("the module's manifest cannot be read: {0}; make one with `tidegate rule sign`")]
    Malformed(String),
    /// No key of ours has made this signature: another key, or another text.
    #[error(
        "the manifest of {0} is signed by no key that this host knows, or was changed after it was signed; the keys stand in [rules.keys]"
    )]
    Untrusted(String),
    /// It vouches for other bytes.
    #[error(
        "the manifest of {name} {version} is that of another module: it vouches for sha256 {signed}, and this is {found}"
    )]
    OtherModule {
        /// What the manifest calls its module.
        name: String,
        /// And its version.
        version: Version,
        /// The digest it names.
        signed: String,
        /// The digest of what there is.
        found: String,
    },
    /// It was good once.
    #[error("the manifest of {name} {version} has expired at {expires}: sign the module again")]
    Expired {
        /// What the manifest calls its module.
        name: String,
        /// And its version.
        version: Version,
        /// When.
        expires: String,
    },
    /// A newer one has served here.
    #[error(
        "{name} {version} is older than {floor}, which this host has had already: to go back to it, sign it again with a higher version"
    )]
    Downgrade {
        /// What the manifest calls its module.
        name: String,
        /// And its version.
        version: Version,
        /// The highest that has served.
        floor: Version,
    },
}

/// Why signatures cannot be looked at, so that the host must not start.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key of the configuration is none.
    #[error(
        "the key `{0}` under [rules.keys] is no ed25519 public key that can be trusted; `tidegate rule keygen` makes one"
    )]
    Key(Name),
    /// What was served before cannot be told.
    #[error(transparent)]
    Floors(#[from] FloorsError),
}

impl Trust {
    /// Everybody: no signature is looked at.
    pub fn everybody() -> Self {
        Self { required: false, keys: Vec::new(), floors: None, known: SystemTime::UNIX_EPOCH }
    }

    /// As configured; remembers under `data_dir` which versions have served. Without it only keys are known, as for a look from outside.
    ///
    /// # Errors
    /// A key is none, or what is remembered cannot be read.
    pub fn open(settings: &Signatures, data_dir: Option<&Path>) -> Result<Self, TrustError> {
        let key = |(name, bytes): &(Name, [u8; 32])| {
            let key = VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak());
            key.map(|key| (name.clone(), key)).ok_or_else(|| TrustError::Key(name.clone()))
        };
        let keys = settings.keys.iter().map(key).collect::<Result<_, _>>()?;
        let floors = data_dir.map(Floors::open).transpose()?.map(Mutex::new);
        let known = data_dir.map_or(SystemTime::UNIX_EPOCH, newest);
        if settings.required && !tidegate_model::is_set(SystemTime::now()) {
            tracing::warn!(
                "the clock of this machine has not been set: until it is, signed modules are taken that were good when this host last wrote something"
            );
        }
        Ok(Self { required: settings.required, keys, floors, known })
    }

    /// Whether modules must be signed.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether any key is known.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether the module with this digest may be parsed and loaded. Nothing but its digest is looked at.
    ///
    /// # Errors
    /// Signatures are required, and it has no good one.
    pub fn check(&self, sha256: &str, manifest: Option<&[u8]>) -> Result<Option<Signed>, SignatureError> {
        if !self.required {
            return Ok(None);
        }
        let manifest = Manifest::read(manifest.ok_or(SignatureError::Unsigned)?)?;
        self.verify(&manifest, sha256, SystemTime::now()).map(Some)
    }

    /// The same for a module that this host has kept itself, where nobody else can put one: it may be older than what has served since, as
    /// when the newest is quarantined and the one before it returns.
    ///
    /// # Errors
    /// As there, but for its age.
    pub(crate) fn check_again(&self, sha256: &str, manifest: Option<&[u8]>) -> Result<(), SignatureError> {
        match self.check(sha256, manifest) {
            Ok(_) | Err(SignatureError::Downgrade { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When a manifest expires that was found good; none where none is required.
    pub(crate) fn expires(&self, manifest: Option<&[u8]>) -> Option<SystemTime> {
        let manifest = manifest.filter(|_| self.required)?;
        Manifest::read(manifest).ok()?.expires().ok()
    }

    /// Whether `manifest` vouches for the module with this digest at the time `now`, whether that is required or not.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, manifest: &Manifest, sha256: &str, now: SystemTime) -> Result<Signed, SignatureError> {
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        // Nothing it says is believed before this.
        let key = self.keys.iter().find(|(_, key)| manifest.is_signed_by(key));
        let (key, _) = key.ok_or_else(|| SignatureError::Untrusted(manifest.to_string()))?;
        if manifest.sha256 != sha256 {
            let (signed, found) = (manifest.sha256.clone(), sha256.to_owned());
            return Err(SignatureError::OtherModule { name: name.to_string(), version, signed, found });
        }
        let expires = manifest.expires()?;
        let now = if tidegate_model::is_set(now) { now } else { now.max(self.known) };
        if expires <= now {
            let expires = manifest.expires.clone();
            return Err(SignatureError::Expired { name: name.to_string(), version, expires });
        }
        if let Some(floor) = self.floor(&name).filter(|floor| version.cmp_precedence(floor).is_lt()) {
            return Err(SignatureError::Downgrade { name: name.to_string(), version, floor });
        }
        Ok(Signed { name, version, expires, key: key.clone() })
    }

    /// A module with this manifest serves: nothing older of its name is taken from now on.
    ///
    /// # Errors
    /// That could not be kept; it holds until the host ends.
    pub fn serves(&self, signed: &Signed) -> Result<(), FloorsError> {
        match &self.floors {
            Some(floors) => {
                let mut floors = floors.lock().unwrap_or_else(PoisonError::into_inner);
                floors.raise(&signed.name, &signed.version)
            }
            None => Ok(()),
        }
    }

    fn floor(&self, name: &Name) -> Option<Version> {
        self.floors.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).of(name).cloned()
    }
}

/// When something in this directory was last written. Rules that run are more than a clock without a battery: a host must serve by what it knows.
fn newest(data_dir: &Path) -> SystemTime {
    let entries = std::fs::read_dir(data_dir).into_iter().flatten();
    let written = entries.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok());
    written.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

impl SignatureError {
    /// The word for it in the API, the log and the metrics; it does not change.
    pub const fn code(&self) -> &'static str {
        match self {
            SignatureError::Unsigned => "unsigned",
            SignatureError::Malformed(_) => "manifest_malformed",
            SignatureError::Untrusted(_) => "signature_untrusted",
            SignatureError::OtherModule { .. } => "signature_other_module",
            SignatureError::Expired { .. } => "signature_expired",
            SignatureError::Downgrade { .. } => "signature_downgrade",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
