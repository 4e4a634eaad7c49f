//! The state of the host as one document: what `/api/v1/status` serves and `/metrics` is made from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_engine::{CacheTotals, Confined, RegistryHandle, RuleStatus, ShadowTotals};
use tidegate_model::{Books, DeadLetterAccount, DeadLetterTotals, History, Logs, MessageTotals};
use tidegate_pipeline::{Pipeline, PipelineStatus, Standing};

use crate::health::Health;
use crate::letters::Letters;

/// Where the document is taken from. Cheap to clone.
#[derive(Clone)]
pub struct View {
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The rules.
    pub registry: RegistryHandle,
    /// The dead letters that are kept.
    pub dead_letters: Arc<DeadLetterAccount>,
    /// What names and series are known.
    pub books: Arc<Books>,
    /// The dead letters themselves.
    pub letters: Arc<dyn Letters>,
    /// What has been stored and can be read again, by sink.
    pub histories: BTreeMap<String, Arc<dyn History>>,
    /// What sources have read and can be read again, by source.
    pub logs: BTreeMap<String, Arc<dyn Logs>>,
    /// Where rules are dropped.
    pub rules_dir: PathBuf,
    /// Where the audit log is.
    pub data_dir: PathBuf,
    /// A child of this binary under whose arguments [`crate::validate_and_exit`] is called.
    pub schemas: Confined,
    /// The host's configuration as text, without its secrets.
    pub configuration: Arc<str>,
    /// When the host started.
    pub started: Instant,
}

/// The whole state of the host.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// Of this program.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// How it is in a word, and what is not as it should be.
    pub health: Health,
    /// All sources' accounts together.
    pub messages: MessageTotals,
    /// Sources, sinks, lanes, points.
    #[serde(flatten)]
    pub pipeline: PipelineStatus,
    /// The dead letters that are kept, and those that are no more.
    pub dead_letters: DeadLetterTotals,
    /// Rules by name.
    pub rules: Vec<RuleStatus>,
    /// The shadows of rules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub shadows: BTreeMap<String, ShadowTotals>,
    /// The compiled modules on disk, if they are kept.
    pub module_cache: Option<CacheTotals>,
    /// Alerts that stand, the oldest first; at most 100.
    pub alerts: Vec<Standing>,
}

/// The most standing alerts shown in the status.
const MAX_ALERTS: usize = 100;

impl View {
    /// The document as it is now.
    pub fn status(&self) -> Status {
        let numbers = self.numbers();
        let health = Health::of(self, &numbers.pipeline);
        Status { health, alerts: self.pipeline.standing_alerts(MAX_ALERTS, |_| true), ..numbers }
    }

    /// The same without words on how it is and without the alerts that stand, for who wants numbers only.
    pub fn numbers(&self) -> Status {
        let pipeline = self.pipeline.status();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs_f64(),
            health: Health::default(),
            messages: pipeline.sources.iter().map(|source| source.messages).sum(),
            pipeline,
            dead_letters: self.dead_letters.totals(),
            rules: self.registry.rules(),
            shadows: self.registry.shadows(),
            module_cache: self.registry.cache(),
            alerts: Vec::new(),
        }
    }
}
