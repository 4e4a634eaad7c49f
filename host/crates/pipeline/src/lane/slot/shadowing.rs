//! A slot's shadow: given what the instance was given, once that has gone well; and put in its place when it is promoted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_engine::{Believed, Cells, Fault, Instance, LoadError, Shadow, ShadowReport};
use tidegate_model::{SavedState, StateBook};

use super::Slot;
use crate::lane::own_form::Form;
use crate::lane::replay_log::{Given, ReplayLog};
use crate::lane::{Awaits, Begins, Left, Start};

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
        // One that was lent comes back.
        if let Some(lent) = self.lent.take().filter(|lent| lent.generation == shadow.generation()) {
            lent.missed.give_to(&mut shadow);
        }
        self.shadow = Some(shadow);
        Ok(())
    }

    /// There is no shadow any more; gives what is left of it.
    pub fn end_shadow(&mut self) -> Option<Box<Shadow>> {
        self.lent = None;
        self.shadow.take()
    }

    /// Lends the shadow of that generation, if there is one, to be made ready to serve beside the lane.
    pub fn lend_shadow(&mut self, generation: u64) -> Option<Box<Shadow>> {
        let shadow = self.shadow.take_if(|shadow| shadow.generation() == generation)?;
        self.lent = Some(Lent { generation, missed: ReplayLog::default(), report: shadow.report().clone() });
        Some(shadow)
    }

    /// What the shadow that is lent has missed until now.
    pub fn missed(&mut self) -> ReplayLog {
        self.lent.as_mut().map(|lent| std::mem::take(&mut lent.missed)).unwrap_or_default()
    }

    /// Nobody has taken that.
    pub fn missed_still(&mut self, missed: ReplayLog) {
        if let Some(lent) = &mut self.lent {
            lent.missed = missed;
        }
    }

    /// The shadow takes the instance's place, with the state it has built. Where it has been stopped, `fresh` does, without state. Gives the
    /// alerts that stand by that state.
    pub fn promote(
        &mut self,
        fresh: Instance,
        ready: Option<ReadyShadow>,
        now_us: i64,
    ) -> Result<(Believed, Left), LoadError> {
        let lent = self.lent.take();
        let promoted = ready.and_then(|ReadyShadow { mut shadow, form, lives, .. }| {
            if let Some(lent) = lent {
                lent.missed.give_to(&mut shadow);
            }
            let rest = shadow.save(Cells::Changed);
            // One that has begun anew meanwhile has nothing of that.
            let own =
                rest.filter(|_| shadow.lives() == lives).map(|rest| Begins::AsItsShadow(Box::new((form, rest))));
            shadow.into_serving().map(|(next, believed)| (next, believed, own))
        });
        let (mut next, believed, own) = promoted.unwrap_or_else(|| {
            let rule = &*self.rule.name;
            tracing::warn!(
                rule,
                "the shadow of a lane has failed at the last moment: the new generation begins there without state"
            );
            (fresh, Believed::default(), None)
        });
        let begins = own.unwrap_or_else(|| {
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
            Begins::At(Box::new(Start { state, differs: SavedState::default() }))
        });
        let left = self.succeed(next, begins, now_us)?;
        Ok((believed, left))
    }
}

/// A shadow that is about to serve, beside its lane.
pub(crate) struct ReadyShadow {
    shadow: Box<Shadow>,
    /// Its state, for who follows it.
    form: Form,
    /// See [`Shadow::lives`]: when that was its state.
    lives: u32,
    /// What the one that serves saves meanwhile is gathered while this is held.
    _awaits: Arc<Awaits>,
}

impl ReadyShadow {
    /// `copy` is the state of the one that serves.
    pub fn new(mut shadow: Box<Shadow>, copy: &StateBook, awaits: Arc<Awaits>) -> Self {
        let saved = shadow.save(Cells::All).unwrap_or_else(|| {
            let generation = shadow.generation();
            tracing::warn!(generation, "the state of the promoted shadow could not be saved: it begins without");
            SavedState::default()
        });
        Self { form: Form::of(copy, saved), lives: shadow.lives(), shadow, _awaits: awaits }
    }

    /// It is given what it has missed.
    pub fn catch_up(&mut self, missed: &ReplayLog) {
        missed.give_to(&mut self.shadow);
        if let Some(changed) = self.shadow.save(Cells::Changed) {
            self.form.take(changed);
        }
    }

    /// It is not to serve.
    pub fn into_shadow(self) -> Box<Shadow> {
        self.shadow
    }
}

/// What a shadow misses that is made ready to serve.
pub(super) struct Lent {
    generation: u64,
    missed: ReplayLog,
    report: Arc<ShadowReport>,
}

impl Lent {
    /// What finds no room passes it by, as if it had used up its share.
    pub fn miss(&mut self, now_us: i64, given: &Given) {
        if self.missed.is_full() {
            self.report.skipped(given.rows());
        } else {
            self.missed.note(now_us, given.clone());
        }
    }
}
