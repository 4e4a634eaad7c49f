//! `[spool]` and `[sinks.….spool]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// The durable queue in front of a sink that keeps what it cannot take: a file `spool/<name of the sink>.db` in `data_dir`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSpool {
    /// Whether there is one; without it, sources are held back while the sink is down. Default: true; for a SQLite sink only where its
    /// own section has a `spool`, since both would stand on one disk.
    pub enabled: Option<bool>,
    /// The most that may stand in it, in MiB, for each sink. Default: 1024.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub max_mib: Option<i64>,
    /// What happens when it is full. Default: `hold_back`.
    pub when_full: Option<RawWhenFull>,
    /// What comes first when the sink works again. Default: `kept`; MQTT sinks know no other.
    pub order: Option<RawSpoolOrder>,
}

/// What happens when a spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum RawWhenFull {
    /// Sources are held back: nothing is lost.
    #[serde(rename = "hold_back")]
    HoldBack,
    /// The oldest rows are dropped, and counted.
    #[serde(rename = "drop_oldest")]
    DropOldest,
}

/// What comes first when a sink works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum RawSpoolOrder {
    /// What is in the spool: everything arrives in order.
    #[serde(rename = "kept")]
    Kept,
    /// What comes in now; the spool is drained in between. What a sink fails to take of it is tried again before anything else.
    #[serde(rename = "live_first")]
    LiveFirst,
}
