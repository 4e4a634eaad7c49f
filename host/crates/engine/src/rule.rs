//! A rule: a named use of a module. One value is one generation; a change makes a new one.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Books, TopicFilter};

use crate::instance::Instance;
use crate::module::{Kind, LoadError, Module};
use crate::stats::RuleStats;

/// One generation of a rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, unique on the node.
    pub name: Arc<str>,
    /// Counts up with every change, over the life of the process.
    pub generation: u64,
    /// What it runs.
    pub module: Arc<Module>,
    /// JSON, given to `configure`.
    pub config: String,
    /// Topics of messages (decoder) or series (processor) it gets; at least one.
    pub filters: Vec<TopicFilter>,
    /// Processors run in this order, lowest first; of decoders that match equally closely the lowest wins.
    pub order: i32,
    /// Topics its commands may go to.
    pub commands: Vec<TopicFilter>,
    /// What it may use up.
    pub limits: Limits,
    /// What it has done; shared by its generations.
    pub stats: Arc<RuleStats>,
}

/// What a rule may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of each instance.
    pub memory_bytes: usize,
    /// CPU time of the lane's thread for one batch or tick.
    pub batch_cpu: Duration,
    /// The same for `describe`, `configure`, `save`, `restore` and declarations.
    pub lifecycle_cpu: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 16 << 20,
            batch_cpu: Duration::from_millis(50),
            lifecycle_cpu: Duration::from_millis(500),
        }
    }
}

impl Rule {
    /// A new instance, configured, without state: one for each lane.
    pub fn instantiate(self: &Arc<Self>, books: &Arc<Books>) -> Result<Instance, LoadError> {
        Instance::new(self.clone(), books.clone())
    }

    /// Whether it gets what has this topic.
    pub fn wants(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// Of its filters that match `topic`, the one that names it most closely.
    pub fn closest(&self, topic: &str) -> Option<&TopicFilter> {
        self.filters.iter().filter(|filter| filter.matches(topic)).max_by(|a, b| a.closeness(b))
    }

    /// What it does.
    pub fn kind(&self) -> Kind {
        self.module.kind()
    }
}
