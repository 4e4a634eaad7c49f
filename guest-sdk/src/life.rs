//! A rule's life as the contract orders it: describe, configure once, declarations, restored
//! state, calls. The module's exports and the native harness both go through here, so that what
//! tests see is what the host sees.

use crate::about::describe;
use crate::call::Call;
use crate::columns::{Decoded, Emitted, Messages, Outcome, PartitionId, Points, Saved, Series, SeriesId, Topic};
use crate::configure::configure;
use crate::rule::Rule;

/// One instance of a rule, configured or not yet.
pub struct Life<R> {
    rule: Option<R>,
}

impl<R> Default for Life<R> {
    fn default() -> Self {
        Self { rule: None }
    }
}

impl<R: Rule> Life<R> {
    /// The description, as JSON.
    pub fn describe() -> String {
        describe::<R>()
    }

    /// Makes the rule. An instance is configured once: what is to have another configuration is
    /// another instance.
    ///
    /// # Errors
    /// When it was configured before, or the configuration cannot be.
    pub fn configure(&mut self, config: &str) -> Result<(), String> {
        if self.rule.is_some() {
            return Err("configured twice; make a new instance for a new configuration".to_owned());
        }
        self.rule = Some(configure::<R>(config)?);
        Ok(())
    }

    /// The rule, once configured.
    pub fn rule(&mut self) -> Option<&mut R> {
        self.rule.as_mut()
    }

    /// Makes topics known.
    pub fn declare_topics(&mut self, new: Vec<Topic>) {
        if let Some(rule) = &mut self.rule {
            rule.declare_topics(new);
        }
    }

    /// Makes series known.
    pub fn declare_series(&mut self, new: Vec<Series>) {
        if let Some(rule) = &mut self.rule {
            rule.declare_series(new);
        }
    }

    /// Takes leave of series and partitions, and forgets their state.
    pub fn retire(&mut self, series: &[SeriesId], partitions: &[PartitionId]) {
        if let Some(rule) = &mut self.rule {
            rule.retire(series, partitions);
            rule.state().retire(series, partitions);
        }
    }

    /// Messages to points. Before `configure` every message is filtered.
    pub fn decode(&mut self, call: &mut Call<'_>, batch: Messages) -> Decoded {
        match &mut self.rule {
            Some(rule) => rule.decode(call, batch),
            None => Decoded::default(),
        }
    }

    /// Points to points and alerts. Before `configure` the batch passes unchanged.
    pub fn process(&mut self, call: &mut Call<'_>, batch: Points) -> Outcome {
        match &mut self.rule {
            Some(rule) => rule.process(call, batch),
            None => Outcome::default(),
        }
    }

    /// A tick.
    pub fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        match &mut self.rule {
            Some(rule) => rule.tick(call),
            None => Emitted::default(),
        }
    }

    /// What changed since the last save, or everything, at most `max_bytes` of it (but always at
    /// least one entry).
    pub fn save(&mut self, everything: bool, max_bytes: u32) -> Saved {
        match &mut self.rule {
            Some(rule) => rule.state().save(everything, R::ABOUT.state_layout, max_bytes),
            None => Saved::default(),
        }
    }

    /// Takes over a part of saved state.
    ///
    /// # Errors
    /// When the part has another layout, is damaged, or came before `configure`.
    pub fn restore(&mut self, version: &str, part: &Saved) -> Result<(), String> {
        let rule = self.rule.as_mut().ok_or("restored before it was configured; configure first")?;
        rule.state()
            .restore(R::ABOUT.state_layout, part)
            .map_err(|fault| format!("{fault} (saved by version {version})"))
    }
}
