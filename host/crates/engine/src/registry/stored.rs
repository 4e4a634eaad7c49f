//! What the generations on disk are for: numbers that go on after a restart, a rule that serves though its files are broken now, and those
//! to go back to ([`super::retreat`]).

use std::sync::Arc;

use tidegate_config::RuleFile;

use crate::admission::try_out;
use crate::load_error::LoadError;
use crate::registry::Registry;
use crate::rule::Rule;
use crate::stats::RuleStats;
use crate::terms::Terms;

impl Registry {
    /// The number of a rule's next generation: the one it had, if this is the first of it since the host started and it is the same.
    pub(super) fn number(&mut self, rule: &str, sha256: &str, file: &RuleFile) -> u64 {
        let first = self.rules.get(rule).is_none_or(|known| !known.met);
        let same = self.generations.as_ref().filter(|_| first).and_then(|store| store.same(rule, sha256, file));
        same.unwrap_or_else(|| self.next_number(rule))
    }

    /// `rule` serves, as `file` says: it is kept on disk. If it cannot be, it serves all the same.
    pub(super) fn remember(&self, rule: &Rule, file: &RuleFile, manifest: Option<&[u8]>) {
        let Some(store) = &self.generations else { return };
        let (name, number, sha256) = (&*rule.name, rule.generation, &**rule.module.sha256());
        let is_kept = store.same(name, sha256, file) == Some(number) && store.has_module(sha256);
        // One that stood in for another serves for its own files now, and that is to be noted.
        let kept = if is_kept && store.returned_for(name, number).is_none() {
            store.serves(name, number)
        } else {
            let text = self.scanner.text(name, file);
            self.scanner
                .keep_again(store, sha256, &file.module)
                .and_then(|()| store.keep(name, number, sha256, file, &text, manifest))
        };
        if let Err(error) = kept {
            tracing::warn!(
                rule = name,
                generation = number,
                "the generation cannot be kept on disk to go back to: {error}"
            );
        }
    }

    /// The rule's files cannot serve and nothing of it does: what served last, before the host was started, serves again; where that cannot, the newest good
    /// one that can. Where the machine was too short to compile what they name, only what is compiled already can: to try each of the others would take as long.
    pub(super) fn revive(&mut self, name: &str, why: &LoadError) {
        let numbers = self.generations.as_ref().map(|store| store.to_revive(name)).unwrap_or_default();
        let Some(known) = self.rules.get_mut(name) else { return };
        known.unrevived = false;
        if known.serving.is_some() || known.met {
            return;
        }
        let stats = known.stats.clone();
        for number in numbers {
            if why.machine_was_short().is_some() && !self.is_compiled(name, number) {
                continue;
            }
            let revived = self.stored(name, number, number, stats.clone()).map(Arc::new);
            match revived.and_then(|rule| self.deploy.install(&rule).map(|()| rule)) {
                Ok(rule) => {
                    tracing::warn!(rule = name, generation = number, "the generation kept on disk serves");
                    self.rules.get_mut(name).into_iter().for_each(|known| known.serves(rule.clone()));
                    return;
                }
                // Soon they can.
                Err(LoadError::Busy(_)) => {
                    self.rules.get_mut(name).into_iter().for_each(|known| known.unrevived = true);
                    return;
                }
                Err(error) => tracing::error!(
                    rule = name,
                    generation = number,
                    "the generation kept on disk cannot serve: {error}"
                ),
            }
        }
    }

    fn is_compiled(&self, name: &str, number: u64) -> bool {
        let sha256 = self.generations.as_ref().and_then(|store| store.sha256(name, number));
        sha256.is_some_and(|sha256| self.admission.is_compiled(&sha256))
    }

    /// Generation `number` of a rule, from disk, looked over like any other, to serve under `new`.
    pub(super) fn stored(
        &mut self,
        name: &str,
        number: u64,
        new: u64,
        stats: Arc<RuleStats>,
    ) -> Result<Rule, LoadError> {
        let store = self.generations.as_ref().ok_or_else(|| LoadError::File("no generations are kept".into()))?;
        let kept = store.generation(name, number).map_err(LoadError::File)?;
        let manifest = kept.manifest.as_deref().map(str::as_bytes);
        let module = self.admission.admit_again(&kept.module, manifest, Terms::of(&kept.file))?;
        let rule = Rule::of_file(name, &kept.file, module, stats, new)?;
        try_out(&rule)?;
        Ok(Rule { signature_expires: self.scanner.trust().expires(manifest), ..rule })
    }
}
