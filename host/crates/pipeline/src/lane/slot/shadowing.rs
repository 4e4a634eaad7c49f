//! A slot's shadow: given what the instance was given, once that has gone well; and put in its place when it is promoted.

use std::time::{Duration, Instant};

use tidegate_engine::{Believed, Cells, Fault, Instance, LoadError, Shadow};
use tidegate_model::{SavedState, StateBook};

use super::Slot;
use crate::lane::{Begins, Left, Start};

impl Slot {
    /// When the instance's call began, where somebody wants to know.
    pub(super) fn shadow_clock(&self) -> Option<Instant> {
        self.shadow.as_ref().map(|_| Instant::now())
    }

    /// The instance has made `outcome` of a call: the shadow, if there is one, is given the same with `call`.
    pub(super) fn shadow<T>(
        &mut self,
        began: Option<Instant>,
        outcome: &Result<T, Fault>,
        call: impl FnOnce(&mut Shadow, &T, Duration),
    ) {
        if let (Some(shadow), Some(began), Ok(made)) = (&mut self.shadow, began, outcome) {
            let took = began.elapsed();
            call(shadow, made, took);
        }
    }

    /// From now on `shadow` is given what the instance is given. If it has been given [`Self::copy`], it gets what changed since.
    pub fn shadow_with(&mut self, mut shadow: Box<Shadow>, has_copy: bool) -> Result<(), LoadError> {
        if has_copy {
            self.settle();
            let version = &self.rule.module.description().version;
            if let Some(changed) = self.last_saved.since_copy() {
                shadow.restore(version, changed)?;
            }
            self.last_saved.copied();
        }
        self.shadow = Some(shadow);
        Ok(())
    }

    /// There is no shadow any more; gives what is left of it.
    pub fn end_shadow(&mut self) -> Option<Box<Shadow>> {
        self.shadow.take()
    }

    /// The shadow takes the instance's place, with the state it has built. Where it has been stopped, `fresh` does, without state. Gives the
    /// alerts that stand by that state.
    pub fn promote(&mut self, fresh: Instance, now_us: i64) -> Result<(Believed, Left), LoadError> {
        let shadow = self.shadow.take().filter(|shadow| shadow.generation() == fresh.rule().generation);
        let (mut next, believed) = shadow.and_then(|shadow| shadow.into_serving()).unwrap_or_else(|| {
            let rule = &*self.rule.name;
            tracing::warn!(
                rule,
                "the shadow of a lane has failed at the last moment: the new generation begins there without state"
            );
            (fresh, Believed::default())
        });
        let mut state = StateBook::default();
        match next.save(Cells::All) {
            Ok(all) => state.take(all),
            Err(fault) => {
                tracing::warn!(
                    rule = &*self.rule.name,
                    "the state of the promoted shadow could not be saved: {fault}"
                )
            }
        }
        let begins = Begins::At(Box::new(Start { state, differs: SavedState::default() }));
        let left = self.succeed(next, begins, now_us)?;
        Ok((believed, left))
    }
}
