//! What the rules directory asks for.
//!
//! `<rule>.toml` makes a named rule of a module. A `.wasm` that no TOML names is a rule of its own, with the defaults of
//! its `describe`; but for one whose name is a sha256, which runs only where a TOML names it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use sha2::{Digest, Sha256};
use tidegate_config::{Name, RuleFile};

use crate::admission::{self, Admission};
use crate::generations::Generations;
use crate::load_error::LoadError;
use crate::module::{MAX_WASI_MODULE_BYTES, Module, hex};
use crate::registry::toml_path;
use crate::registry::touched::Touched;
use crate::signature::{MAX_MANIFEST_BYTES, SUFFIX, Trust};
use crate::terms::Terms;

/// The largest rule file taken.
const MAX_RULE_FILE_BYTES: u64 = 1 << 20;
/// The most rules.
const MAX_RULES: usize = 10_000;
/// The most entries of the directory that are looked at: with more it is not read at all, rather than in part.
const MAX_ENTRIES: usize = 100_000;

/// What the files say of one rule; equal as long as nothing has changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Its settings, or why they cannot be read.
    pub file: Result<RuleFile, String>,
    /// The module's file name.
    pub module: String,
    /// The module's sha256, or why it cannot be read.
    pub digest: Result<String, String>,
    /// What stands beside the module and says who vouches for it, where signatures are required.
    pub manifest: Option<Vec<u8>>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { file: Err(String::new()), module: String::new(), digest: Err(String::new()), manifest: None }
    }
}

/// Reads the directory, and modules out of it.
pub(super) struct Scanner {
    directory: PathBuf,
    /// Digests of files that have not been touched since.
    digests: HashMap<PathBuf, (Touched, String)>,
    modules: HashMap<(String, Terms), Weak<Module>>,
    admission: Arc<Admission>,
    generations: Option<Arc<Generations>>,
    /// The module that each rule's file named when it could last be read.
    last_named: BTreeMap<String, String>,
    /// The rules of modules that no file named, when the directory was last read.
    by_default: BTreeSet<String>,
}

/// The stems of what is in the directory.
#[derive(Default)]
struct Stems {
    tomls: BTreeSet<String>,
    wasms: BTreeSet<String>,
    /// Of modules of which the API has said that they wait.
    waiting: BTreeSet<String>,
}

impl Scanner {
    pub fn new(directory: PathBuf, admission: Arc<Admission>, generations: Option<Arc<Generations>>) -> Self {
        let (last_named, by_default) = (BTreeMap::new(), BTreeSet::new());
        let (digests, modules) = (HashMap::new(), HashMap::new());
        Self { directory, digests, modules, admission, generations, last_named, by_default }
    }

    /// All rules asked for, by name.
    pub fn scan(&mut self) -> io::Result<BTreeMap<String, Wanted>> {
        let Stems { tomls, wasms, waiting } = self.stems()?;
        self.last_named.retain(|rule, _| tomls.contains(rule));
        let mut wanted = BTreeMap::new();
        let mut named = BTreeSet::new();
        // A rule whose file is broken in such a way that nobody knows which module it names.
        let mut in_the_dark = None;
        for rule in tomls {
            let file = self.rule_file(&rule);
            let module = match &file {
                Ok(file) => {
                    self.last_named.insert(rule.clone(), file.module.clone());
                    file.module.clone()
                }
                Err(_) => {
                    let may_name = self.may_name(&rule);
                    if may_name.is_empty() {
                        in_the_dark = Some(rule.clone());
                    }
                    named.extend(may_name.iter().cloned());
                    may_name.into_iter().next().unwrap_or_else(|| format!("{rule}.wasm"))
                }
            };
            named.insert(module.clone());
            let digest = self.digest(&module);
            let manifest = self.manifest(&module);
            wanted.insert(rule, Wanted { file, module, digest, manifest });
        }
        let mut by_default = BTreeSet::new();
        for stem in wasms {
            let module = format!("{stem}.wasm");
            // One that is named by its digest was put there by the API, and waits for a rule to name it. A rule's file says what the rule is,
            // also where it names another module than the one beside it.
            if named.contains(&module) || is_digest(&stem) || wanted.contains_key(&stem) {
                continue;
            }
            let digest = self.digest(&module);
            if waiting.contains(&stem) && self.waits(&module, digest.as_deref().ok()) {
                continue;
            }
            let file = match &in_the_dark {
                Some(rule) if !self.served_by_default(&stem) => Err(format!(
                    "{rule}.toml cannot be read, and may be meant to name {module}, which does not run by its own defaults meanwhile: mend {rule}.toml"
                )),
                _ => sound_name(&stem).and_then(|()| defaults(&module)),
            };
            if file.is_ok() {
                by_default.insert(stem.clone());
            }
            let manifest = self.manifest(&module);
            wanted.insert(stem, Wanted { file, module, digest, manifest });
        }
        self.by_default = by_default;
        leave_out(&mut wanted);
        Ok(wanted)
    }

