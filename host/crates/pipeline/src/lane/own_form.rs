//! The state of a rule as an instance of another version saves it. It is made beside the lane: to save the state of a hundred thousand series
//! takes some ten milliseconds.

use std::sync::Arc;

use tidegate_engine::{Cells, Instance, LoadError};
use tidegate_model::{Books, SavedState, StateBook};

/// What a successor of another version was given, in its own form.
pub(crate) struct OwnForm {
    pub form: Form,
    /// One more instance of that version, which has been given nothing: for the form of what changes next.
    pub scratch: Instance,
}

/// State in the form of another version.
#[derive(Debug)]
pub(crate) struct Form {
    pub state: StateBook,
    /// What a store has otherwise of the state that was given first: all of it, and what is gone.
    pub differs: SavedState,
    /// What has changed since then.
    pub since: StateBook,
}

impl Form {
    /// What is `saved` in that form after all that was `given`.
    pub fn of(given: &StateBook, saved: SavedState) -> Self {
        let mut state = StateBook::default();
        state.take(saved);
        Self { differs: given.succeeded_by(&state), state, since: StateBook::of_changes() }
    }

    pub fn take(&mut self, changed: SavedState) {
        self.state.take(changed.clone());
        self.since.take(changed);
    }
}

impl OwnForm {
    /// Of an instance that was `given` this.
    pub fn of(instance: &mut Instance, given: &StateBook, books: &Arc<Books>) -> Result<Self, LoadError> {
        let form = Form::of(given, instance.save(Cells::All)?);
        // Nobody hears of what it is given: the one that serves is given the same.
        let scratch = instance.rule().rehearse(books)?;
        Ok(Self { form, scratch })
    }

    /// Takes over what its instance was given then, of `version`.
    pub fn take(&mut self, changed: &StateBook, version: &str, books: &Arc<Books>) -> Result<(), LoadError> {
        let its = self.of_changes(changed, version);
        let its = its.ok_or_else(|| LoadError::State("it saves more than it was given".into()))?;
        self.form.take(its);
        self.scratch = self.scratch.rule().rehearse(books)?;
        Ok(())
    }

    /// What `changed` says in its form; none if that cannot be had, or tells of more than was given: then its state is not one of cells each by itself.
    pub fn of_changes(&mut self, changed: &StateBook, version: &str) -> Option<SavedState> {
        let mut its = SavedState::default();
        if changed.series().len() + changed.partitions().len() > 0 {
            self.scratch.restore(version, changed).ok()?;
            its = self.scratch.save(Cells::All).ok()?;
        }
        let known = its.series.iter().all(|(id, _)| changed.has_series(*id))
            && its.partitions.iter().all(|(id, _)| changed.has_partition(*id));
        // What it was given and does not save is gone, as what was gone before.
        its.removed_series = changed.gone_series().chain(changed.series().map(|(id, _)| id)).collect();
        its.removed_partitions = changed.gone_partitions().chain(changed.partitions().map(|(id, _)| id)).collect();
        known.then_some(its)
    }
}
