//! Rules tried again, switched off and taken away: what is to be called no more is not, or stays what it was while a lane is held back.

use crate::load_error::LoadError;
use crate::registry::scan::Wanted;
use crate::registry::status::QUARANTINED;
use crate::registry::{REMOVED, Registry, RetryError};

/// The codes of what is noted, and not tried again by itself.
const TOO_DEAR: [&str; 2] = ["compile_time", "compile_memory"];
/// That of what a lane has had no time for.
const BUSY: &str = "busy";

impl Registry {
    /// Gives a rule that is called no more another try.
    pub(super) fn retry(&mut self, rule: &str) -> Result<(), RetryError> {
        if !self.rules.contains_key(rule) {
            return Err(RetryError::NotServing(format!("there is no rule {rule:?} in the rules directory")));
        }
        self.try_again(rule);
        // What could not be read was not tried.
        self.read_now()?;
        match self.rules.get(rule).and_then(|known| known.problem.as_ref()) {
            None => Ok(()),
            Some(problem) if problem.code == BUSY => Err(RetryError::Busy(problem.text.clone())),
            Some(problem) => Err(RetryError::NotServing(problem.text.clone())),
        }
    }

    /// A quarantined rule is given another try, though its files have not changed, and so is one whose module took too much to be compiled.
    fn try_again(&mut self, rule: &str) {
        if let Some(known) = self.rules.get_mut(rule)
            && known.problem.as_ref().is_some_and(|problem| TOO_DEAR.contains(&problem.code))
        {
            self.scanner.forget_refusal(&known.wanted);
            known.again = true;
            known.tries = 0;
        }
        if let Some(known) = self.rules.get_mut(rule)
            && (known.stats.quarantined().is_some()
                || known.stats.quarantined_partitions() > 0
                || known.problem.as_ref().is_some_and(|problem| problem.code == QUARANTINED))
        {
            known.again = true;
            known.met = true;
            known.stands_in = None;
        }
    }

    /// A rule's file says that it is disabled. Until it is called no more, what is known of it is what it was.
    pub(super) fn switch_off(&mut self, name: &str, wanted: Wanted) {
        if !self.lets_go(name, "the rule was disabled") {
            return;
        }
        let Some(known) = self.rules.get_mut(name) else { return };
        known.begins(wanted);
        known.number = None;
        known.held = None;
        known.problem = None;
        known.stats.release(self.generation + 1);
        known.before = None;
        known.stands_in = None;
        if let Some(store) = &self.generations {
            store.rest(name);
        }
    }

    /// Has rules called no more whose files are gone. Gives the first that is called still: what holds a lane back holds the others too, and one that went
    /// would have lost its state should its file be put back with the first one's. So they wait for it.
    pub(super) fn let_all_go(&mut self, gone: impl IntoIterator<Item = String>) -> Option<String> {
        let why = REMOVED;
        let mut held: Option<String> = None;
        for name in gone {
            if let Some(first) = &held {
                let error = LoadError::Busy(format!("rule {first:?}, which goes before it, cannot go"));
                self.rules.get_mut(&name).into_iter().for_each(|known| known.stays(&name, why, &error));
            } else if self.lets_go(&name, why) {
                self.rules.remove(&name);
            } else {
                held = Some(name);
            }
        }
        held
    }

    /// Has a rule called no more, if it is; gives whether that is so. If not, it is tried again soon.
    pub(super) fn lets_go(&mut self, name: &str, why: &str) -> bool {
        let Some(known) = self.rules.get_mut(name) else { return true };
        if known.serving.is_none() {
            self.shadows.end(name, why);
            return true;
        }
        if let Err(error) = self.deploy.remove(name, why) {
            known.stays(name, why, &error);
            return false;
        }
        self.has_gone(name, why);
        true
    }

    /// A rule is called no more.
    pub(super) fn has_gone(&mut self, name: &str, why: &str) {
        if let Some(known) = self.rules.get_mut(name) {
            known.serving = None;
        }
        self.shadows.end(name, why);
        tracing::info!(rule = name, "{why}");
    }
}
