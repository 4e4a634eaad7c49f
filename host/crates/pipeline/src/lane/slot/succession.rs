//! What becomes of a rule's state on a lane beside its calls: it goes to a successor, to the store, or is forgotten.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::{Cells, Instance, LoadError};
use tidegate_model::{SavedState, StateBook, StateChange};

use super::Slot;
use crate::deploy::as_changes;
use crate::lane::last_saved::LastSaved;
use crate::lane::replay_log::ReplayLog;
use crate::lane::{Begins, Changed, Copied, Left, OwnForm, Remainder, Spent};

/// What of its state a successor of another version has yet to be told of.
enum Rest {
    /// This, in its own form.
    InItsForm(SavedState),
    /// All of it, if it has a form of its own.
    Whole(Option<StateBook>),
}

impl Slot {
    /// Its state for a successor, as it was last saved; what is saved from now on is gathered for [`Self::succeed`].
    pub fn copy(&mut self) -> Copied {
        let (state, awaits) = self.last_saved.copy();
        Copied { rule: self.rule.clone(), state, awaits }
    }

    /// What was saved since [`Self::copy`], or since this was last asked for, and has changed until now; none if that copy is no longer a part of
    /// what there is.
    pub fn changed(&mut self) -> Option<Changed> {
        let mut spent = ReplayLog::default();
        self.save_for(&mut spent);
        self.last_saved.changed().map(|changes| Changed { changes, _spent: spent })
    }

    /// Puts `next` in this slot's place, at `begins`; gives what is left of the one before it.
    ///
    /// # Errors
    /// It does not take the state that there is. This one serves on, and has lost nothing.
    pub fn succeed(&mut self, next: Instance, begins: Begins, now_us: i64) -> Result<Left, LoadError> {
        let mut spare = (None, None);
        let (next, kept) = match begins {
            Begins::At(start) | Begins::Afresh(start, _) => (next, self.kept(Some(start.state))),
            Begins::WhereTheLastStands => {
                self.settle();
                let (next, own) = self.brought_up(next)?;
                (next, self.kept(own))
            }
            Begins::InItsOwnForm(form) => {
                self.settle();
                let mut form = *form;
                match self.rest_in_its_form(next, &mut form)? {
                    (next, Rest::InItsForm(rest)) => {
                        let OwnForm { form, scratch } = form;
                        let (kept, untold) = self.last_saved.in_another_form(form, rest);
                        spare = (Some(scratch), untold);
                        (next, kept)
                    }
                    (next, Rest::Whole(own)) => (next, self.kept(own)),
                }
            }
            Begins::AsItsShadow(own) => {
                let (mut form, mut rest) = *own;
                match self.last_saved.since_copy() {
                    Some(changed) => {
                        // What this one has saved since, and the shadow knows nothing of.
                        let series = changed.series().map(|(id, _)| id).filter(|id| !form.state.has_series(*id));
                        rest.removed_series.extend(series);
                        let partitions = changed.partitions().map(|(id, _)| id);
                        rest.removed_partitions.extend(partitions.filter(|id| !form.state.has_partition(*id)));
                        let (kept, untold) = self.last_saved.in_another_form(form, rest);
                        spare.1 = untold;
                        (next, kept)
                    }
                    None => {
                        form.state.take(rest);
                        (next, self.kept(Some(form.state)))
                    }
                }
            }
        };
        let mut new = Self::new(next, kept, self.books.clone(), now_us);
        // What the last one waited for is in its state, and no message may come to remind this one of it.
        match self.instance {
            Some(_) => new.plan(now_us, false, self.due_us),
            None => new.wake_for_its_state(now_us),
        }
        Ok(Some(Box::new((std::mem::replace(self, new), spare.0, spare.1))))
    }

    /// What is kept of the state for a successor: as it is, or its `own`.
    fn kept(&mut self, own: Option<StateBook>) -> LastSaved {
        match own {
            Some(own) => self.last_saved.becomes(own),
            None => self.last_saved.copied(),
        }
        std::mem::replace(&mut self.last_saved, LastSaved::new(StateBook::default(), None))
    }

