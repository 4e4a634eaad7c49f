//! How the rules are, for whoever asks.

use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_config::RuleFile;

use crate::rule::Rule;
use crate::stats::{RuleStats, RuleTotals};

/// The code of the problem of a rule that is called no more, or whose newest generation is.
pub(super) const QUARANTINED: &str = "quarantined";

/// The code of what is no problem yet: a new rule whose module has to be compiled first.
pub(super) const PENDING: &str = "pending";

/// The code of the problem of a rule whose files want it gone, while a lane that is held back has yet to be told.
pub const STILL_CALLED: &str = "still_called";

/// How a rule is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// Whether it serves.
    pub state: RuleState,
    /// What is wrong: with the newest file, while an older generation may serve; or why it is called no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The sort of that problem, for programs: [`crate::LoadError::code`], `quarantined`, `partitions_quarantined`, `still_called`
    /// or `pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_code: Option<&'static str>,
    /// The module's file.
    pub module: String,
    /// The module's sha256, of the generation that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `decoder` or `processor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The module's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When what vouches for the module expires, where signatures are required: milliseconds since 1970. From then on it is not loaded again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_expires_ms: Option<u64>,
    /// Topics it gets.
    pub topics: Vec<String>,
    /// Its place in the chain.
    pub order: i32,
    /// Counts up with every change.
    pub generation: u64,
    /// The version of its file and of the module that serves: opaque, quoted, as in `ETag` and `If-Match`.
    pub etag: String,
    /// What it has done.
    pub stats: RuleTotals,
}

/// Whether a rule serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// It gets its rows.
    Serving,
    /// It is new, and its module is being compiled, or waits for that.
    Pending,
    /// Its file says `enabled = false`.
    Disabled,
    /// It cannot be loaded, and no older generation is there.
    Failed,
    /// It failed again and again, and is called no more.
    Quarantined,
}

/// What was true when the directory was last read.
pub(super) type Snapshot = Mutex<Vec<Entry>>;

/// One rule in the snapshot; its counters are read when it is asked for.
pub(super) struct Entry {
    pub status: RuleStatus,
    /// What its file says, if it can be read.
    pub file: Option<RuleFile>,
    /// The digest of the module that it names, if that can be read.
    pub digest: Option<String>,
    pub stats: Arc<RuleStats>,
    /// The generation that serves.
    pub serving: Option<Arc<Rule>>,
}

impl Entry {
    /// As it is now.
    pub fn status(&self) -> RuleStatus {
        let mut status = RuleStatus { stats: self.stats.totals(), ..self.status.clone() };
        if let Some(reason) = self.stats.quarantined()
            && status.state == RuleState::Serving
        {
            status.state = RuleState::Quarantined;
            status.problem = Some(reason);
            status.problem_code = Some(QUARANTINED);
        }
        let partitions = self.stats.quarantined_partitions();
        if partitions > 0 && status.problem.is_none() {
            status.problem =
                Some(format!("it is not called for {partitions} partitions on which it failed again and again"));
            status.problem_code = Some("partitions_quarantined");
        }
        status
    }
}
