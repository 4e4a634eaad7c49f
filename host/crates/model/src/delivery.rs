//! What a lane hands to the sinks: one batch's points, alerts, commands and dead letters.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::{Alert, Command, Messages, NO_ROW, Points};

/// The outcome of one batch. Shared by all sinks; each takes the part it wants.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Points to be stored: none is marked [`crate::Quality::NOT_STORED`].
    pub points: Points,
    /// The message each point came from, as a row of `origin`: ascending, [`NO_ROW`] for none.
    pub from_row: Vec<u32>,
    /// The messages of the batch, for the dead letters of sinks.
    pub origin: Arc<Messages>,
    /// The source of each message of `origin`, as (first row, name), ascending from row 0.
    pub sources: Vec<(u32, Arc<str>)>,
    /// Alerts to publish and store.
    pub alerts: Vec<Alert>,
    /// Messages to publish.
    pub commands: Vec<Command>,
    /// Messages and points that could not be used.
    pub dead_letters: Vec<DeadLetter>,
    /// Points that a sink would not take, and that are in the dead letters instead: counted by the sinks' tasks before they
    /// confirm, so that the ledger's line of stored points is right when the last of them has.
    pub refused: Arc<AtomicU64>,
}

impl Delivery {
    /// About what it takes in memory where that is much: the payloads of its messages, and the texts of its points.
    pub fn bytes(&self) -> usize {
        self.origin.bytes() + self.points.texts.text.bytes.len()
    }
}

/// Where on its way a dead letter died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No decoder wanted it, or its topic could not be taken in.
    Route,
    /// A decoder refused it.
    Decode,
    /// A processor refused it.
    Process,
    /// A sink refused it.
    Sink,
}

impl Stage {
    /// All of them, in the order of a message's way.
    pub const ALL: [Stage; 4] = [Stage::Route, Stage::Decode, Stage::Process, Stage::Sink];

    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Route => "route",
            Stage::Decode => "decode",
            Stage::Process => "process",
            Stage::Sink => "sink",
        }
    }
}

/// A message that could not be used, kept whole, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source it came from; empty for what a rule's `tick` made.
    pub source: Arc<str>,
    /// The topic it came on.
    pub topic: Arc<str>,
    /// When it was received: microseconds since 1970-01-01 UTC.
    pub received_us: i64,
    /// See [`crate::Marks`].
    pub marks: u8,
    /// The original bytes.
    pub payload: Vec<u8>,
    /// User properties, headers and key.
    pub properties: Vec<(String, Vec<u8>)>,
    /// Where it died.
    pub stage: Stage,
    /// The rule that refused it or failed on it, or the sink.
    pub rule: Option<Arc<str>>,
    /// The module's sha256, in hex.
    pub module: Option<Arc<str>>,
    /// Why, for people.
    pub reason: String,
    /// Where in the module, when it trapped.
    pub backtrace: Option<String>,
}

impl Delivery {
    /// Whether no sink has anything to do.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.alerts.is_empty() && self.commands.is_empty() && self.dead_letters.is_empty()
    }

    /// The message that point `row` came from, as a row of `origin`.
    pub fn origin_row(&self, row: u32) -> Option<u32> {
        self.from_row.get(row as usize).copied().filter(|&from| from != NO_ROW)
    }

    /// The name of the source of row `row` of `origin`.
    pub fn source_of(&self, row: u32) -> Option<&Arc<str>> {
        let after = self.sources.partition_point(|(first, _)| *first <= row);
        self.sources.get(after.checked_sub(1)?).map(|(_, name)| name)
    }
}
