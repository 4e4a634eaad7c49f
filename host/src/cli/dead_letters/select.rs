//! Which letters a command is about.

use anyhow::bail;
use tidegate_model::{Stage, TopicFilter};
use tidegate_sinks::dead_letters::{Filter, Selection};

use crate::cli::time::time_us;

/// What letters must agree with.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(super) struct Filters {
    /// The rule or sink that refused them.
    #[arg(long)]
    pub(super) rule: Option<String>,
    /// The source they came from.
    #[arg(long)]
    pub(super) source: Option<String>,
    /// Where they died: route, decode, process, sink or parked.
    #[arg(long, value_parser = stage)]
    pub(super) stage: Option<Stage>,
    /// Their topic, or an MQTT topic filter: `+` for one level, `#` for all that follow.
    #[arg(long, value_name = "FILTER")]
    pub(super) topic: Option<TopicFilter>,
    /// Died since then: an age as in 90s, 2h or 7d, or a time as in 2025-03-01 or 2025-03-01T12:00:00Z (UTC).
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Died before then, written as for --since.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// A part of the reason, in upper or lower case.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Only those that are to be replayed.
    #[arg(long)]
    pub(super) requested: bool,
}

/// Letters to be changed: none are, unless they are named in some way.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(super) struct Which {
    /// These, by their numbers in the list.
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<i64>,
    /// All there are.
    #[arg(long, conflicts_with = "ids")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) filters: Filters,
}

impl Filters {
    /// The filter, with ages counted back from `now_us`.
    pub(super) fn filter(&self, now_us: i64) -> anyhow::Result<Filter> {
        let time = |text: &Option<String>| text.as_deref().map(|text| time_us(text, now_us)).transpose();
        Ok(Filter {
            source: self.source.clone(),
            topic: self.topic.clone(),
            rule: self.rule.clone(),
            stage: self.stage,
            since_us: time(&self.since)?,
            until_us: time(&self.until)?,
            reason: self.reason.clone(),
            requested: self.requested,
        })
    }
}

impl Which {
    /// What was chosen.
    pub(super) fn selection(&self, now_us: i64) -> anyhow::Result<Selection> {
        let filtered = self.filters != Filters::default();
        match (self.ids.is_empty(), filtered) {
            (false, false) => Ok(Selection::Ids(self.ids.clone())),
            (false, true) => bail!("name letters by their ids or by filters, not by both"),
            (true, true) => Ok(Selection::Matching(self.filters.filter(now_us)?)),
            (true, false) if self.all => Ok(Selection::Matching(Filter::default())),
            (true, false) => bail!("which letters? Name ids or filters (--rule, --topic, --since …), or say --all"),
        }
    }
}

fn stage(word: &str) -> Result<Stage, String> {
    let known = Stage::ALL.into_iter().find(|stage| stage.as_str() == word);
    known.ok_or_else(|| format!("choose from {}", Stage::ALL.map(Stage::as_str).join(", ")))
}
