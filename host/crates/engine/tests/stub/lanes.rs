//! Lanes of which a test says what they do with a rule that is to serve; to all else they agree.

use std::sync::Arc;

use tidegate_engine::{Deploy, LoadError, Rule, ShadowReport, ShadowStart};

pub struct StubLanes<F>(pub F);

impl<F: FnMut(&Arc<Rule>) -> Result<(), LoadError> + Send> Deploy for StubLanes<F> {
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.0(rule)
    }

    fn rename(&mut self, rule: &Arc<Rule>, _gone: &str, _reason: &str) -> Result<(), LoadError> {
        self.0(rule)
    }

    fn remove(&mut self, _rule: &str, _reason: &str) -> Result<(), LoadError> {
        Ok(())
    }

    fn shadow(&mut self, _: &Arc<Rule>, _: &Arc<ShadowReport>, _: ShadowStart) -> Result<(), LoadError> {
        Ok(())
    }

    fn end_shadow(&mut self, _rule: &str) -> Result<(), LoadError> {
        Ok(())
    }

    fn promote(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.0(rule)
    }
}
