//! Modules in the rules directory. One that came by the API is named by its digest: such a file runs only where a rule names it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_engine::{MAX_WASI_MODULE_BYTES, Module as Admitted, Terms, Touched, Wasi};

use super::change::lock;
use super::directory::{FileError, Open};
use super::signatures::{beside, manifest_of};
use super::{Desk, hex};
use crate::gate::Changed;
use crate::problem::Problem;
use crate::route::Blank;
use crate::shapes::{Description, Module};

/// Of so many modules that serve no rule it is remembered what they say of themselves.
const MOST_DESCRIPTIONS: usize = 256;

/// A module on its way in.
pub(crate) struct Upload {
    directory: Open,
    draft: String,
    file: File,
    digest: Sha256,
    bytes: u64,
    /// It has been put in its place.
    placed: bool,
}

/// What has become of an upload.
pub(crate) struct Kept {
    pub module: Module,
    pub new: bool,
    pub changed: Changed,
}

/// The file of a module that came by the API.
pub(super) fn kept_name(sha256: &str) -> String {
    format!("{sha256}.wasm")
}

/// Whether a file's name is that of a module which waits for a rule to name it.
pub(super) fn is_kept(file: &str) -> bool {
    file.strip_suffix(".wasm").is_some_and(|stem| Blank::Sha256.takes(stem))
}

impl Upload {
    /// Takes a piece. Blocks.
    pub fn push(&mut self, piece: &Bytes) -> Result<(), Problem> {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
        Ok(self.file.write_all(piece).map_err(|error| self.unwritten(error))?)
    }

    fn unwritten(&self, error: std::io::Error) -> FileError {
        FileError::Io(self.draft.clone(), error)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.placed {
            self.directory.discard(&self.draft);
        }
    }
}

impl Desk {
    /// Begins to take a module in. Blocks.
    pub fn upload(&self) -> Result<Upload, Problem> {
        let directory = self.directory.open()?;
        let (draft, file) = directory.draft()?;
        Ok(Upload { directory, draft, file, digest: Sha256::new(), bytes: 0, placed: false })
    }

    /// Looks a module over that has come in whole, and keeps it if it can serve. Blocks.
    pub fn keep(&self, mut upload: Upload, wasi: Wasi) -> Result<Kept, Problem> {
        let sha256 = hex(&std::mem::take(&mut upload.digest).finalize());
        let file = kept_name(&sha256);
        let bytes = upload.directory.read(&upload.draft, MAX_WASI_MODULE_BYTES as u64)?.unwrap_or_default();
        if hex(&Sha256::digest(&bytes)) != sha256 {
            return Err(Problem::internal("the module was changed on disk while it came in"));
        }
        let manifest = manifest_of(&upload.directory, &file)?;
        let admitted = self.registry.admit(&bytes, manifest.as_deref(), Terms::of_no_rule(wasi))?;
        let _alone = self.begin()?;
        let _locked = lock(&upload.directory)?;
        let known = self.files()?.into_iter().find(|module| module.sha256 == sha256);
        let new = known.is_none();
        let mut module = known.unwrap_or_else(|| Module::new(&sha256, &file, upload.bytes));
        if new {
            self.room_for(&upload.directory, upload.bytes)?;
            upload.file.sync_all().map_err(|error| upload.unwritten(error))?;
            upload.directory.place(&upload.draft, &file)?;
            upload.placed = true;
        } else if module.used_by.is_empty() {
            // Whoever sends it anew is about to use it.
            upload.directory.touch(&module.file);
        }
        module.description = Some(self.remember(&admitted));
        Ok(Kept { module, new, changed: Changed { before: None, after: new.then_some(sha256) } })
    }

    /// All modules. Blocks.
    pub fn modules(&self) -> Result<Vec<Module>, Problem> {
        self.files()
    }

    /// One module, with what it says of itself. It is not compiled for that: who may only look must not make work. Blocks.
    pub fn module(&self, sha256: &str) -> Result<Module, Problem> {
        let mut module = self.found(sha256)?;
        module.description = self.description(sha256);
        match self.voucher(&self.directory.open()?, &module.file, sha256) {
            Ok(signature) => module.signature = signature,
            Err(problem) => module.problem = Some(problem),
        }
        Ok(module)
    }

    /// What a module says of itself, as far as that is known without running it: from the rule it serves, or from when it came in.
    fn description(&self, sha256: &str) -> Option<Description> {
        let serving = self.registry.module(sha256).map(|module| Description::of(&module));
        serving.or_else(|| self.descriptions().get(sha256).cloned())
    }

    /// Keeps what an admitted module says of itself.
    pub(super) fn remember(&self, module: &Admitted) -> Description {
        let (description, mut known) = (Description::of(module), self.descriptions());
        if known.len() >= MOST_DESCRIPTIONS {
            known.clear();
        }
        known.insert(module.sha256().to_string(), description.clone());
        description
    }

