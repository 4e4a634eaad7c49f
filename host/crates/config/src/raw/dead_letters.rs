//! `[dead_letters]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// How long dead letters are kept, in `dead_letters.db` under `data_dir`. What is dropped is counted and logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDeadLetters {
    /// The most room they take, in MiB; past it the oldest are dropped. Default: 1024.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_mib: Option<i64>,
    /// How many days they are kept. Default: 30.
    #[schemars(range(min = 1, max = 36_500))]
    pub max_age_days: Option<i64>,
}