    fn stems(&self) -> io::Result<Stems> {
        let mut stems = Stems::default();
        for (at, entry) in fs::read_dir(&self.directory)?.enumerate() {
            if at == MAX_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries; clear it out")));
            }
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Editors and ConfigMaps keep their own files beside ours under such names.
            if let Some(hidden) = name.strip_prefix('.') {
                stems.waiting.extend(hidden.strip_suffix(".wasm.waits").map(str::to_owned));
                continue;
            }
            match name.rsplit_once('.') {
                Some((stem, "toml")) => drop(stems.tomls.insert(stem.to_owned())),
                Some((stem, "wasm")) => drop(stems.wasms.insert(stem.to_owned())),
                _ => {}
            }
        }
        Ok(stems)
    }

    /// Whether the API has said of this very module that it waits for a rule to name it: between two steps of a change, or where it is a
    /// link that cannot be renamed.
    fn waits(&self, module: &str, digest: Option<&str>) -> bool {
        let said = read_bounded(&self.directory.join(format!(".{module}.waits")), 65).ok();
        said.as_deref() == digest.map(str::as_bytes)
    }

    /// The modules that a file which cannot be read may be meant to name, the likeliest first.
    fn may_name(&self, rule: &str) -> Vec<String> {
        let bytes = read_bounded(&toml_path(&self.directory, rule), MAX_RULE_FILE_BYTES).unwrap_or_default();
        let said = module_in(&String::from_utf8_lossy(&bytes));
        let last = self.last_named.get(rule).cloned();
        let kept = || self.generations.as_ref().and_then(|store| store.module_file(rule));
        said.into_iter().chain(last.or_else(kept)).collect()
    }

    /// Whether that rule is its module's own, which no file named when the directory was last read.
    pub fn runs_by_default(&self, rule: &str) -> bool {
        self.by_default.contains(rule)
    }

    /// Whether that rule ran by its module's defaults before: when the directory was last read, or before the host was started.
    fn served_by_default(&self, rule: &str) -> bool {
        let kept = || self.generations.as_ref().is_some_and(|store| store.serving(rule).is_some());
        self.runs_by_default(rule) || kept()
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
        let touched = Touched::of(&metadata);
        if let Some((then, digest)) = self.digests.get(&path)
            && *then == touched
            && touched.settled()
        {
            return Ok(digest.clone());
        }
        let bytes = read_bounded(&path, MAX_WASI_MODULE_BYTES as u64 + 1).map_err(missing)?;
        let digest = hex(&Sha256::digest(&bytes));
        self.digests.insert(path, (touched, digest.clone()));
        Ok(digest)
    }

    /// What stands beside a module; none where nobody asks for it, or if it cannot be read.
    fn manifest(&self, module: &str) -> Option<Vec<u8>> {
        let path = || self.directory.join(format!("{module}{SUFFIX}"));
        // One byte more than it may have, so that one that is too large is not taken for whole.
        self.trust().is_required().then(|| read_bounded(&path(), MAX_MANIFEST_BYTES as u64 + 1).ok()).flatten()
    }

    /// Whose modules are taken.
    pub fn trust(&self) -> &Trust {
        self.admission.trust()
    }

    /// The module a rule file names: compiled, unless a rule that serves has it already. `manifest` is what stands beside it.
    pub fn module(&mut self, file: &RuleFile, manifest: Option<&[u8]>) -> Result<Arc<Module>, LoadError> {
        let digest = self.digest(&file.module).map_err(LoadError::File)?;
        let terms = Terms::of(file);
        if let Some(known) = self.modules.get(&(digest.clone(), terms)).and_then(Weak::upgrade) {
            self.trust().check(&digest, manifest)?;
            return Ok(known);
        }
        let path = self.directory.join(&file.module);
        let bytes = read_bounded(&path, MAX_WASI_MODULE_BYTES as u64 + 1)
            .map_err(|error| LoadError::File(format!("{}: {error}", file.module)))?;
        let module = self.admission.admit(&bytes, manifest, terms)?;
        self.modules.retain(|_, module| module.strong_count() > 0);
        self.modules.insert((module.sha256().to_string(), terms), Arc::downgrade(&module));
        // While its bytes are at hand: its file may be another a moment later.
        if let Some(Err(error)) = self.generations.as_ref().map(|store| store.keep_module(module.sha256(), &bytes)) {
            tracing::warn!(module = file.module, "the module cannot be kept on disk to go back to: {error}");
        }
        Ok(module)
    }

    /// Whether what a rule's files ask for takes no compiling.
    pub fn is_at_hand(&self, wanted: &Wanted) -> bool {
        let (Ok(file), Ok(digest)) = (&wanted.file, &wanted.digest) else { return true };
        let terms = Terms::of(file);
        let is_loaded = self.modules.get(&(digest.clone(), terms)).is_some_and(|module| module.strong_count() > 0);
        !file.enabled || is_loaded || self.admission.is_at_hand(digest, terms.wasi)
    }

    /// Whether what a rule's files ask for is a decoder by the names of its exports: that takes no compiling.
    pub fn is_decoder(&self, wanted: &Wanted) -> bool {
        let Ok(file) = &wanted.file else { return false };
        read_bounded(&self.directory.join(&file.module), MAX_WASI_MODULE_BYTES as u64 + 1)
            .is_ok_and(|bytes| admission::is_decoder(&bytes, Terms::of(file).wasi))
    }

    /// Has the module compiled that a rule's files ask for, although it took more than it may when that was tried.
    pub fn forget_refusal(&self, wanted: &Wanted) {
        if let Ok(digest) = &wanted.digest {
            self.admission.forget_refusal(digest);
        }
    }

    /// Keeps a module in `store` if it is not there any more, as long as its file is still what it was.
    pub fn keep_again(&self, store: &Generations, sha256: &str, file: &str) -> io::Result<()> {
        if store.has_module(sha256) {
            return Ok(());
        }
        let bytes = read_bounded(&self.directory.join(file), MAX_WASI_MODULE_BYTES as u64 + 1)?;
        if hex(&Sha256::digest(&bytes)) != sha256 {
            return Err(io::Error::other(format!("{file} has been changed meanwhile")));
        }
        store.keep_module(sha256, &bytes)
    }

    /// The text of a rule's file that says the same as `file`: with its comments, if it is there still.
    pub fn text(&self, rule: &str, file: &RuleFile) -> String {
        let bytes = read_bounded(&toml_path(&self.directory, rule), MAX_RULE_FILE_BYTES).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let same = |text: &String| RuleFile::parse(text, rule).is_ok_and(|parsed| parsed == *file);
        text.filter(same).or_else(|| file.to_toml().ok()).unwrap_or_default()
    }
}

/// The module that a broken rule file seems to name.
fn module_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.trim_start().strip_prefix("module")?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (name, _) = value.get(1..)?.split_once(quote)?;
        name.ends_with(".wasm").then(|| name.to_owned())
    })
}

/// Those past the limit are not loaded, and say so: the last ones by name, so that they are the same ones each time.
fn leave_out(wanted: &mut BTreeMap<String, Wanted>) {
    let all = wanted.len();
    if all <= MAX_RULES {
        return;
    }
    tracing::error!("there are {all} rules in the rules directory: those past {MAX_RULES}, by name, do not run");
    for wanted in wanted.values_mut().skip(MAX_RULES) {
        wanted.file =
            Err(format!("there are {all} rules; a host runs {MAX_RULES}, and this one is past them by its name"));
    }
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

pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
