//! What the generations on disk are for: numbers that go on after a restart, a rule that serves though its files are broken now, and one
//! to go back to when the one that serves is quarantined.

use std::sync::Arc;

use tidegate_config::RuleFile;

use crate::admission::try_out;
use crate::load_error::LoadError;
use crate::module::Wasi;
use crate::registry::Registry;
use crate::registry::known::Problem;
use crate::registry::status::QUARANTINED;
use crate::rule::{OnRefusedState, Rule};
use crate::stats::RuleStats;

impl Registry {
    /// The number of a rule's next generation: the one it had, if this is the first of it since the host started and it is the same.
    pub(super) fn number(&mut self, rule: &str, sha256: &str, file: &RuleFile) -> u64 {
        let first = self.rules.get(rule).is_none_or(|known| !known.met);
        let same = self.generations.as_ref().filter(|_| first).and_then(|store| store.same(rule, sha256, file));
        same.unwrap_or_else(|| {
            self.generation += 1;
            self.generation
        })
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

    /// The rule's files cannot serve and nothing of it does: what served last, before the host was started, serves again.
    pub(super) fn revive(&mut self, name: &str) {
        let number = self.generations.as_ref().and_then(|store| store.serving(name));
        let Some((number, known)) = number.zip(self.rules.get(name)) else { return };
        if known.serving.is_some() || known.met {
            return;
        }
        let stats = known.stats.clone();
        let revived = self.stored(name, number, number, stats).map(Arc::new);
        match revived.and_then(|rule| self.deploy.install(&rule).map(|()| rule)) {
            Ok(rule) => {
                tracing::warn!(rule = name, generation = number, "the generation kept on disk serves");
                if let Some(known) = self.rules.get_mut(name) {
                    known.serves(rule);
                }
            }
            Err(error) => {
                tracing::error!(rule = name, generation = number, "the generation kept on disk cannot serve: {error}")
            }
        }
    }

    /// What a rule's files say was quarantined before the host was started, and a good one served in its place when the host ended: that serves
    /// on, until the files change or somebody says that they are to be tried again. Gives whether it does.
    pub(super) fn stays_returned(&mut self, name: &str, file: &RuleFile) -> bool {
        let Some(known) = self.rules.get(name).filter(|known| !known.met && known.serving.is_none()) else {
            return false;
        };
        let (Some(store), Ok(digest)) = (&self.generations, &known.wanted.digest) else { return false };
        let Some((bad, why)) = store.blamed(name, digest, file) else { return false };
        let Some(good) = store.serving(name).filter(|good| store.returned_for(name, *good) == Some(bad)) else {
            return false;
        };
        let stats = known.stats.clone();
        let returned = self.stored(name, good, good, stats).and_then(|rule| self.let_return(rule));
        let Some(known) = self.rules.get_mut(name) else { return false };
        let was =
            format!("generation {bad}, which is that of its files, was quarantined before the host was started");
        match returned {
            Ok(Returned { rule, state }) => {
                let text = format!("{was}, and generation {good} serves on{state}: {why}");
                tracing::warn!(rule = name, "{text}");
                known.served = known.wanted.clone();
                known.returns(rule, text);
                true
            }
            // Soon it can. Were the quarantined one to serve meanwhile, what is known against it would be forgotten.
            Err(error @ LoadError::Busy(_)) => {
                let text = format!("{was}: {why}; and generation {good} cannot serve on yet: {error}");
                // What is tried again every other second is said once.
                if known.problem.as_ref().is_none_or(|problem| problem.text != text) {
                    tracing::warn!(rule = name, "{text}");
                }
                known.problem = Some(Problem { code: QUARANTINED, text });
                known.again = true;
                true
            }
            Err(error) => {
                tracing::error!(
                    rule = name,
                    generation = good,
                    "{was}, and generation {good} cannot serve on: {error}"
                );
                false
            }
        }
    }

    /// Of the quarantined `bad` there is none before it in memory: the last good one from disk serves, once.
    pub(super) fn retreat_to_disk(&mut self, bad: &Arc<Rule>, why: &str) {
        let (name, store) = (&*bad.name, self.generations.clone());
        let Some(number) = store.as_ref().and_then(|store| store.good_before(name, bad.generation)) else { return };
        self.generation += 1;
        let again =
            self.stored(name, number, self.generation, bad.stats.clone()).and_then(|rule| self.let_return(rule));
        let Some(known) = self.rules.get_mut(name) else { return };
        known.returned = true;
        let text = match again {
            Ok(Returned { rule, state }) => {
                self.shadows.end(name, "the rule was quarantined");
                note_return(store.as_deref(), bad, number, rule.generation);
                let bad = bad.generation;
                let text =
                    format!("generation {bad} was quarantined, generation {number} serves again{state}: {why}");
                known.returns(rule, text.clone());
                text
            }
            Err(error) => format!("{why}; and generation {number} could not return: {error}"),
        };
        tracing::warn!(rule = name, "{text}");
        known.problem = Some(Problem { code: QUARANTINED, text });
    }

    /// Lets a generation serve again in the place of a quarantined one. What that has made of the state it may refuse: then it begins without, and
    /// what was raised is cleared, since a rule that serves so is better than one that does not.
    pub(super) fn let_return(&mut self, rule: Rule) -> Result<Returned, LoadError> {
        let mut rule = Arc::new(rule);
        match self.deploy.install(&rule) {
            Err(LoadError::State(refused)) => {
                tracing::error!(
                    rule = &*rule.name,
                    "the generation that returns begins without state, since it refuses that of the quarantined one: {refused}"
                );
                rule = Arc::new(Rule { on_refused_state: OnRefusedState::Discard, ..Rule::clone(&rule) });
                self.deploy.install(&rule)?;
                Ok(Returned {
                    rule,
                    state: ", without state, since it refused that of the quarantined one; its alerts were cleared",
                })
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Returned { rule, state: "" }),
        }
    }

    /// Generation `number` of a rule, from disk, looked over like any other, to serve under `new`.
    fn stored(&mut self, name: &str, number: u64, new: u64, stats: Arc<RuleStats>) -> Result<Rule, LoadError> {
        let store = self.generations.as_ref().ok_or_else(|| LoadError::File("no generations are kept".into()))?;
        let kept = store.generation(name, number).map_err(LoadError::File)?;
        let wasi = if kept.file.wasi { Wasi::Empty } else { Wasi::Refused };
        let manifest = kept.manifest.as_deref().map(str::as_bytes);
        let module = self.admission.admit_again(&kept.module, manifest, wasi)?;
        let rule = Rule::of_file(name, &kept.file, module, stats, new)?;
        try_out(&rule)?;
        Ok(rule)
    }
}

/// A generation that serves again.
pub(super) struct Returned {
    pub rule: Arc<Rule>,
    /// What became of the state, for people: nothing where it went on.
    pub state: &'static str,
}

/// Notes on disk that `old` has returned as `new`, in the place of `bad`.
pub(super) fn note_return(store: Option<&crate::generations::Generations>, bad: &Rule, old: u64, new: u64) {
    let rule = &*bad.name;
    if let Some(Err(error)) = store.map(|store| store.returns(rule, old, new, bad.generation)) {
        tracing::warn!(rule, generation = old, "that it serves again cannot be noted on disk: {error}");
    }
}
