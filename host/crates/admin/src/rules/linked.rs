//! Modules behind symlinks, as a ConfigMap has them. Nobody writes through a link, and no request has one followed: what such a module is, is known from the
//! registry, which has read it when it began to serve.

use std::sync::Arc;

use tidegate_engine::Module;

use super::directory::FileError;
use super::{Desk, digest};

impl Desk {
    /// The digest of a module that some rule names, as the registry has read it.
    pub(super) fn read_digest(&self, file: &str) -> Option<String> {
        let rules = self.registry.rules();
        rules.iter().filter(|rule| rule.module == file).find_map(|rule| self.registry.module_digest(&rule.name))
    }

    /// A module that serves a rule, for who met a link instead of its file.
    pub(super) fn instead_of_link(&self, file: &str) -> Result<Arc<Module>, FileError> {
        let served = self.read_digest(file).and_then(|digest| self.registry.module(&digest));
        served.ok_or_else(|| FileError::Symlink(file.to_owned()))
    }

    /// The bytes of the module that a rule serves with, and what vouches for it, if that is what its file names still.
    pub(super) fn kept_bytes(&self, rule: &str) -> Option<(Vec<u8>, Option<String>)> {
        let serving = self.registry.versions(rule).into_iter().find(|version| version.serving)?;
        let kept = self.registry.generation(rule, serving.generation).ok()?;
        let is_named = self.registry.module_digest(rule).is_some_and(|named| named == digest(&kept.module));
        is_named.then_some((kept.module, kept.manifest))
    }
}
