//! `[sources.….limit]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// A limit on how fast messages are taken from a source. Without one they are taken as fast as they can be stored.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimit {
    /// Messages a second, over time. Without it only `prefix` limits.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub messages_per_s: Option<i64>,
    /// How many may come at once after a pause. Default: what comes in a second.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub burst: Option<i64>,
    /// What becomes of messages beyond the limit. Default: `hold`.
    pub excess: Option<RawExcess>,
    /// A limit for each topic prefix, so that one device that runs wild does not take the room of the others.
    pub prefix: Option<RawPrefixLimit>,
}

/// A limit for each topic prefix.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPrefixLimit {
    /// How many levels of a topic make its prefix: of `plant/line1/temp`, 2 make `plant/line1`. Default: 1.
    #[schemars(range(min = 1, max = 64))]
    pub levels: Option<i64>,
    /// Messages a second of one prefix, over time.
    #[schemars(required, range(min = 1, max = 10_000_000))]
    pub messages_per_s: Option<i64>,
    /// How many of one prefix may come at once after a pause. Default: what comes in a second.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub burst: Option<i64>,
    /// What becomes of messages beyond the limit. `hold` holds all that comes behind them, of other prefixes too, since a broker's
    /// messages are acknowledged in order. Default: `dead_letter`.
    pub excess: Option<RawExcess>,
    /// How many prefixes have a limit of their own; those that come later share one. Default: 1000.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_prefixes: Option<i64>,
}

/// What becomes of messages beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawExcess {
    /// They wait, with the broker in the end: nothing is lost.
    Hold,
    /// They go to the dead letters, from where they can be replayed.
    DeadLetter,
    /// They are dropped, acknowledged and counted.
    Drop,
}