    /// Gives `next`, which is of another version, what changed since it was given that last; and tells it in its `form`. Where that cannot be told
    /// so, it is the whole state.
    fn rest_in_its_form(&mut self, mut next: Instance, form: &mut OwnForm) -> Result<(Instance, Rest), LoadError> {
        let version = &self.rule.module.description().version;
        let rest = self.last_saved.since_copy().and_then(|changed| {
            next.restore(version, changed).ok()?;
            form.of_changes(changed, version)
        });
        match rest {
            Some(rest) => Ok((next, Rest::InItsForm(rest))),
            None => self.brought_up(next).map(|(next, own)| (next, Rest::Whole(own))),
        }
    }

    /// Goes on with `next`, which was given what is left of its state, and forgets what is not; gives how many cells that were, and what knew them.
    ///
    /// # Errors
    /// It does not take the rest of its state. Nothing is changed then.
    pub fn reset(&mut self, mut next: Instance, mut rest: Remainder) -> Result<(usize, Spent), LoadError> {
        self.settle();
        let version = &self.rule.module.description().version;
        let taken = match self.last_saved.changed() {
            Some(changes) => next.restore(version, &as_changes(rest.take(changes.into_book().into_saved()))).is_ok(),
            None => {
                // The copy that it was made of is no longer what there is.
                rest = rest.of_another(self.last_saved.whole());
                false
            }
        };
        if !taken {
            next = self.rule.instantiate(&self.books)?;
            next.restore(version, &rest.state)?;
        }
        let cells = rest.cells_gone();
        let before = self.last_saved.forget(std::mem::take(&mut rest.state), std::mem::take(&mut rest.gone));
        self.replay_log.clear();
        let spent = match self.instance {
            Some(_) => self.instance.replace(next),
            None => Some(next),
        };
        self.note_size();
        Ok((cells, Box::new((spent, before, rest))))
    }

    /// What the store has not been told of its state.
    pub fn unstored(&mut self) -> impl Iterator<Item = StateChange> {
        let (rule, version) = (&self.rule.name, &self.rule.module.description().version);
        let told = |cells| StateChange::Saved { rule: rule.clone(), version: version.clone(), cells };
        self.last_saved.unstored().map(told)
    }

    /// The store has lost what it was told of its state.
    pub fn store_all(&mut self) {
        self.last_saved.store_all();
    }

    /// Saves all there is, for who comes after it.
    pub(super) fn settle(&mut self) {
        self.touched = true;
        self.save();
        if self.touched {
            // It failed while it was saved, and the one in its place stands where it stood.
            self.save();
        }
        if self.replay_log.len() > 0 {
            self.rule.stats.state_lost.fetch_add(1, Relaxed);
            tracing::warn!(
                rule = &*self.rule.name,
                "it could not be saved for its successor, which begins where it was last saved"
            );
        }
    }

    /// `next`, which has been given the [`Self::copy`] and what [`Self::changed`] gave, with what changed since; and its state in its own form, if that is another.
    fn brought_up(&mut self, mut next: Instance) -> Result<(Instance, Option<StateBook>), LoadError> {
        let version = &self.rule.module.description().version;
        match self.last_saved.since_copy() {
            Some(changed) => {
                if let Err(error) = next.restore(version, changed) {
                    // What it takes as a whole it may not take as a difference.
                    tracing::debug!(rule = &*self.rule.name, "it is given the whole state again: {error}");
                    next = next.rule().instantiate(&self.books)?;
                    next.restore(version, self.last_saved.whole())?;
                }
            }
            None => {
                // The copy it was given is no longer what there is: what was reset meanwhile must not come back with it.
                next = next.rule().instantiate(&self.books)?;
                next.restore(version, self.last_saved.whole())?;
            }
        }
        if next.rule().module.description().version == *version {
            return Ok((next, None));
        }
        // From now on it is the new one's own, in its own form.
        let mut own = StateBook::default();
        own.take(next.save(Cells::All)?);
        Ok((next, Some(own)))
    }
}
