//! What the rules directory asks for.
//!
//! `<rule>.toml` makes a named rule of a module. A `.wasm` that no TOML names is a rule of its own, with the defaults of
//! its `describe`; but for one whose name is a sha256, which runs only where a TOML names it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tidegate_config::{Name, RuleFile};

use crate::admission::Admission;
use crate::load_error::LoadError;
use crate::module::{MAX_WASI_MODULE_BYTES, Module, Wasi, hex};
use crate::registry::toml_path;

/// The largest rule file taken.
const MAX_RULE_FILE_BYTES: u64 = 1 << 20;
/// The most rules.
const MAX_RULES: usize = 10_000;

/// What the files say of one rule; equal as long as nothing has changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Its settings, or why they cannot be read.
    pub file: Result<RuleFile, String>,
    /// The module's file name.
    pub module: String,
    /// The module's sha256, or why it cannot be read.
    digest: Result<String, String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { file: Err(String::new()), module: String::new(), digest: Err(String::new()) }
    }
}

/// Reads the directory, and modules out of it.
pub(super) struct Scanner {
    directory: PathBuf,
    /// Digests of files that have not been touched since.
    digests: HashMap<PathBuf, (Touched, String)>,
    modules: HashMap<(String, Wasi), Weak<Module>>,
    admission: Arc<Admission>,
}

type Touched = (u64, Option<SystemTime>);

impl Scanner {
    pub fn new(directory: PathBuf, admission: Arc<Admission>) -> Self {
        Self { directory, digests: HashMap::new(), modules: HashMap::new(), admission }
    }

    /// All rules asked for, by name.
    pub fn scan(&mut self) -> io::Result<BTreeMap<String, Wanted>> {
        let (mut tomls, mut wasms) = (BTreeSet::new(), BTreeSet::new());
        for entry in fs::read_dir(&self.directory)?.take(MAX_RULES * 2) {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Editors and ConfigMaps keep their own files beside ours under such names.
            if name.starts_with('.') {
                continue;
            }
            match name.rsplit_once('.') {
                Some((stem, "toml")) => drop(tomls.insert(stem.to_owned())),
                Some((stem, "wasm")) => drop(wasms.insert(stem.to_owned())),
                _ => {}
            }
        }
        let mut wanted = BTreeMap::new();
        let mut named = BTreeSet::new();
        for rule in tomls {
            let file = self.rule_file(&rule);
            let module = file.as_ref().map_or_else(|_| format!("{rule}.wasm"), |file| file.module.clone());
            named.insert(module.clone());
            let digest = self.digest(&module);
            wanted.insert(rule, Wanted { file, module, digest });
        }
        for stem in wasms {
            let module = format!("{stem}.wasm");
            // One that is named by its digest was put there by the API, and waits for a rule to name it. A rule's file says what the rule is,
            // also where it names another module than the one beside it.
            if !named.contains(&module) && !is_digest(&stem) && !wanted.contains_key(&stem) {
                let file = sound_name(&stem).and_then(|()| defaults(&module));
                let digest = self.digest(&module);
                wanted.insert(stem, Wanted { file, module, digest });
            }
        }
        Ok(wanted)
    }

    fn rule_file(&self, rule: &str) -> Result<RuleFile, String> {
        sound_name(rule)?;
        let file_name = format!("{rule}.toml");
        let path = toml_path(&self.directory, rule);
        let bytes = read_bounded(&path, MAX_RULE_FILE_BYTES).map_err(|e| format!("{file_name}: {e}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{file_name} is not UTF-8"))?;
        RuleFile::parse(&text, &file_name).map_err(|error| error.to_string())
    }

    fn digest(&mut self, module: &str) -> Result<String, String> {
        let path = self.directory.join(module);
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("the module {module} is not in the rules directory"),
            _ => format!("the module {module} cannot be read: {error}"),
        };
        let metadata = fs::metadata(&path).map_err(missing)?;
        let touched = (metadata.len(), metadata.modified().ok());
        if let Some((then, digest)) = self.digests.get(&path)
            && *then == touched
            && settled(touched.1)
        {
            return Ok(digest.clone());
        }
        let bytes = read_bounded(&path, MAX_WASI_MODULE_BYTES as u64 + 1).map_err(missing)?;
        let digest = hex(&Sha256::digest(&bytes));
        self.digests.insert(path, (touched, digest.clone()));
        Ok(digest)
    }

    /// The module a rule file names: compiled, unless a rule that serves has it already.
    pub fn module(&mut self, file: &RuleFile) -> Result<Arc<Module>, LoadError> {
        let digest = self.digest(&file.module).map_err(LoadError::File)?;
        let wasi = if file.wasi { Wasi::Empty } else { Wasi::Refused };
        if let Some(known) = self.modules.get(&(digest, wasi)).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let path = self.directory.join(&file.module);
        let bytes = read_bounded(&path, MAX_WASI_MODULE_BYTES as u64 + 1)
            .map_err(|error| LoadError::File(format!("{}: {error}", file.module)))?;
        let module = Arc::new(self.admission.admit(&bytes, wasi)?);
        self.modules.retain(|_, module| module.strong_count() > 0);
        self.modules.insert((module.sha256().to_string(), wasi), Arc::downgrade(&module));
        Ok(module)
    }

    /// Writes `enabled` into the rule's file, whole or not at all; a rule without one gets one.
    pub fn write_enabled(&self, rule: &str, module: &str, enabled: bool) -> Result<(), String> {
        sound_name(rule)?;
        let path = toml_path(&self.directory, rule);
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("{rule}.toml cannot be read: {error}")),
        };
        let new = RuleFile::with_enabled(old.as_deref(), module, enabled).map_err(|error| error.to_string())?;
        write_whole(&self.directory, &path, new.as_bytes())
            .map_err(|error| format!("{rule}.toml cannot be written: {error}"))
    }
}

/// A file written a moment ago may be written again within the clock's grain: its time proves nothing yet.
fn settled(modified: Option<SystemTime>) -> bool {
    modified.and_then(|then| then.elapsed().ok()).is_some_and(|age| age.as_secs() >= 2)
}

fn is_digest(stem: &str) -> bool {
    stem.len() == 64 && stem.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn sound_name(rule: &str) -> Result<(), String> {
    rule.parse::<Name>().map(drop).map_err(|error| format!("the file's name is no name for a rule: {error}"))
}

fn defaults(module: &str) -> Result<RuleFile, String> {
    let text = format!("module = {}\n", serde_json::Value::from(module));
    RuleFile::parse(&text, module).map_err(|error| error.to_string())
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_whole(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = directory.join(format!(".{file_name}.new"));
    // What stands there is left of a crash, or a link that somebody wants us to write through.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(directory)?.sync_all()
}
