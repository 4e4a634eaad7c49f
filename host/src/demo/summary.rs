//! What the demo did, in a few lines for people and one object for scripts.

use std::fmt;

use serde::Serialize;
use tidegate_admin::Status;
use tidegate_engine::RuleState;

/// The end of a demo.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Messages taken in: the sum of the next four.
    pub received: u64,
    /// Messages that became points.
    pub decoded: u64,
    /// Messages let fall by intention.
    pub filtered: u64,
    /// Messages in the dead letters.
    pub dead_lettered: u64,
    /// Messages not settled when the demo ended.
    pub in_flight: u64,
    /// Points stored.
    pub stored: u64,
    /// Alerts raised.
    pub alerts_raised: u64,
    /// Alerts cleared.
    pub alerts_cleared: u64,
    /// Rules that served at the end.
    pub rules: usize,
    /// How long it ran.
    pub seconds: f64,
    /// Messages received a second.
    pub msgs_per_s: f64,
    /// Half of the messages were stored and acknowledged within: milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 messages were stored and acknowledged within: milliseconds.
    pub p99_ms: f64,
}

impl Summary {
    /// From the last state of the host, and what was seen of its alerts.
    pub fn new(status: &Status, raised: u64, cleared: u64, seconds: f64) -> Self {
        let m = &status.messages;
        let round = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
        Self {
            received: m.received,
            decoded: m.decoded,
            filtered: m.filtered,
            dead_lettered: m.dead_lettered,
            in_flight: m.in_flight,
            stored: status.pipeline.points.stored,
            alerts_raised: raised,
            alerts_cleared: cleared,
            rules: status.rules.iter().filter(|rule| rule.state == RuleState::Serving).count(),
            seconds: round(seconds, 2),
            msgs_per_s: round(m.received as f64 / seconds.max(0.001), 1),
            p50_ms: round(status.pipeline.p50_ms.unwrap_or(0.0), 3),
            p99_ms: round(status.pipeline.p99_ms.unwrap_or(0.0), 3),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "received       {:>10} messages in {:.1} s, {:.0} a second",
            self.received, self.seconds, self.msgs_per_s
        )?;
        writeln!(f, "  decoded      {:>10}", self.decoded)?;
        writeln!(f, "  filtered     {:>10}", self.filtered)?;
        writeln!(f, "  dead letters {:>10}", self.dead_lettered)?;
        writeln!(f, "  in flight    {:>10}", self.in_flight)?;
        writeln!(f, "stored         {:>10} points", self.stored)?;
        writeln!(f, "alerts         {:>10} raised, {} cleared", self.alerts_raised, self.alerts_cleared)?;
        write!(f, "settled within {:>10.1} ms (half of them), {:.1} ms (99 of 100)", self.p50_ms, self.p99_ms)
    }
}
