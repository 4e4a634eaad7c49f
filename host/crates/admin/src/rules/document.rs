//! What stands in a document of all rules: read whole, with all its mistakes, before anything is held against it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_config::{Name, RuleFile};
use tidegate_engine::Manifest;

use super::digest;
use crate::problem::{Mistake, Problem};
use crate::route::Blank;
use crate::shapes::ModulePart;

/// The most rules of a document.
const MOST_RULES: usize = 10_000;
/// The most modules.
const MOST_MODULES: usize = 1_000;

/// A module as it comes in.
pub(super) struct Incoming {
    /// Its place in the document.
    pub at: usize,
    pub bytes: Option<Vec<u8>>,
    pub manifest: Option<String>,
}

/// A rule as it should be.
pub(super) struct Wanted {
    pub file: RuleFile,
    pub text: String,
    pub sha256: String,
}

/// The modules of a document by their digests, which fit their bytes.
pub(super) fn incoming(parts: &[ModulePart]) -> Result<BTreeMap<String, Incoming>, Problem> {
    if parts.len() > MOST_MODULES {
        return Err(Problem::unusable(
            "document",
            format!("a document has {MOST_MODULES} modules at most"),
            Vec::new(),
        ));
    }
    let (mut incoming, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (i, part) in parts.iter().enumerate() {
        let mut wrong =
            |field: &str, what: String| mistakes.push(Mistake::new(format!("/modules/{i}/{field}"), what));
        // It becomes the name of a file.
        if !Blank::Sha256.takes(&part.sha256) {
            wrong("sha256", "this is no sha256 in 64 hexadecimal digits".to_owned());
            continue;
        }
        let bytes = match part.content.as_ref().map(|content| STANDARD.decode(content)).transpose() {
            Ok(bytes) => bytes,
            Err(error) => {
                wrong("content", format!("this is no base64: {error}"));
                continue;
            }
        };
        let found = bytes.as_ref().map(|bytes| digest(bytes));
        if let Some(found) = found.filter(|found| *found != part.sha256) {
            wrong("sha256", format!("the content's sha256 is {found}"));
        }
        let manifest = part.manifest.as_ref().map(|manifest| Manifest::read(manifest.to_string().as_bytes()));
        let manifest = match manifest.transpose() {
            Ok(manifest) => manifest.map(|manifest| manifest.to_json()),
            Err(error) => {
                wrong("manifest", error.to_string());
                None
            }
        };
        incoming.insert(part.sha256.clone(), Incoming { at: i, bytes, manifest });
    }
    none_of(mistakes).map(|()| incoming)
}

/// With the digest of the module that each will use. `there` are the modules of the rules directory, by their files: one that is there under
/// another name than its digest is used under that.
pub(super) fn wanted(
    files: Vec<(String, RuleFile, String)>,
    incoming: &BTreeMap<String, Incoming>,
    there: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Wanted>, Problem> {
    let by_digest: BTreeMap<&str, &str> =
        there.iter().map(|(file, sha256)| (sha256.as_str(), file.as_str())).collect();
    let (mut wanted, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (name, mut file, mut text) in files {
        let stem = file.module.strip_suffix(".wasm").unwrap_or_default().to_owned();
        let sha256 = match (there.get(&file.module), by_digest.get(stem.as_str())) {
            (Some(sha256), _) => Some(sha256.clone()),
            (None, Some(&other)) => {
                text = RuleFile::with_module(&text, other)?;
                file.module = other.to_owned();
                Some(stem)
            }
            (None, None) => Some(stem).filter(|stem| incoming.get(stem).is_some_and(|it| it.bytes.is_some())),
        };
        match sha256 {
            Some(sha256) => drop(wanted.insert(name, Wanted { file, text, sha256 })),
            None => mistakes.push(Mistake::new(
                format!("/rules/{name}/module"),
                format!("there is no module {:?}, neither here nor in `modules` of the document", file.module),
            )),
        }
    }
    none_of(mistakes).map(|()| wanted)
}

/// The rules of a document: name, file and its text.
pub(super) fn files(rules: &BTreeMap<String, Value>) -> Result<Vec<(String, RuleFile, String)>, Problem> {
    if rules.len() > MOST_RULES {
        return Err(Problem::unusable("document", format!("a document has {MOST_RULES} rules at most"), Vec::new()));
    }
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    for (name, definition) in rules {
        let place = format!("/rules/{}", escaped(name));
        match (name.parse::<Name>(), RuleFile::from_json(definition, &format!("{name}.toml"))) {
            (Err(error), _) => mistakes.push(Mistake::new(place, error.to_string())),
            (_, Err(errors)) => mistakes.extend(Problem::from(errors).mistakes_at(&place)),
            (Ok(_), Ok((file, text))) => files.push((name.clone(), file, text)),
        }
    }
    none_of(mistakes).map(|()| files)
}

pub(super) fn none_of(mistakes: Vec<Mistake>) -> Result<(), Problem> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let detail = "the document has mistakes, so nothing was changed";
    Err(Problem::unusable("document", detail, mistakes))
}

/// As a part of a JSON pointer (RFC 6901, section 3).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
