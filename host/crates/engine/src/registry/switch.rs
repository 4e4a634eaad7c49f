//! Rules switched on, off and on again, and taken away: what is to be called no more is, or stays what it was while a lane is held back.

use crate::registry::Registry;
use crate::registry::handle::SwitchError;
use crate::registry::scan::Wanted;
use crate::registry::status::QUARANTINED;

impl Registry {
    /// Writes into a rule's file whether it is enabled, and sees to it.
    pub(super) fn set_enabled(&mut self, rule: &str, enabled: bool) -> Result<(), SwitchError> {
        let nowhere = || SwitchError::Refused(format!("there is no rule {rule:?} in the rules directory"));
        let module = self.rules.get(rule).ok_or_else(nowhere)?.wanted.module.clone();
        self.scanner.write_enabled(rule, &module, enabled).map_err(SwitchError::Refused)?;
        if enabled {
            self.try_again(rule);
        }
        self.read();
        let Some(known) = self.rules.get(rule) else { return Ok(()) };
        match (&known.problem, &known.held) {
            (Some(problem), _) if enabled => Err(SwitchError::Refused(problem.text.clone())),
            (_, Some(held)) if !enabled => {
                let text = held.text.clone();
                // As if nothing had been asked.
                self.scanner.write_enabled(rule, &module, true).map_err(SwitchError::Refused)?;
                self.read();
                Err(SwitchError::Held(text))
            }
            _ => Ok(()),
        }
    }

    /// Gives a rule that is called no more another try.
    pub(super) fn retry(&mut self, rule: &str) -> Result<(), String> {
        if !self.rules.contains_key(rule) {
            return Err(format!("there is no rule {rule:?} in the rules directory"));
        }
        self.try_again(rule);
        self.read();
        self.rules
            .get(rule)
            .and_then(|known| known.problem.as_ref())
            .map_or(Ok(()), |problem| Err(problem.text.clone()))
    }

    /// A quarantined rule is given another try, though its files have not changed.
    fn try_again(&mut self, rule: &str) {
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
        known.wanted = wanted;
        known.again = false;
        known.held = None;
        known.problem = None;
        known.stats.release(self.generation + 1);
        known.before = None;
        known.stands_in = None;
        if let Some(store) = &self.generations {
            store.rest(name);
        }
    }

    /// Has a rule called no more, if it is; gives whether that is so. If not, it is tried again soon.
    pub(super) fn lets_go(&mut self, name: &str, why: &str) -> bool {
        let Some(known) = self.rules.get_mut(name) else { return true };
        if known.serving.is_some() {
            if let Err(error) = self.deploy.remove(name, why) {
                known.stays(name, why, &error);
                return false;
            }
            known.serving = None;
            tracing::info!(rule = name, "{why}");
        }
        self.shadows.end(name, why);
        true
    }
}
