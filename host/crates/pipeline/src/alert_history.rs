//! The alerts that were published last, for who comes to look after the fact.
//!
//! A ring in memory, bounded in number and bytes: what is older is in the stores that take alerts. A lane pays for a lock only with a
//! batch that has alerts, which are few by nature.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_model::{Alert, TopicFilter};

/// How many are kept.
const MOST: usize = 10_000;
/// What their texts may take up.
const MAX_BYTES: usize = 8 << 20;
/// What an alert takes beside its texts, about.
const BYTES_EACH: usize = 128;

/// The alerts published last.
#[derive(Debug, Default)]
pub(crate) struct AlertHistory(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    alerts: VecDeque<Past>,
    bytes: usize,
    /// The number of the next one.
    next: u64,
}

/// One that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Counts up from 0 at the start of the process.
    pub number: u64,
    /// The alert.
    pub alert: Alert,
}

/// Alerts that agree with all that is given.
#[derive(Clone, Debug, Default)]
pub struct PastFilter {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of series that match.
    pub topic: Option<TopicFilter>,
    /// Of then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Of before then.
    pub until_us: Option<i64>,
    /// Published before the one of this number.
    pub before: Option<u64>,
}

impl AlertHistory {
    /// Takes down what is published.
    #[inline]
    pub fn enter(&self, alerts: &[Alert]) {
        if !alerts.is_empty() {
            self.enter_all(alerts);
        }
    }

    #[cold]
    fn enter_all(&self, alerts: &[Alert]) {
        let mut ring = self.lock();
        for alert in alerts {
            let number = ring.next;
            ring.next += 1;
            ring.bytes += bytes(alert);
            ring.alerts.push_back(Past { number, alert: alert.clone() });
            while ring.alerts.len() > MOST || ring.bytes > MAX_BYTES {
                let Some(oldest) = ring.alerts.pop_front() else { break };
                ring.bytes -= bytes(&oldest.alert);
            }
        }
    }

    /// Up to `most` that agree with `filter`, the newest first.
    pub fn past(&self, filter: &PastFilter, most: usize) -> Vec<Past> {
        let ring = self.lock();
        ring.alerts.iter().rev().filter(|past| filter.takes(past)).take(most).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PastFilter {
    fn takes(&self, Past { number, alert }: &Past) -> bool {
        self.before.is_none_or(|before| *number < before)
            && self.rule.as_ref().is_none_or(|rule| **rule == *alert.rule)
            && self.since_us.is_none_or(|since| alert.time_us >= since)
            && self.until_us.is_none_or(|until| alert.time_us < until)
            && self.topic.as_ref().is_none_or(|topic| topic.matches(&alert.topic))
    }
}

/// What an alert takes up, about: names are shared, texts are its own.
fn bytes(alert: &Alert) -> usize {
    BYTES_EACH + alert.key.len() + alert.message.len()
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Severity, Transition};

    use super::*;

    fn alert(rule: &str, topic: &str, time_us: i64, message: &str) -> Alert {
        Alert {
            rule: rule.into(),
            topic: topic.into(),
            key: "".into(),
            time_us,
            transition: Transition::Raised,
            severity: Severity::Warning,
            value: 1.0,
            message: message.to_owned(),
        }
    }

    fn times(history: &AlertHistory, filter: &PastFilter, most: usize) -> Vec<i64> {
        history.past(filter, most).iter().map(|past| past.alert.time_us).collect()
    }

    /// Guarantees: the newest come first, page after page, and all that is asked must agree.
    #[test]
    fn pages_and_filters() {
        let history = AlertHistory::default();
        history.enter(&[alert("a", "dev/1", 1, ""), alert("b", "dev/2", 2, "")]);
        history.enter(&[alert("a", "dev/2", 3, "")]);
        let all = PastFilter::default();
        assert_eq!(times(&history, &all, 2), [3, 2]);
        let before = history.past(&all, 2).last().map(|past| past.number);
        assert_eq!(times(&history, &PastFilter { before, ..all.clone() }, 2), [1]);
        assert_eq!(times(&history, &PastFilter { rule: Some("a".into()), ..all.clone() }, 9), [3, 1]);
        assert_eq!(times(&history, &PastFilter { topic: "dev/2".parse().ok(), ..all.clone() }, 9), [3, 2]);
        assert_eq!(times(&history, &PastFilter { since_us: Some(2), until_us: Some(3), ..all }, 9), [2]);
    }

    /// Guarantees: it is bounded in number and in bytes, and lets go of the oldest.
    #[test]
    fn bounded() {
        let history = AlertHistory::default();
        for n in 0..MOST as i64 + 5 {
            history.enter(&[alert("a", "t", n, "")]);
        }
        let all = times(&history, &PastFilter::default(), usize::MAX);
        assert_eq!((all.len(), all.last()), (MOST, Some(&5)));
        let long = "x".repeat(MAX_BYTES / 4);
        (0..9).for_each(|n| history.enter(&[alert("b", "t", n, &long)]));
        assert_eq!(times(&history, &PastFilter::default(), usize::MAX), [8, 7, 6], "and nothing small before them");
    }
}
