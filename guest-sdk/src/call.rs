//! What a rule may ask of the host during a call, and the call's own facts. There is no clock and
//! no randomness: time is [`Call::now_us`], given by the host.

use crate::columns::SeriesId;

/// A series to be made known, or one whose unit or labels have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSeries {
    pub topic: String,
    pub unit: Option<String>,
    pub labels: Vec<(String, String)>,
    /// The input row it was met in, whose partition the series joins; [`crate::columns::NO_ROW`] in a tick: it then joins that of a series which
    /// the instance knows, the nearest above it if there is one. Each lane has an instance: one series of all that the host sees is for a rule
    /// of the scope `node`.
    pub from_row: u32,
}

/// Why there is no id for a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A limit of series is reached.
    Limit,
    /// The topic cannot be one: empty, too long, NUL, or a wildcard.
    BadTopic,
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The host's side of a call. In a module this is the real host, in tests a
/// [`crate::testing::TestHost`].
pub trait Host {
    /// Ids for series, one result each in the same order. Ask once a call.
    fn resolve(&mut self, new: Vec<NewSeries>) -> Vec<Result<SeriesId, Refusal>>;
    /// One line in the host's log; lines a second are limited.
    fn log(&mut self, level: Level, message: &str);
    /// Adds to a counter of this rule.
    fn count(&mut self, name: &str, by: u64);
    /// Sets a gauge of this rule.
    fn gauge(&mut self, name: &str, value: f64);
}

/// One call of the host into the rule. What is asked of [`Call::host`] takes effect only when the
/// call returns; a trap leaves no trace of half a call.
pub struct Call<'h> {
    /// The host's time, microseconds since 1970-01-01 UTC.
    pub now_us: i64,
    pub host: &'h mut dyn Host,
}
