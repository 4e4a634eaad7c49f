//! Shadows onto lanes: each rule's beside it, and in its place when it is promoted.

use std::sync::Arc;

use fail::fail_point;
use tidegate_engine::{LoadError, Rule, Shadow, ShadowReport, ShadowStart, ShadowState};

use super::LaneDeploy;
use crate::deploy::catching_up::{LITTLE, MOST_ROUNDS};
use crate::deploy::orders::{Held, Orders, Told, tell_all};
use crate::deploy::placement::Placement;
use crate::lane::{Control, Copied, LaneKind, ReadyShadow};

impl LaneDeploy {
    /// Makes a shadow for each lane, with a copy of the state of what serves if it is to have one. If one of them cannot be, none is.
    pub(super) fn begin_shadow(
        &self,
        rule: &Arc<Rule>,
        report: &Arc<ShadowReport>,
        state: ShadowStart,
    ) -> Result<(), LoadError> {
        if self.placement.elsewhere(rule).is_some() {
            let why = "its state belongs to something else (`scope`) than that of the rule which serves, so it would see other rows: install it under a name of its own";
            return Err(LoadError::Unsupported(why.into()));
        }
        self.all_at_hand()?;
        let begun = self.lanes_of(rule).iter().try_for_each(|lane| self.shadow_on(lane, rule, report, state));
        if let Err(error) = &begun {
            // Lanes that have it let go of it for that, whether they can be told or not.
            report.end(ShadowState::Ended, &error.to_string());
            let _ = self.let_shadow_go(&rule.name);
        }
        begun
    }

    pub(super) fn let_shadow_go(&self, rule: &str) -> Result<(), LoadError> {
        self.all_at_hand()?;
        for lanes in [&self.lanes[..], &self.node[..]] {
            tell_all(lanes, |reply| Control::EndShadow { rule: rule.into(), reply })?;
        }
        Ok(())
    }

    /// Each lane's shadow takes over there, with what it has: its state is saved beside the lane, and it is given what it misses meanwhile.
    pub(super) fn let_shadow_serve(&self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.all_at_hand()?;
        let lanes = self.lanes_of(rule);
        let fresh = lanes.iter().map(|_| rule.instantiate(&self.around.books));
        let fresh = fresh.collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::new();
        for lane in lanes {
            match self.shadow_made_ready(lane, rule) {
                Ok(ready) => all.push(ready),
                Err(error) => {
                    lanes.iter().zip(all).for_each(|(lane, ready)| give_back(lane, &rule.name, ready));
                    return Err(error);
                }
            }
        }
        rule.stats.release(rule.generation);
        for ((lane, fresh), mut ready) in lanes.iter().zip(fresh).zip(all) {
            if let Some(ready) = &mut ready {
                // What a lane that is held back just now does not say it gives the shadow itself.
                let _ = brought_close(lane, &rule.name, ready);
            }
            fail_point!("promote-last");
            let (fresh, ready) = (Box::new(fresh), ready.map(Box::new));
            let told = lane.tell(|reply| Control::Promote { fresh, ready, reply });
            // It cannot be refused where the rule serves, as it does on each of its lanes: a shadow has its own state, and what is made in the place of
            // one begins without.
            told.or_later(Ok(()))??;
        }
        self.placement.enter(rule);
        if Placement::of(rule) == LaneKind::Node {
            self.tell_what_is_handed_over("")?;
        }
        Ok(())
    }

    /// A lane's shadow, close to serving; none if it has none any more.
    fn shadow_made_ready(&self, lane: &Orders, rule: &Rule) -> Result<Option<ReadyShadow>, LoadError> {
        let copied = lane.tell(|reply| Control::Copy { rule: rule.name.clone(), reply }).answer()?;
        let generation = rule.generation;
        let lent = lane.tell(|reply| Control::LendShadow { rule: rule.name.clone(), generation, reply }).answer()?;
        let (Some(Copied { state, awaits, .. }), Some(shadow)) = (copied, lent) else { return Ok(None) };
        let mut ready = ReadyShadow::new(shadow, &state, awaits);
        drop(state);
        match brought_close(lane, &rule.name, &mut ready) {
            Ok(()) => Ok(Some(ready)),
            Err(held) => {
                give_back(lane, &rule.name, Some(ready));
                Err(held.into())
            }
        }
    }

    fn shadow_on(
        &self,
        lane: &Orders,
        rule: &Arc<Rule>,
        report: &Arc<ShadowReport>,
        state: ShadowStart,
    ) -> Result<(), LoadError> {
        let mut shadow = Box::new(Shadow::new(rule, &self.around.books, report)?);
        let has_copy = state == ShadowStart::Copied;
        let mut _until_then = None;
        if has_copy {
            let copied = lane.tell(|reply| Control::Copy { rule: rule.name.clone(), reply }).answer()?;
            if let Some(Copied { rule, state, awaits }) = copied {
                _until_then = Some(awaits);
                shadow.restore(&rule.module.description().version, &state)?;
            }
        }
        lane.tell(|reply| Control::Shadow { shadow, rule: rule.name.clone(), has_copy, reply }).answer()?
    }
}

/// Gives a shadow that was lent what it has missed, until that is little.
fn brought_close(lane: &Orders, rule: &Arc<str>, ready: &mut ReadyShadow) -> Result<(), Held> {
    for _ in 0..MOST_ROUNDS {
        fail_point!("promote-round");
        let missed = lane.tell(|reply| Control::Missed { rule: rule.clone(), reply }).answer()?;
        ready.catch_up(&missed);
        if missed.rows() <= LITTLE {
            break;
        }
    }
    Ok(())
}

/// A shadow that was lent runs on where it was.
fn give_back(lane: &Orders, rule: &Arc<str>, ready: Option<ReadyShadow>) {
    let Some(shadow) = ready.map(ReadyShadow::into_shadow) else { return };
    let report = shadow.report().clone();
    let (rule, has_copy) = (rule.clone(), false);
    if matches!(lane.tell(|reply| Control::Shadow { shadow, rule, has_copy, reply }), Told::Not) {
        report.end(ShadowState::Ended, "a lane that a sink holds back did not take it back");
    }
}
