//! Shadows onto lanes: each rule's beside it, and in its place when it is promoted.

use std::sync::Arc;

use tidegate_engine::{LoadError, Rule, Shadow, ShadowReport, ShadowStart, ShadowState};

use super::LaneDeploy;
use crate::deploy::orders::{Orders, tell_all};
use crate::deploy::placement::Placement;
use crate::lane::{Control, Copied, LaneKind};

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

    /// Each lane's shadow takes over there, with what it has.
    pub(super) fn let_shadow_serve(&self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.all_at_hand()?;
        let lanes = self.lanes_of(rule);
        let ready = lanes.iter().map(|_| rule.instantiate(&self.around.books));
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        rule.stats.release(rule.generation);
        for (lane, fresh) in lanes.iter().zip(ready) {
            let told = lane.tell(|reply| Control::Promote { fresh: Box::new(fresh), reply });
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