    fn descriptions(&self) -> MutexGuard<'_, HashMap<String, Description>> {
        self.descriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its bytes. Blocks.
    pub fn content(&self, sha256: &str) -> Result<Vec<u8>, Problem> {
        let module = self.found(sha256)?;
        let bytes = match self.directory.open()?.read(&module.file, MAX_WASI_MODULE_BYTES as u64) {
            Err(FileError::Symlink(link)) => {
                let kept = module.used_by.iter().find_map(|rule| self.kept_bytes(rule));
                Some(kept.ok_or(FileError::Symlink(link))?.0)
            }
            read => read?,
        };
        bytes.ok_or_else(|| no_module(sha256))
    }

    /// Deletes a module that no rule uses. Blocks.
    pub fn delete_module(&self, sha256: &str) -> Result<Changed, Problem> {
        let _alone = self.begin_knowing()?;
        let files = self.files()?;
        let mut served = self.served_beside(&files);
        let module = files.into_iter().find(|module| module.sha256 == sha256).ok_or_else(|| no_module(sha256))?;
        if !module.used_by.is_empty() {
            let detail = format!(
                "the module is used by {}; delete those rules, or stop their shadows, first",
                module.used_by.join(", ")
            );
            return Err(Problem::conflict("in_use", detail));
        }
        if let Some(rules) = served.remove(sha256) {
            let detail = format!(
                "the module still serves {}, whose files name another that cannot; mend or delete those rules first",
                rules.join(", ")
            );
            return Err(Problem::conflict("in_use", detail));
        }
        let directory = self.directory.open()?;
        let _locked = lock(&directory)?;
        directory.remove(&module.file)?;
        directory.remove(&beside(&module.file))?;
        Ok(Changed { before: Some(sha256.to_owned()), after: None })
    }

    fn found(&self, sha256: &str) -> Result<Module, Problem> {
        self.files()?.into_iter().find(|module| module.sha256 == sha256).ok_or_else(|| no_module(sha256))
    }

    /// By digest, the rules that a module serves whose file does not name it: the one it names cannot serve. Of two files with the same bytes, the named one
    /// is enough.
    pub(super) fn served_beside(&self, files: &[Module]) -> BTreeMap<String, Vec<String>> {
        let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rule in self.registry.rules() {
            let Some(sha256) = rule.sha256 else { continue };
            if !files.iter().any(|file| file.file == rule.module && file.sha256 == sha256) {
                served.entry(sha256).or_default().push(rule.name);
            }
        }
        served
    }

    pub(super) fn files(&self) -> Result<Vec<Module>, Problem> {
        let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rule in self.registry.rules() {
            // What a shadow runs is read again when it is to serve.
            let candidate = self.registry.candidate(&rule.name).map(|candidate| candidate.file.module);
            for module in candidate.into_iter().chain([rule.module]).collect::<BTreeSet<_>>() {
                used.entry(module).or_default().push(rule.name.clone());
            }
        }
        let directory = self.directory.open()?;
        let mut found = Vec::new();
        for name in directory.modules()? {
            let (sha256, bytes) = match directory.file(&name) {
                Ok(Some(file)) => self.digest(&name, file)?,
                // As in a ConfigMap: it cannot be looked at from here, but for what the registry knows of it.
                Err(FileError::Symlink(_)) => match (self.read_digest(&name), directory.linked_bytes(&name)) {
                    (Some(sha256), Ok(bytes)) => (sha256, bytes),
                    _ => continue,
                },
                _ => continue,
            };
            let mut module = Module::new(&sha256, &name, bytes);
            module.used_by = used.remove(&name).unwrap_or_default();
            found.push(module);
        }
        Ok(found)
    }

    fn digest(&self, name: &str, file: File) -> Result<(String, u64), Problem> {
        let failed = |error: std::io::Error| Problem::internal(format!("{name} cannot be read: {error}"));
        let metadata = file.metadata().map_err(failed)?;
        let (touched, bytes) = (Touched::of(&metadata), metadata.len());
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, digest)) = digests.get(name)
            && *then == touched
            && touched.settled()
        {
            return Ok((digest.clone(), bytes));
        }
        let mut digest = Sha256::new();
        let mut rest = file.take(MAX_WASI_MODULE_BYTES as u64 + 1);
        let mut piece = vec![0; 64 << 10];
        loop {
            match rest.read(&mut piece).map_err(failed)? {
                0 => break,
                n => digest.update(piece.get(..n).unwrap_or_default()),
            }
        }
        let digest = hex(&digest.finalize());
        if digests.len() > 10_000 {
            digests.clear();
        }
        digests.insert(name.to_owned(), (touched, digest.clone()));
        Ok((digest, bytes))
    }
}

fn no_module(sha256: &str) -> Problem {
    Problem::missing(format!("there is no module {sha256}; GET /api/v1/modules lists them"))
}
