//! `GET /api/v1/status`, as far as tests ask.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The state of a host.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct Status {
    pub messages: Messages,
    pub points: Points,
    pub sources: Vec<SourceStatus>,
    pub sinks: Vec<SinkStatus>,
    pub rules: Vec<RuleStatus>,
    pub module_cache: Option<ModuleCache>,
    pub alerts_standing: u64,
}

/// The account of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct Messages {
    pub received: u64,
    pub decoded: u64,
    pub stored: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
    pub in_flight: u64,
    pub returned: u64,
    #[serde(default)]
    pub repeated: u64,
}

/// The account of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct Points {
    pub produced: u64,
    pub generated: u64,
    pub stored: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub held: u64,
    pub returned: u64,
    pub in_flight: u64,
}

/// One source.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct SourceStatus {
    pub name: String,
    pub up: bool,
    pub down: Option<String>,
    pub failures: u64,
    pub lag: Vec<Lag>,
    pub unread: Vec<Unread>,
    pub messages: Messages,
}

/// A partition that a source does not read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct Unread {
    pub topic: String,
    pub partition: i32,
    pub reason: String,
}

/// How far a source is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct Lag {
    pub topic: String,
    pub partition: i32,
    pub messages: u64,
}

/// One sink.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct SinkStatus {
    pub name: String,
    pub messages: u64,
    pub points: u64,
    pub repeats: u64,
    pub late: u64,
    pub down: Option<String>,
    pub holds_back: Option<String>,
    #[serde(default)]
    pub failed_jobs: Vec<String>,
    pub spool: Option<SpoolStatus>,
}

/// A sink's spool.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct SpoolStatus {
    pub records: u64,
    pub rows: u64,
    pub appended: u64,
    pub drained: u64,
    pub damaged_records: u64,
}

/// The compiled modules on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct ModuleCache {
    pub hits: u64,
    pub misses: u64,
    pub damaged: u64,
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct RuleStatus {
    pub name: String,
    pub state: String,
    pub problem: Option<String>,
    pub problem_code: Option<String>,
    pub sha256: Option<String>,
    pub generation: u64,
    pub stats: RuleTotals,
}

/// What a rule has done.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as the API's documentation says")]
pub struct RuleTotals {
    pub rows_in: u64,
    pub log_lines_dropped: u64,
    pub state_bytes: u64,
    pub refusals: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
}

impl Status {
    /// The spool of the sink of that name.
    pub fn spool(&self, sink: &str) -> &SpoolStatus {
        let found = self.sinks.iter().find(|found| found.name == sink).and_then(|sink| sink.spool.as_ref());
        found.unwrap_or_else(|| panic!("there is no sink {sink} with a spool: {:?}", self.sinks))
    }

    /// The rule of that name.
    pub fn rule(&self, name: &str) -> &RuleStatus {
        let found = self.rules.iter().find(|rule| rule.name == name);
        found.unwrap_or_else(|| panic!("there is no rule {name}: {:?}", self.rules))
    }

    /// Fails unless both accounts balance and nothing is on the way. `what` is what the test did.
    pub fn assert_balanced(&self, what: &str) {
        let m = &self.messages;
        assert_eq!(
            m.received,
            m.decoded + m.stored + m.filtered + m.dead_lettered + m.dropped,
            "{what}: messages do not balance: {m:?}"
        );
        assert_eq!(m.in_flight, 0, "{what}: messages on the way: {m:?}");
        let p = &self.points;
        let ended = p.stored + p.filtered + p.dead_lettered + p.held + p.returned;
        assert_eq!(p.produced + p.generated, ended, "{what}: points do not balance: {p:?}");
        assert_eq!(p.in_flight, 0, "{what}: points on the way: {p:?}");
    }
}
