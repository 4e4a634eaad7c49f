//! What goes into a rule under test, and what is seen to come out, as plain values.

use crate::columns::{Severity, Transition};
use crate::quality::Quality;

/// One reading that goes into a processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Input<'a> {
    pub topic: &'a str,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// NaN for none.
    pub value: f64,
    pub text: Option<&'a str>,
    pub quality: Quality,
    pub unit: Option<&'a str>,
}

impl<'a> Input<'a> {
    /// A good reading at so many seconds.
    pub fn at(seconds: i64, topic: &'a str, value: f64) -> Self {
        Self { topic, time_us: seconds * 1_000_000, value, text: None, quality: Quality::GOOD, unit: None }
    }

    /// The same with another quality.
    #[must_use]
    pub fn quality(mut self, quality: Quality) -> Self {
        self.quality = quality;
        self
    }
}

/// A point that came out.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPoint {
    pub topic: String,
    pub time_us: i64,
    /// `None` for NaN.
    pub value: Option<f64>,
    pub text: Option<String>,
    pub quality: u16,
    /// The series' unit after the call.
    pub unit: Option<String>,
    /// The series' labels after the call.
    pub labels: Vec<(String, String)>,
    /// The row it came from, if any.
    pub row: Option<usize>,
}

/// An alert that came out.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenAlert {
    pub topic: String,
    pub time_us: i64,
    pub transition: Transition,
    pub severity: Severity,
    /// `None` for NaN.
    pub value: Option<f64>,
    pub key: String,
    pub message: String,
}

/// What came out of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Every point behind the rule; of a batch that passed unchanged none are listed.
    pub points: Vec<SeenPoint>,
    pub alerts: Vec<SeenAlert>,
    /// Rejected rows and why.
    pub rejects: Vec<(usize, String)>,
    /// Rows that led to nothing.
    pub filtered: Vec<usize>,
    pub held: Vec<usize>,
    pub commands: Vec<crate::columns::Command>,
    /// The tick asked for, if any.
    pub wake_us: Option<i64>,
    /// The batch passed as it was.
    pub unchanged: bool,
}

impl Seen {
    /// Topic and value of each point, which is often all that is of interest.
    pub fn values(&self) -> Vec<(&str, Option<f64>)> {
        self.points.iter().map(|point| (point.topic.as_str(), point.value)).collect()
    }

    /// Topic and transition of each alert.
    pub fn transitions(&self) -> Vec<(&str, Transition)> {
        self.alerts.iter().map(|alert| (alert.topic.as_str(), alert.transition)).collect()
    }
}
