//! Alerts and commands as they leave a lane, names and all: they are few.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    Warning,
    /// To be acted on.
    Critical,
}

/// Where in its life an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// Has no life of its own.
    Event,
    /// Stands until cleared.
    Raised,
    /// No longer stands.
    Cleared,
}

impl Severity {
    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Transition {
    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Transition::Event => "event",
            Transition::Raised => "raised",
            Transition::Cleared => "cleared",
        }
    }
}

/// One alert, as it goes to the sinks.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The rule that says so.
    pub rule: Arc<str>,
    /// The series it is about.
    pub topic: Arc<str>,
    /// Tells apart several alerts of one rule on one series; empty for most.
    pub key: Arc<str>,
    /// When it happened: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// Where in its life it is.
    pub transition: Transition,
    /// How grave.
    pub severity: Severity,
    /// The reading that caused it; NaN if none.
    pub value: f64,
    /// For people.
    pub message: String,
}

/// A message that a rule asks to have published; its topic is one that the rule's file permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The rule that asks.
    pub rule: Arc<str>,
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// MQTT QoS, 0 or 1.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
}
