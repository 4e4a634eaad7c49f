//! Which alerts stand, for the whole host.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use serde::Serialize;
use tidegate_model::{Alert, Severity, Transition};

/// The book of standing alerts: what a rule raises again while it stands is not published again, and what it
/// clears without having raised it is not published at all.
#[derive(Debug, Default)]
pub struct AlertBook {
    standing: Mutex<HashMap<Key, Standing>>,
}

type Key = (Arc<str>, Arc<str>, Arc<str>);

/// An alert that stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The rule that raised it.
    pub rule: String,
    /// The series it is about.
    pub topic: String,
    /// Tells apart several alerts of one rule on one series.
    pub key: String,
    /// How grave.
    pub severity: Severity,
    /// Since when: microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    /// For people.
    pub message: String,
}

impl AlertBook {
    /// Enters an alert; gives whether it is news, and so to be published.
    pub fn enter(&self, alert: &Alert) -> bool {
        let key = || (alert.rule.clone(), alert.topic.clone(), alert.key.clone());
        match alert.transition {
            Transition::Event => true,
            Transition::Raised => {
                let mut standing = self.lock();
                let known = standing.get(&key()).map(|known| known.severity);
                if known == Some(alert.severity) {
                    return false;
                }
                standing.insert(
                    key(),
                    Standing {
                        rule: alert.rule.to_string(),
                        topic: alert.topic.to_string(),
                        key: alert.key.to_string(),
                        severity: alert.severity,
                        since_us: alert.time_us,
                        message: alert.message.clone(),
                    },
                );
                true
            }
            Transition::Cleared => self.lock().remove(&key()).is_some(),
        }
    }

    /// Clears all that `rule` has raised, and gives the alerts that say so.
    pub fn clear_rule(&self, rule: &str, now_us: i64, reason: &str) -> Vec<Alert> {
        let mut standing = self.lock();
        let gone: Vec<_> = standing.extract_if(|(by, _, _), _| &**by == rule).collect();
        drop(standing);
        let cleared = |((rule, topic, key), was): (Key, Standing)| Alert {
            rule,
            topic,
            key,
            time_us: now_us,
            transition: Transition::Cleared,
            severity: was.severity,
            value: f64::NAN,
            message: reason.to_owned(),
        };
        gone.into_iter().map(cleared).collect()
    }

    /// All that stand, the oldest first.
    pub fn standing(&self) -> Vec<Standing> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|alert| alert.since_us);
        all
    }

    /// How many stand.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(transition: Transition, severity: Severity) -> Alert {
        Alert {
            rule: "hot".into(),
            topic: "dev/a".into(),
            key: "".into(),
            time_us: 5,
            transition,
            severity,
            value: 1.0,
            message: String::new(),
        }
    }

    /// Guarantees: of what a rule says again and again, only the changes are published.
    #[test]
    fn only_changes_are_news() {
        let book = AlertBook::default();
        let say = |t, s| book.enter(&alert(t, s));
        assert!(!say(Transition::Cleared, Severity::Warning), "never raised");
        assert!(say(Transition::Raised, Severity::Warning));
        assert!(!say(Transition::Raised, Severity::Warning), "stands already");
        assert!(say(Transition::Raised, Severity::Critical), "graver now");
        assert!(say(Transition::Event, Severity::Info));
        assert_eq!(book.len(), 1);
        assert!(say(Transition::Cleared, Severity::Critical));
        assert!(book.is_empty());
    }

    /// Guarantees: a rule that goes leaves no alert standing.
    #[test]
    fn a_rule_that_goes_clears_its_own() {
        let book = AlertBook::default();
        book.enter(&alert(Transition::Raised, Severity::Warning));
        assert!(book.clear_rule("other", 9, "gone").is_empty());
        let cleared = book.clear_rule("hot", 9, "the rule was disabled");
        assert_eq!((cleared.len(), cleared[0].transition, cleared[0].time_us), (1, Transition::Cleared, 9));
        assert!(book.is_empty());
    }
}
