//! State that is to be forgotten: an instance is given what is left of it, beside the lane as a successor is, and takes the place of the one that knows more.

use std::sync::Arc;

use fail::fail_point;
use tidegate_engine::LoadError;
use tidegate_model::{SavedState, StateBook};

use super::LaneDeploy;
use crate::deploy::orders::Orders;
use crate::lane::{Control, Copied, Forgot, Remade, Remainder, Reset};

impl LaneDeploy {
    /// What goes on in the place of a rule that serves on a lane; none if it does not.
    pub(crate) fn remade(&self, lane: &Orders, rule: &Arc<str>, of: Reset) -> Result<Option<Remade>, LoadError> {
        let books = &self.around.books;
        let Some(Copied { rule: serving, state, awaits }) =
            lane.tell(|reply| Control::Copy { rule: rule.clone(), reply }).answer()?
        else {
            return Ok(None);
        };
        let mut rest = Remainder::new(of, &state, books);
        drop(state);
        // What was not saved yet may be all there is of it.
        self.in_rounds(lane, rule, |changed| {
            rest.take(changed.into_saved());
            Ok(())
        })??;
        if rest.cells_gone() == 0 && of != Reset::Everything {
            return Ok(Some(Remade { of, next: None, _awaits: awaits }));
        }
        let version = &serving.module.description().version;
        let mut next = serving.instantiate(books)?;
        next.restore(version, &rest.state)?;
        let given = self.in_rounds(lane, rule, |changed| {
            let left = rest.take(changed.into_saved());
            next.restore(version, &as_changes(left))
        })?;
        if let Err(why) = given {
            // What it takes as a whole it may not take in parts.
            tracing::debug!(rule = &**rule, "it is given the whole state again: {why}");
            next = serving.instantiate(books)?;
            next.restore(version, &rest.state)?;
        }
        Ok(Some(Remade { of, next: Some((next, rest)), _awaits: awaits }))
    }

    /// Lets a lane go on with what is remade; none if the rule does not serve there any more.
    pub(crate) fn forget(&self, lane: &Orders, rule: &Arc<str>, remade: Remade) -> Result<Option<Forgot>, LoadError> {
        fail_point!("reset-last");
        let remade = Box::new(remade);
        let told = lane.tell(|reply| Control::Reset { rule: rule.clone(), remade, reply });
        told.answer()?.transpose()
    }
}

/// A book of what `saved` says has changed.
pub(crate) fn as_changes(saved: SavedState) -> StateBook {
    let mut changes = StateBook::of_changes();
    changes.take(saved);
    changes
}
