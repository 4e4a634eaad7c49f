//! A rule on a backtest: an instance of its own, and what it has saved, so that it goes on from there when it fails.

use std::sync::Arc;

use tidegate_engine::{Cells, Fault, Instance, LoadError, Rule};
use tidegate_model::{Books, StateBook};

use super::run::Stop;

/// A rule's instance, which can always be had again as it was before its last call.
pub(super) struct Rehearsed {
    pub rule: Arc<Rule>,
    pub instance: Instance,
    books: Arc<Books>,
    saved: StateBook,
}

impl Rehearsed {
    pub fn new(rule: Arc<Rule>, books: Arc<Books>) -> Result<Self, LoadError> {
        Ok(Self { instance: rule.rehearse(&books)?, rule, books, saved: StateBook::default() })
    }

    /// A new instance where the old one stood before it failed.
    pub fn revive(&mut self) -> Result<(), Stop> {
        let ended = |error: LoadError| Stop::Because(format!("after a fault it could not be started again: {error}"));
        self.instance = self.rule.rehearse(&self.books).map_err(ended)?;
        let version = &self.rule.module.description().version;
        self.instance.restore(version, &self.saved).map_err(ended)
    }

    /// A call has gone well: what came of it is kept.
    pub fn keep(&mut self) -> Result<(), Stop> {
        if self.instance.keeps_state() {
            let unsaved = |fault: Fault| Stop::Because(format!("its state cannot be saved: {fault}"));
            self.saved.take(self.instance.save(Cells::Changed).map_err(unsaved)?);
        }
        Ok(())
    }
}
