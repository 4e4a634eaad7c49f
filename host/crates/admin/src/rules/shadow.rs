//! Shadows of rules: a candidate is tried, run beside the rule, and made to serve by writing its file.

use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::{PromoteState, RuleState, ShadowOrder, ShadowStart, ShadowStatus};

use super::change::Change;
use super::{Condition, Desk, Outcome};
use crate::gate::Changed;
use crate::problem::Problem;

impl Desk {
    /// What the shadow of a rule has found. Does not block.
    pub fn shadow(&self, name: &str) -> Result<ShadowStatus, Problem> {
        self.rule(name)?;
        self.registry.shadow(name).ok_or_else(|| no_shadow(name))
    }

    /// Runs what `definition` says as the shadow of a rule, in the place of the one it has. Blocks.
    pub fn start_shadow(
        &self,
        name: &str,
        definition: &Value,
        state: ShadowStart,
        max_share_percent: u32,
        condition: &Condition,
    ) -> Result<(ShadowStatus, Changed), Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        if before.status.state != RuleState::Serving {
            return Err(Problem::conflict(
                "not_serving",
                "the rule does not serve, so there is nothing to compare with",
            ));
        }
        let below = |problem: Problem| problem.below("/definition");
        let read = RuleFile::from_json(definition, &format!("{name}.toml"));
        let (file, text) = read.map_err(|errors| below(errors.into()))?;
        let module = self.examine_candidate(name, &file).map_err(below)?.module.clone();
        let digest = module.sha256().to_string();
        let file = RuleFile { enabled: true, ..file };
        let order = ShadowOrder { file, text, module, state, max_share_percent };
        let before = self.registry.shadow(name).map(|shadow| shadow.sha256);
        self.registry.start_shadow(name, order)?;
        let changed = Changed { before, after: Some(digest) };
        self.shadow(name).map(|shadow| (shadow, changed))
    }

    /// Lets the shadow of a rule go. Blocks: who lets it serve meanwhile is done first.
    pub fn end_shadow(&self, name: &str, condition: &Condition) -> Result<Changed, Problem> {
        let _alone = self.begin()?;
        condition.check(Some(&self.rule(name)?))?;
        let before = self.registry.shadow(name).map(|shadow| shadow.sha256);
        if !self.registry.end_shadow(name) {
            return Err(no_shadow(name));
        }
        Ok(Changed { before, after: None })
    }

    /// Lets the shadow of a rule serve: its file is written, and it serves when this returns. Blocks.
    pub fn promote(&self, name: &str, state: PromoteState, condition: &Condition) -> Result<Outcome, Problem> {
        let _alone = self.begin()?;
        let before = self.known(name).ok_or_else(|| self.no_rule(name))?;
        condition.check(Some(&before))?;
        let ended = || {
            let why = self.registry.shadow(name).and_then(|shadow| shadow.totals.reason);
            why.map_or_else(
                || no_shadow(name),
                |why| Problem::conflict("shadow_ended", format!("the shadow does not run: {why}; start another")),
            )
        };
        let candidate = self.registry.candidate(name).ok_or_else(ended)?;
        // The file that it names may have been overwritten since.
        let module = self.examine(name, &candidate.file)?.module.clone();
        if **module.sha256() != *candidate.sha256 {
            let detail = format!(
                "{} is another module now than the one the shadow runs; start another",
                candidate.file.module
            );
            return Err(Problem::conflict("changed_since", detail));
        }
        if before.file.as_ref() == Some(&candidate.file)
            && before.status.sha256.as_deref() == Some(&*candidate.sha256)
        {
            return Err(Problem::conflict("serves_already", "the rule is what its shadow is"));
        }
        let generation = match state {
            PromoteState::Own => Some(self.registry.shadow(name).ok_or_else(ended)?.generation),
            PromoteState::TakenOver => None,
        };
        self.registry.promote_with(name, Some(state));
        let (file, text) = (&candidate.file, Some(&*candidate.text));
        let promoted =
            self.apply(name, Change { file, text, module: None, manifest: None, generation }, Some(before));
        // What comes to nothing must not be remembered: a later change is no promotion.
        self.registry.promote_with(name, None);
        promoted
    }
}

fn no_shadow(name: &str) -> Problem {
    Problem::missing(format!("rule {name:?} has no shadow; POST /api/v1/rules/{name}/shadow starts one"))
}
