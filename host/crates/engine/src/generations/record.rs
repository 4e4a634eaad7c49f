//! A generation as it stands in its file: a mark with the digest of all that follows, then JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;

use super::generation_name;
use crate::module::hex;

/// The largest file read: a rule's file has a MiB at most, and JSON may write a byte as six.
pub(super) const MAX_RECORD_BYTES: u64 = 8 << 20;
/// Begins each file; the number is that of the layout.
const MARK: &str = "tidegate-generation-01 ";

/// What stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub rule: String,
    pub generation: u64,
    pub sha256: String,
    /// The module's file in the rules directory.
    pub module: String,
    pub admitted_ms: u64,
    /// The rule's file.
    pub text: String,
    /// [`digest_of`] what the file says.
    pub file_digest: String,
    pub fault: Option<String>,
    /// What vouched for the module, where signatures are required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The quarantined generation in whose place this one returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_for: Option<u64>,
}

/// What is known of a generation without its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its number.
    pub generation: u64,
    /// Whether it serves, or would if its rule were not quarantined.
    pub serving: bool,
    /// The module's digest.
    pub sha256: String,
    /// The module's file in the rules directory.
    pub module: String,
    /// When it first served: milliseconds since 1970-01-01 UTC.
    pub admitted_ms: u64,
    /// Why it was quarantined, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    #[serde(skip)]
    pub(crate) file_digest: String,
    /// The quarantined generation in whose place it returned.
    #[serde(skip)]
    pub(crate) returned_for: Option<u64>,
    /// What its record takes up.
    #[serde(skip)]
    pub(crate) bytes: u64,
}

impl Version {
    /// Whether it is this module with this file.
    pub(crate) fn is(&self, sha256: &str, file_digest: &str) -> bool {
        self.sha256 == sha256 && self.file_digest == file_digest
    }
}

/// The same for files that say the same, however they are written.
pub(super) fn digest_of(file: &RuleFile) -> String {
    // Compact, with sorted keys.
    hex(&Sha256::digest(serde_json::to_vec(file).unwrap_or_default()))
}

impl Record {
    pub fn new(rule: &str, generation: u64, sha256: &str, file: &RuleFile, text: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            rule: rule.to_owned(),
            generation,
            sha256: sha256.to_owned(),
            module: file.module.clone(),
            admitted_ms: now.as_millis() as u64,
            text: text.to_owned(),
            file_digest: digest_of(file),
            fault: None,
            manifest: None,
            returned_for: None,
        }
    }

    /// The name of its file.
    pub fn name(&self) -> String {
        generation_name(&self.rule, self.generation)
    }

    /// What is shown of it.
    pub fn version(&self, bytes: u64) -> Version {
        Version {
            generation: self.generation,
            serving: false,
            sha256: self.sha256.clone(),
            module: self.module.clone(),
            admitted_ms: self.admitted_ms,
            fault: self.fault.clone(),
            file_digest: self.file_digest.clone(),
            returned_for: self.returned_for,
            bytes,
        }
    }

    /// Its file.
    pub fn sealed(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut file = format!("{MARK}{}\n", hex(&Sha256::digest(&body))).into_bytes();
        file.extend(body);
        file
    }

    /// Of a file, if its digest fits and it is of that rule and number.
    pub fn unsealed(file: &[u8], rule: &str, number: u64) -> Result<Self, String> {
        let end = file.iter().position(|&byte| byte == b'\n').ok_or("it has no first line")?;
        let (head, body) = file.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let digest = head.strip_prefix(MARK.as_bytes()).ok_or("it does not begin as such files do")?;
        if digest != hex(&Sha256::digest(body)).as_bytes() {
            return Err("it does not fit its digest".to_owned());
        }
        let record: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        // One must not stand in for another.
        if record.rule != rule || record.generation != number {
            return Err(format!("it is generation {} of rule {:?}", record.generation, record.rule));
        }
        Ok(record)
    }
}
