//! The shadows of rules, as the registry knows them: one a rule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_config::RuleFile;

use crate::load_error::LoadError;
use crate::module::Module;
use crate::registry::Registry;
use crate::rule::Rule;
use crate::shadow::{ShadowReport, ShadowState, ShadowTotals};

/// With which state a shadow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowStart {
    /// A copy of what the serving one has.
    Copied,
    /// None.
    Empty,
}

/// With which state a shadow goes on when it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromoteState {
    /// What it has built.
    Own,
    /// What the one it follows has, as with every change of a rule.
    TakenOver,
}

/// What is to be a shadow.
#[derive(Debug)]
pub struct ShadowOrder {
    /// What its rule's file would say.
    pub file: RuleFile,
    /// The text of that file.
    pub text: String,
    /// Its module.
    pub module: Arc<Module>,
    /// With which state it begins.
    pub state: ShadowStart,
    /// The most it may cost a lane: percent of its time, 1 to 100.
    pub max_share_percent: u32,
}

/// What a rule would be if its shadow served.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its file.
    pub file: RuleFile,
    /// The text of that file.
    pub text: String,
    /// Its module's digest.
    pub sha256: String,
}

/// A shadow, and what it has found.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// The number that it will have if it serves with its own state.
    pub generation: u64,
    /// The generation that it is compared with.
    pub serving_generation: u64,
    /// Its module's digest.
    pub sha256: String,
    /// Its rule's file.
    pub file: RuleFile,
    /// What it has found.
    #[serde(flatten)]
    pub totals: ShadowTotals,
}

impl ShadowStatus {
    /// Without the rows and alerts in which they differ, which tell what was measured.
    #[must_use]
    pub fn in_short(self) -> Self {
        Self { totals: self.totals.in_short(), ..self }
    }
}

/// All of them, by rule.
#[derive(Debug, Default)]
pub(super) struct Shadows(Mutex<BTreeMap<String, Shadowed>>);

#[derive(Debug)]
struct Shadowed {
    rule: Arc<Rule>,
    serving: u64,
    candidate: Candidate,
    report: Arc<ShadowReport>,
    promote: Option<PromoteState>,
}

impl Shadows {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Shadowed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self, rule: &str) -> Option<ShadowStatus> {
        self.all().get(rule).map(|shadow| ShadowStatus {
            generation: shadow.rule.generation,
            serving_generation: shadow.serving,
            sha256: shadow.candidate.sha256.clone(),
            file: shadow.candidate.file.clone(),
            totals: shadow.report.totals(),
        })
    }

    /// Those of all rules, without the rows and alerts in which they differ.
    pub fn totals(&self) -> BTreeMap<String, ShadowTotals> {
        self.all().iter().map(|(rule, shadow)| (rule.clone(), shadow.report.totals().in_short())).collect()
    }

    pub fn candidate(&self, rule: &str) -> Option<Candidate> {
        let all = self.all();
        all.get(rule).filter(|shadow| !shadow.report.has_ended()).map(|shadow| shadow.candidate.clone())
    }

    pub fn promote_with(&self, rule: &str, state: Option<PromoteState>) {
        if let Some(shadow) = self.all().get_mut(rule) {
            shadow.promote = state;
        }
    }

    /// What it was compared with is not there any more, and the lanes have let go of it with that; what it found can be read still.
    pub fn end(&self, rule: &str, why: &str) {
        if let Some(shadow) = self.all().get_mut(rule) {
            shadow.promote = None;
            shadow.report.end(ShadowState::Ended, why);
        }
    }
}

impl Registry {
    pub(super) fn start_shadow(&mut self, name: &str, order: ShadowOrder) -> Result<(), LoadError> {
        let refused = |why: &str| Err(LoadError::Unsupported(format!("a shadow of rule {name:?} cannot run: {why}")));
        let Some(serving) = self.rules.get(name).and_then(|known| known.serving.clone()) else {
            return refused("the rule does not serve, so there is nothing to compare with");
        };
        if serving.stats.is_quarantined(serving.generation) {
            return refused("the rule is quarantined, so there is nothing to compare with");
        }
        self.generation += 1;
        let ShadowOrder { file, text, module, state, max_share_percent } = order;
        let sha256 = module.sha256().to_string();
        let rule = Rule::of_file(name, &file, module, serving.stats.clone(), self.generation)?;
        if rule.kind() != serving.kind() {
            return refused("one of the two is a decoder and the other is not");
        }
        if rule.filters != serving.filters {
            return refused("its topics are others than those of the rule; it is given what the rule is given");
        }
        let (rule, report) = (Arc::new(rule), Arc::new(ShadowReport::new(max_share_percent)));
        // Only now: what runs goes on if the other cannot be one at all.
        self.deploy.end_shadow(name)?;
        self.shadows.end(name, "another was to take its place");
        self.deploy.shadow(&rule, &report, state)?;
        tracing::info!(rule = name, generation = rule.generation, sha256, "a shadow runs beside the rule");
        let candidate = Candidate { file, text, sha256 };
        let shadowed = Shadowed { rule, serving: serving.generation, candidate, report, promote: None };
        self.shadows.all().insert(name.to_owned(), shadowed);
        Ok(())
    }

    pub(super) fn end_shadow(&mut self, name: &str) -> bool {
        let Some(shadow) = self.shadows.all().remove(name) else { return false };
        shadow.report.end(ShadowState::Ended, "it was stopped");
        if let Err(error) = self.deploy.end_shadow(name) {
            tracing::debug!(rule = name, "the shadow is called no more, and its memory given back later: {error}");
        }
        tracing::info!(rule = name, "the shadow was stopped");
        true
    }

    /// Lets a shadow serve, if what vouches for its module does so still.
    pub(super) fn promote(&mut self, rule: Arc<Rule>, manifest: Option<&[u8]>) -> Result<Arc<Rule>, LoadError> {
        self.scanner.trust().check(rule.module.sha256(), manifest)?;
        self.deploy.promote(&rule)?;
        Ok(Arc::new(Rule { signature_expires: self.scanner.trust().expires(manifest), ..Rule::clone(&rule) }))
    }

    /// The shadow that is to serve with its own state, if that is what the rule's files say now and it runs on some lane still.
    pub(super) fn promoted(&mut self, name: &str, file: &RuleFile) -> Option<Arc<Rule>> {
        let digest = self.rules.get(name)?.wanted.digest.clone().ok()?;
        let mut all = self.shadows.all();
        let shadow = all.get_mut(name)?;
        let own = shadow.promote.take() == Some(PromoteState::Own);
        let same = shadow.candidate.file == *file && shadow.candidate.sha256 == digest;
        (own && same && !shadow.report.has_ended() && shadow.report.lanes() > 0).then(|| shadow.rule.clone())
    }
}
