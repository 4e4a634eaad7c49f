//! A quarantined generation gives way to the newest good one that can serve, from memory or from disk, also over a restart.

use std::sync::Arc;

use tidegate_config::RuleFile;

use crate::generations::Generations;
use crate::load_error::LoadError;
use crate::registry::Registry;
use crate::registry::known::Problem;
use crate::registry::status::QUARANTINED;
use crate::rule::{OnRefusedState, Rule};

impl Registry {
    /// What a rule's files say was quarantined before the host was started, and a good one served in its place when the host ended: that serves
    /// on, or the newest before it that can, until the files change or somebody says that they are to be tried again. Gives false where the files'
    /// generation may serve.
    pub(super) fn stays_returned(&mut self, name: &str, file: &RuleFile) -> bool {
        let Some(known) = self.rules.get(name).filter(|known| !known.met && known.serving.is_none()) else {
            return false;
        };
        let (Some(store), Ok(digest)) = (self.generations.clone(), &known.wanted.digest) else { return false };
        let blamed = store.blamed(name, digest, file).filter(|(bad, _)| store.was_replaced(name, *bad));
        let Some((bad, why)) = blamed else { return false };
        let stats = known.stats.clone();
        let was =
            format!("generation {bad}, which is that of its files, was quarantined before the host was started");
        let mut failed = Vec::new();
        for number in store.good_but(name, bad) {
            let stood_in = store.returned_for(name, number) == Some(bad);
            let new = if stood_in { number } else { self.next_number(name) };
            let returned =
                self.stored(name, number, new, stats.clone()).and_then(|rule| self.let_return(Arc::new(rule)));
            match returned {
                Ok(Returned { rule, state }) => {
                    if !stood_in {
                        note_return(Some(&store), name, bad, (number, new));
                    }
                    let text =
                        format!("{was}, and generation {number} serves on{state}: {why}{}", could_not(&failed));
                    tracing::warn!(rule = name, "{text}");
                    let Some(known) = self.rules.get_mut(name) else { return true };
                    known.served = known.wanted.clone();
                    known.returns(rule, text);
                    return true;
                }
                // Soon it can. Were the quarantined one to serve meanwhile, what is known against it would be forgotten.
                Err(error @ LoadError::Busy(_)) => {
                    let text = format!("{was}: {why}; and generation {number} cannot serve on yet: {error}");
                    self.waits(name, text);
                    let Some(known) = self.rules.get_mut(name) else { return true };
                    known.again = true;
                    known.number = Some(new).filter(|_| !stood_in);
                    return true;
                }
                Err(error) => failed.push((number, error.to_string())),
            }
        }
        self.waits(name, format!("{was}: {why}{}", could_not(&failed)));
        true
    }

    /// Nothing serves in the place of a quarantined generation, as `text` says.
    fn waits(&mut self, name: &str, text: String) {
        let Some(known) = self.rules.get_mut(name) else { return };
        // What is tried again every other second is said once.
        if known.problem.as_ref().is_none_or(|problem| problem.text != text) {
            tracing::warn!(rule = name, "{text}");
        }
        known.problem = Some(Problem { code: QUARANTINED, text });
    }

    /// Where a generation is quarantined, the one before it returns, if there is one that was good; if not now, then with the next reading.
    pub(super) fn retreat(&mut self) {
        let quarantined = self.rules.values().filter_map(|known| known.serving.clone());
        let quarantined: Vec<_> = quarantined.filter(|rule| rule.stats.is_quarantined(rule.generation)).collect();
        for bad in quarantined {
            let why = bad.stats.quarantined().unwrap_or_default();
            if let Some(store) = &self.generations {
                store.blame(&bad.name, bad.generation, &why);
            }
            if self.rules.get(&*bad.name).is_some_and(|known| !known.returned)
                && let Some(text) = self.retreat_from(&bad, &why)
            {
                self.waits(&bad.name, text);
            }
        }
    }

    /// The newest good generation before `bad` that can serve does: the one that is in memory, else one from disk. Gives what is to be said where
    /// none does.
    fn retreat_from(&mut self, bad: &Arc<Rule>, why: &str) -> Option<String> {
        let (name, mut failed) = (&*bad.name, Vec::new());
        loop {
            let before = match self.rules.get(name)?.before.clone() {
                Some(before) => Ok(Some(before)),
                None => self.before_on_disk(bad, &mut failed),
            };
            let before = match before {
                Ok(Some(before)) => before,
                Ok(None) if failed.is_empty() => return None,
                Ok(None) => {
                    self.rules.get_mut(name)?.returned = true;
                    return Some(format!("{why}{}", could_not(&failed)));
                }
                Err(error) => return Some(format!("{why}; and none could be loaded to return yet: {error}")),
            };
            let (old, new) = (before.generation, self.next_number(name));
            let returned = self.let_return(Arc::new(before.next_generation(new)));
            let known = self.rules.get_mut(name)?;
            match returned {
                Ok(Returned { rule, state }) => {
                    let number = bad.generation;
                    let rest = could_not(&failed);
                    let text = format!(
                        "generation {number} was quarantined, generation {old} serves again{state}: {why}{rest}"
                    );
                    tracing::warn!(rule = name, "{text}");
                    known.returns(rule, text);
                    self.shadows.end(name, "the rule was quarantined");
                    note_return(self.generations.as_deref(), name, number, (old, new));
                    return None;
                }
                // It is kept, and tried again soon.
                Err(error @ LoadError::Busy(_)) => {
                    known.before = Some(before);
                    known.number = Some(new);
                    return Some(format!("{why}; and generation {old} could not return yet: {error}"));
                }
                Err(error) => {
                    known.before = None;
                    failed.push((old, error.to_string()));
                }
            }
        }
    }

    /// The newest good generation before the quarantined `bad` that can be loaded from disk, but for those that are said to have `failed`; there it
    /// says which others have.
    fn before_on_disk(
        &mut self,
        bad: &Rule,
        failed: &mut Vec<(u64, String)>,
    ) -> Result<Option<Arc<Rule>>, LoadError> {
        let numbers = self.generations.as_ref().map(|store| store.good_but(&bad.name, bad.generation));
        for number in numbers.unwrap_or_default() {
            if failed.iter().any(|(other, _)| *other == number) {
                continue;
            }
            match self.stored(&bad.name, number, number, bad.stats.clone()) {
                Ok(rule) => return Ok(Some(Arc::new(rule))),
                Err(error @ LoadError::Busy(_)) => return Err(error),
                Err(error) => failed.push((number, error.to_string())),
            }
        }
        Ok(None)
    }

    /// Lets a generation serve again in the place of a quarantined one. What that has made of the state it may refuse: then it begins without, and
    /// what was raised is cleared, since a rule that serves so is better than one that does not.
    fn let_return(&mut self, mut rule: Arc<Rule>) -> Result<Returned, LoadError> {
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
}

/// A generation that serves again.
struct Returned {
    pub rule: Arc<Rule>,
    /// What became of the state, for people: nothing where it went on.
    pub state: &'static str,
}

/// What is said of those that could not return, by their numbers.
fn could_not(failed: &[(u64, String)]) -> String {
    failed.iter().map(|(number, why)| format!("; generation {number} could not return: {why}")).collect()
}

/// Notes on disk that generation `old` of a rule has returned as `new`, in the place of `bad`.
fn note_return(store: Option<&Generations>, rule: &str, bad: u64, (old, new): (u64, u64)) {
    if let Some(Err(error)) = store.map(|store| store.returns(rule, old, new, bad)) {
        tracing::warn!(rule, generation = old, "that it serves again cannot be noted on disk: {error}");
    }
}
