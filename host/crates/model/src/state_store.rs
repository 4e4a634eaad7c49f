//! What keeps the state of rules, and the alerts that stand, while the host is away.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Ack, Alert, OffsetMark, PacketMark, SavedState, Taken};

/// One thing that a lane has to keep.
#[derive(Clone, Debug, PartialEq)]
pub enum StateChange {
    /// What changed in the state of a rule on that lane, in the form of the version that saved it.
    Saved {
        /// The rule.
        rule: Arc<str>,
        /// Its module's version.
        version: String,
        /// All that changed.
        cells: SavedState,
    },
    /// An alert was raised, or cleared.
    Alert(Alert),
    /// The rule is no more: its state is of no use. Of its alerts each is told by itself, once it is published that it is cleared; until then they
    /// stand by nothing ([`KeptAlerts::void`]), unless they are told as raised again.
    Forgotten {
        /// The rule.
        rule: Arc<str>,
    },
    /// The state that is kept along with this has these messages.
    Taken {
        /// What they are of.
        stream: Arc<str>,
        /// Which.
        taken: Taken,
    },
}

/// State of a rule as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptState {
    /// The version that saved it.
    pub version: String,
    /// By the ids of this process.
    pub cells: SavedState,
}

/// The alerts that were raised when it was last told; all of them `raised`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptAlerts {
    /// Those that stand by what their rule keeps.
    pub standing: Vec<Alert>,
    /// Those whose rule was forgotten since: who hears of alerts may not have heard that they are cleared, and no rule knows of them.
    pub void: Vec<Alert>,
}

/// What a store has done, and how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateTotals {
    /// Cells written.
    pub written: u64,
    /// Transactions that failed; what was in them is tried again.
    pub failures: u64,
    /// Cells that were damaged, and files that had to be set aside.
    pub damaged: u64,
    /// Cells that no rule was given, since as many series are known as may be.
    pub unnamed: u64,
    /// Why it cannot write now, if it cannot.
    pub down: Option<String>,
}

/// The disk could not be read now. It is no word on what is kept: who goes on without loses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state that is kept cannot be read now: {0}")]
pub struct StateUnread(pub String);

/// Keeps the state of rules by the names of series and partitions. It is written to by lanes, which never wait for its disk unless too much
/// waits already.
pub trait StateStore: Debug + Send + Sync {
    /// Takes what changed on a lane since it last told: all of it is kept at once, or nothing. `kept` resolves when it is on disk, with all that
    /// was put before; it is returned where that will never be.
    fn put(&self, changes: Vec<StateChange>, kept: Ack);

    /// What is kept of a rule, one entry for each version that saved a part of it. Waits for what was put before.
    ///
    /// # Errors
    /// The disk does not say now; it may be asked again.
    fn load(&self, rule: &str) -> Result<Vec<KeptState>, StateUnread>;

    /// The alerts that were raised and are not known to be cleared.
    ///
    /// # Errors
    /// The disk does not say now; it may be asked again.
    fn alerts(&self) -> Result<KeptAlerts, StateUnread>;

    /// The messages of an MQTT connection that the kept state has and that may come again, by their sequence. Waits for what was put before.
    ///
    /// # Errors
    /// The disk does not say now; it may be asked again.
    fn packets(&self, stream: &str) -> Result<Vec<PacketMark>, StateUnread>;

    /// The records of a partition that the kept state has and that may come again. Waits for what was put before.
    ///
    /// # Errors
    /// The disk does not say now; it may be asked again.
    fn offsets(&self, stream: &str) -> Result<Option<OffsetMark>, StateUnread>;

    /// The rules of which something is kept; none while the disk does not say.
    fn rules(&self) -> Vec<String>;

    /// Counts up whenever what was kept is lost with a damaged file: who sees another number than before tells all there is.
    fn epoch(&self) -> u64;

    /// Waits until all that was put is on disk; gives whether it is.
    fn sync(&self, patience: Duration) -> bool;

    /// How it is.
    fn totals(&self) -> StateTotals;
}
