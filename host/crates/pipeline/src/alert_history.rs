//! The alerts that were published last, for who comes to look after the fact.
//!
//! A ring in memory, bounded in number and bytes: what is older is in the stores that take alerts. A lane pays for a lock only with a
//! batch that has alerts, which are few by nature; nothing is made, copied or freed under it but counted references, and readers hold it for a piece.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::{Alert, TopicFilter};

/// How many are kept.
const MOST: usize = 10_000;
/// What their texts may take up.
const MAX_BYTES: usize = 8 << 20;
/// What an alert takes beside its texts, about.
const BYTES_EACH: usize = 128;
/// How many are read under the lock at a time.
const PIECE: usize = 256;

/// The alerts published last.
#[derive(Debug, Default)]
pub(crate) struct AlertHistory(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// Their numbers go up by one each.
    alerts: VecDeque<Arc<Alert>>,
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
        let alerts: Vec<Arc<Alert>> = alerts.iter().cloned().map(Arc::new).collect();
        let mut gone = Vec::with_capacity(alerts.len());
        let mut ring = self.lock();
        ring.next += alerts.len() as u64;
        ring.bytes += alerts.iter().map(|alert| bytes(alert)).sum::<usize>();
        ring.alerts.extend(alerts);
        while ring.alerts.len() > MOST || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.alerts.pop_front() else { break };
            ring.bytes -= bytes(&oldest);
            gone.push(oldest);
        }
        drop(ring);
    }

    /// Up to `most` that agree with `filter`, the newest first.
    pub fn past(&self, filter: &PastFilter, most: usize) -> Vec<Past> {
        let (mut found, mut piece) = (Vec::new(), Vec::with_capacity(PIECE));
        let mut before = filter.before.unwrap_or(u64::MAX);
        while found.len() < most {
            before = self.lock().piece(before, &mut piece);
            if piece.is_empty() {
                break;
            }
            // The newest of a piece comes first, and has the highest number.
            let numbers = (before..before + piece.len() as u64).rev();
            let wanted = numbers.zip(piece.drain(..)).filter(|(_, alert)| filter.takes(alert));
            found.extend(wanted.map(|(number, alert)| Past { number, alert: Alert::clone(&alert) }));
        }
        found.truncate(most);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Adds to `to` those before the number `before`, the newest first, as many as a piece has; gives the number of the last.
    fn piece(&self, before: u64, to: &mut Vec<Arc<Alert>>) -> u64 {
        let first = self.next - self.alerts.len() as u64;
        let end = before.clamp(first, self.next);
        let begin = end.saturating_sub(PIECE as u64).max(first);
        to.extend(self.alerts.range((begin - first) as usize..(end - first) as usize).rev().cloned());
        begin
    }
}

impl PastFilter {
    fn takes(&self, alert: &Alert) -> bool {
        self.rule.as_ref().is_none_or(|rule| **rule == *alert.rule)
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

    /// Guarantees: what takes many pieces to read is read whole, each once, also where few of many are wanted, and from the middle on.
    #[test]
    fn in_pieces() {
        let history = AlertHistory::default();
        let many = 3 * PIECE as i64 + 5;
        history
            .enter(&(0..many).map(|n| alert(if n % 100 == 0 { "a" } else { "b" }, "t", n, "")).collect::<Vec<_>>());
        let (all, rare) = (PastFilter::default(), PastFilter { rule: Some("a".into()), ..PastFilter::default() });
        assert_eq!(times(&history, &all, usize::MAX), (0..many).rev().collect::<Vec<_>>());
        assert_eq!(times(&history, &rare, 3), [700, 600, 500]);
        let later = PastFilter { before: Some(500), ..rare };
        assert_eq!(times(&history, &later, 9), [400, 300, 200, 100, 0]);
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
