//! A rule: a named use of a module. One value is one generation; a change makes a new one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_config::{OnQuarantine, RuleFile, RuleLimits};
use tidegate_model::{Books, TopicFilter};

use crate::instance::{Instance, Voice};
use crate::load_error::LoadError;
use crate::module::{Kind, Module};
use crate::stats::RuleStats;

/// One generation of a rule.
#[derive(Clone, Debug)]
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
    /// What becomes of rows of a partition on which it failed again and again.
    pub on_quarantine: OnQuarantine,
    /// What happens when it refuses the state of the generation before it.
    pub on_refused_state: OnRefusedState,
    /// What it may use up.
    pub limits: Limits,
    /// When what vouches for its module expires, where that is required.
    pub signature_expires: Option<SystemTime>,
    /// What it has done; shared by its generations.
    pub stats: Arc<RuleStats>,
}

/// What happens when a rule refuses the state that another version of it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusedState {
    /// It does not serve; the generation before it goes on, if there is one.
    #[default]
    Refuse,
    /// It begins with none: `discard_state = true` in its file.
    Discard,
}

/// What a rule may use up. How much of the stack its module knows: [`crate::Terms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of each instance.
    pub memory_bytes: usize,
    /// CPU time of the lane's thread for one batch or tick.
    pub batch_cpu: Duration,
    /// How long one may last by the wall: far longer, so that a starved node punishes nobody.
    pub batch_wall: Duration,
    /// CPU time for `configure`, `save`, `restore` and declarations; for `describe` that of the default.
    pub lifecycle_cpu: Duration,
    /// How long each of those may last by the wall.
    pub lifecycle_wall: Duration,
    /// Bytes a guest may hand over in one call, results and arguments.
    pub call_bytes: usize,
    /// Log lines a second, over all lanes.
    pub log_lines_per_s: u64,
    /// Names it may count under, and as many it may gauge under.
    pub metric_names: usize,
    /// Series it may make; those the host knows already do not count.
    pub series: u64,
    /// What the labels may take up of the host's memory that stand since the rule told them; more where the host takes very many series.
    pub label_bytes: usize,
    /// Points for each row of a batch.
    pub rows_out_per_row: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&RuleLimits::default())
    }
}

impl From<&RuleLimits> for Limits {
    fn from(file: &RuleLimits) -> Self {
        let lifecycle_cpu = Duration::from_millis(file.lifecycle_cpu_ms.into());
        Self {
            memory_bytes: (file.memory_mib as usize) << 20,
            batch_cpu: Duration::from_millis(file.cpu_ms.into()),
            batch_wall: Duration::from_millis(file.wall_ms.into()),
            lifecycle_cpu,
            lifecycle_wall: Duration::from_secs(20).max(lifecycle_cpu * 4),
            call_bytes: (file.call_mib as usize) << 20,
            log_lines_per_s: file.log_lines_per_s.into(),
            metric_names: file.metric_names as usize,
            series: file.series.into(),
            label_bytes: 64 << 20,
            rows_out_per_row: file.rows_out_per_row as usize,
        }
    }
}

impl Limits {
    /// The most points of a batch of `rows`. Of none, as in a tick, as many as of a thousand.
    pub(crate) fn rows_out(&self, rows: usize) -> usize {
        let rows = if rows == 0 { 1_000 } else { rows };
        self.rows_out_per_row.saturating_mul(rows)
    }
}

impl Rule {
    /// What `file` makes of `module`.
    ///
    /// # Errors
    /// Neither of them says which topics it gets.
    pub(crate) fn of_file(
        name: &str,
        file: &RuleFile,
        module: Arc<Module>,
        stats: Arc<RuleStats>,
        generation: u64,
    ) -> Result<Self, LoadError> {
        let filters: Vec<TopicFilter> = match &file.topics {
            Some(topics) => topics.clone(),
            None => module
                .description()
                .default_topics
                .iter()
                .map(|topic| topic.parse().map_err(|e| LoadError::Description(format!("default-topics: {e}"))))
                .collect::<Result<_, _>>()?,
        };
        if filters.is_empty() {
            return Err(LoadError::Config(format!(
                "the module has no default topics: say which in {name}.toml, as in `topics = [\"dev/#\"]`"
            )));
        }
        Ok(Self {
            name: name.into(),
            generation,
            module,
            config: file.config.to_string(),
            filters,
            order: file.order,
            commands: file.commands.clone(),
            on_quarantine: file.on_quarantine,
            on_refused_state: if file.discard_state { OnRefusedState::Discard } else { OnRefusedState::Refuse },
            limits: Limits::from(&file.limits),
            signature_expires: None,
            stats,
        })
    }

    /// A new instance to try things on: nothing it says is heard, nothing it does is counted.
    ///
    /// # Errors
    /// It cannot be made ready.
    pub fn rehearse(self: &Arc<Self>, books: &Arc<Books>) -> Result<Instance, LoadError> {
        Instance::new(self.clone(), books.clone(), Voice::Silent)
    }

    /// A new instance, configured, without state: one for each lane.
    pub fn instantiate(self: &Arc<Self>, books: &Arc<Books>) -> Result<Instance, LoadError> {
        Instance::new(self.clone(), books.clone(), Voice::Live)
    }

    /// The same once more, under another number.
    pub(crate) fn next_generation(&self, generation: u64) -> Self {
        Self { generation, ..self.clone() }
    }

    /// Whether it gets what has this topic.
    pub fn wants(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// Whether it gets what `other`, of the same name, gets, and in the same order: then what lanes have worked out for all their series still holds.
    pub fn is_routed_as(&self, other: &Rule) -> bool {
        (self.kind(), self.order, &self.filters) == (other.kind(), other.order, &other.filters)
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

/// Which of `rules` decodes messages on `topic`: the decoder with the closest filter, of those the one with the lowest order, and then
/// its name decides.
pub fn decoder_of<'a>(topic: &str, rules: impl Iterator<Item = &'a Rule>) -> Option<usize> {
    let decoders = rules.enumerate().filter(|(_, rule)| rule.kind() == Kind::Decoder);
    let matching = decoders.filter_map(|(i, rule)| Some((i, rule, rule.closest(topic)?)));
    let best = matching.max_by(|(_, a, filter_a), (_, b, filter_b)| {
        // `max_by` keeps the last of equals, so the name decides for good.
        let by_filter = filter_a.closeness(filter_b);
        by_filter.then(b.order.cmp(&a.order)).then(b.name.cmp(&a.name))
    });
    best.map(|(i, _, _)| i)
}
