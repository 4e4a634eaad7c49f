//! Looking over what a rule's file would make, before it is written, or instead: its module compiled, its configuration held against the module's schema, a
//! scratch instance made of both.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::RuleFile;
use tidegate_engine::{MAX_WASI_MODULE_BYTES, Module, Rule, Terms};

use super::Desk;
use super::directory::FileError;
use super::signatures::manifest_of;
use crate::problem::{Mistake, Problem};

impl Desk {
    /// The rule that a definition would make, tried on scratch instances: by a module of the rules directory. Blocks.
    pub fn examine(&self, name: &str, file: &RuleFile) -> Result<Arc<Rule>, Problem> {
        let module = self.admit(file)?.ok_or_else(|| no_module_file(file))?;
        self.examine_with(name, file, &module)
    }

    /// The same of what is only tried: its module may be on trial itself. Blocks.
    pub fn examine_candidate(&self, name: &str, file: &RuleFile) -> Result<Arc<Rule>, Problem> {
        let module = match self.admit(file)? {
            Some(module) => module,
            None => self.admit_on_trial(file)?.ok_or_else(|| no_module_file(file))?,
        };
        self.examine_with(name, file, &module)
    }

    /// The same with a module that may not be in the rules directory yet.
    pub(super) fn examine_with(
        &self,
        name: &str,
        file: &RuleFile,
        module: &Arc<Module>,
    ) -> Result<Arc<Rule>, Problem> {
        let mistakes = self.schemas.mistakes(&module.description().config_schema, &file.config)?;
        if !mistakes.is_empty() {
            return Err(Problem::unusable("config", "the configuration is not what the module takes", mistakes));
        }
        Ok(self.registry.examine(name, file, module)?)
    }

    /// The module that a file names, compiled; none if there is no such file.
    fn admit(&self, file: &RuleFile) -> Result<Option<Arc<Module>>, Problem> {
        let directory = self.directory.open()?;
        let bytes = match directory.read(&file.module, MAX_WASI_MODULE_BYTES as u64) {
            Err(FileError::Symlink(_)) => return Ok(Some(self.instead_of_link(&file.module)?)),
            read => read?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let manifest = manifest_of(&directory, &file.module)?;
        let module = self.registry.admit(&bytes, manifest.as_deref(), Terms::of(file))?;
        self.remember(&module);
        Ok(Some(module))
    }

    fn admit_on_trial(&self, file: &RuleFile) -> Result<Option<Arc<Module>>, Problem> {
        let sha256 = file.module.strip_suffix(".wasm").unwrap_or_default();
        let Some(held) = self.on_trial.get(sha256, Instant::now()) else { return Ok(None) };
        let manifest = held.manifest.as_ref().map(|text| text.as_bytes());
        Ok(Some(self.registry.admit(&held.bytes, manifest, Terms::of(file))?))
    }
}

fn no_module_file(file: &RuleFile) -> Problem {
    let detail =
        format!("there is no module {:?} in the rules directory; upload it first: POST /api/v1/modules", file.module);
    Problem::unusable("module", detail.clone(), vec![Mistake::new("/module", detail)])
}
