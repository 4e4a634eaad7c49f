//! What changes while a successor is made ready, given to it in rounds: each takes as long as what changed in the one before, so that little is left
//! for the lane to stand still for.

use std::sync::Arc;

use fail::fail_point;
use tidegate_engine::{Instance, LoadError};
use tidegate_model::StateBook;

use super::{LaneDeploy, Ready};
use crate::deploy::orders::Orders;
use crate::lane::{Begins, Changed, Control, Copied, OwnForm};

/// How many cells may have changed between two questions what did, for the successor to take over: so many more are saved and given in some 0.5 ms.
pub(super) const LITTLE: usize = 500;
/// How often a lane is asked that. Where cells change as fast as a successor takes them they never become few.
pub(super) const MOST_ROUNDS: usize = 4;

impl LaneDeploy {
    /// Gives an instance what has changed since its copy of the state was made, until little is left.
    pub(super) fn brought_close(&self, lane: &Orders, ready: Ready) -> Result<Ready, LoadError> {
        let Ready { mut instance, begins: Begins::WhereTheLastStands, before: Some(old), given, mut awaits } = ready
        else {
            return Ok(ready);
        };
        let version = &old.module.description().version;
        let name = &instance.rule().name.clone();
        // First: that takes longest, and holds the copy.
        let mut form = given.map(|given| self.own_form(&mut instance, &given)).transpose()?;
        let given = self.in_rounds(lane, name, |changed| self.taken(&mut instance, &mut form, version, &changed))?;
        if let Err(why) = given {
            // What it takes as a whole it may not take in parts; the lane sees to the rest.
            tracing::debug!(rule = &**name, "it is given the whole state again: {why}");
            instance = instance.rule().instantiate(&self.around.books)?;
            let copied = lane.tell(|reply| Control::Copy { rule: name.clone(), reply }).answer()?;
            if let Some(Copied { rule: old, state, awaits: again }) = copied {
                awaits = Some(again);
                instance.restore(&old.module.description().version, &state).map_err(LoadError::of_old_state)?;
                form = form.map(|_| self.own_form(&mut instance, &state)).transpose()?;
            }
        }
        let begins = form.map_or(Begins::WhereTheLastStands, |form| Begins::InItsOwnForm(Box::new(form)));
        Ok(Ready { instance, begins, before: Some(old), given: None, awaits })
    }

    /// Gives `take` what has changed on a lane since its copy of the state was made, until that is little, or it refuses: then that is the inner result.
    pub(super) fn in_rounds(
        &self,
        lane: &Orders,
        rule: &Arc<str>,
        mut take: impl FnMut(StateBook) -> Result<(), LoadError>,
    ) -> Result<Result<(), LoadError>, LoadError> {
        for _ in 0..MOST_ROUNDS {
            fail_point!("swap-round");
            let changed = lane.tell(|reply| Control::Changed { rule: rule.clone(), reply }).answer()?;
            // Where the copy is not a part of what there is any more, the lane sees to the whole.
            let Some(Changed { changes, .. }) = changed else { break };
            let changed = changes.into_book();
            let little = changed.len() <= LITTLE;
            if let Err(why) = take(changed) {
                return Ok(Err(why));
            }
            if little {
                break;
            }
        }
        Ok(Ok(()))
    }

    fn own_form(&self, instance: &mut Instance, given: &StateBook) -> Result<OwnForm, LoadError> {
        OwnForm::of(instance, given, &self.around.books)
    }

    /// Both an instance and its own form take over what has `changed`.
    fn taken(
        &self,
        instance: &mut Instance,
        form: &mut Option<OwnForm>,
        version: &str,
        changed: &StateBook,
    ) -> Result<(), LoadError> {
        instance.restore(version, changed)?;
        form.as_mut().map_or(Ok(()), |form| form.take(changed, version, &self.around.books))
    }
}
