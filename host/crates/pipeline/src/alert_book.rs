//! Which alerts stand, for the whole host.

use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_model::{Alert, Severity, Transition};

/// The book of standing alerts: what a rule raises again while it stands is not published again, and what it
/// clears without having raised it is not published at all.
#[derive(Debug, Default)]
pub struct AlertBook {
    book: Mutex<Book>,
}

/// The most alerts of one rule that stand at once: a rule that makes up keys without end must not fill the host's memory.
pub const MAX_STANDING: usize = 100_000;

/// What an alert is to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It changes something: it is published.
    Publish,
    /// It says what is known.
    Known,
    /// [`MAX_STANDING`] of its rule stand already: it is not entered.
    Refused,
}

#[derive(Debug, Default)]
struct Book {
    standing: HashMap<Key, Standing>,
    /// How many of each rule; no rule has none.
    by_rule: HashMap<Arc<str>, usize>,
}

/// Rule, topic and key of an alert.
pub(crate) type Key = (Arc<str>, Arc<str>, Arc<str>);

pub(crate) fn key_of(alert: &Alert) -> Key {
    (alert.rule.clone(), alert.topic.clone(), alert.key.clone())
}

/// An alert that stands.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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

impl Standing {
    /// The alert that raised it, without its value.
    pub(crate) fn raised(&self) -> Alert {
        Alert {
            rule: self.rule.as_str().into(),
            topic: self.topic.as_str().into(),
            key: self.key.as_str().into(),
            time_us: self.since_us,
            transition: Transition::Raised,
            severity: self.severity,
            value: f64::NAN,
            message: self.message.clone(),
        }
    }
}

impl AlertBook {
    /// A book in which these stand already.
    pub fn of(raised: &[Alert]) -> Self {
        let book = Self::default();
        for alert in raised {
            // What a rule may not have standing it loses here.
            let _ = book.enter(alert);
        }
        book
    }

    /// How it is with an alert now: as it was raised, or cleared.
    pub(crate) fn now(&self, key: &Key) -> Alert {
        match self.lock().standing.get(key) {
            Some(standing) => standing.raised(),
            None => Alert {
                rule: key.0.clone(),
                topic: key.1.clone(),
                key: key.2.clone(),
                time_us: 0,
                transition: Transition::Cleared,
                severity: Severity::Info,
                value: f64::NAN,
                message: String::new(),
            },
        }
    }

    /// Enters an alert; gives whether it is news.
    pub fn enter(&self, alert: &Alert) -> News {
        let key = || key_of(alert);
        match alert.transition {
            Transition::Event => News::Publish,
            Transition::Raised => {
                let mut book = self.lock();
                match book.standing.get(&key()).map(|known| known.severity) {
                    Some(severity) if severity == alert.severity => return News::Known,
                    Some(_) => {}
                    None => {
                        let count = book.by_rule.entry(alert.rule.clone()).or_default();
                        if *count >= MAX_STANDING {
                            return News::Refused;
                        }
                        *count += 1;
                    }
                }
                book.standing.insert(
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
                News::Publish
            }
            Transition::Cleared => {
                let mut book = self.lock();
                if book.standing.remove(&key()).is_none() {
                    return News::Known;
                }
                if let Some(count) = book.by_rule.get_mut(&alert.rule) {
                    *count -= 1;
                    if *count == 0 {
                        book.by_rule.remove(&alert.rule);
                    }
                }
                News::Publish
            }
        }
    }

    /// Clears all that `rule` has raised, and gives the alerts that say so.
    pub fn clear_rule(&self, rule: &str, now_us: i64, reason: &str) -> Vec<Alert> {
        self.clear_where(rule, |_| true, now_us, reason)
    }

    /// The same for the series with certain topics.
    pub(crate) fn clear_where(
        &self,
        rule: &str,
        topic: impl Fn(&str) -> bool,
        now_us: i64,
        reason: &str,
    ) -> Vec<Alert> {
        let mut book = self.lock();
        let gone: Vec<_> = book.standing.extract_if(|(by, about, _), _| &**by == rule && topic(about)).collect();
        if let Some(count) = book.by_rule.get_mut(rule) {
            *count -= gone.len();
            if *count == 0 {
                book.by_rule.remove(rule);
            }
        }
        drop(book);
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
        self.oldest(usize::MAX, |_| true)
    }

    /// Of those that stand and are `wanted`, the `most` that have stood longest, the oldest first. No others are copied: lanes wait
    /// meanwhile.
    pub fn oldest(&self, most: usize, wanted: impl Fn(&Standing) -> bool) -> Vec<Standing> {
        let book = self.lock();
        let mut oldest = BinaryHeap::new();
        for (key, alert) in book.standing.iter().filter(|(_, alert)| wanted(alert)) {
            oldest.push((alert.since_us, key));
            if oldest.len() > most {
                oldest.pop();
            }
        }
        oldest.into_sorted_vec().iter().filter_map(|(_, key)| book.standing.get(*key).cloned()).collect()
    }

    /// How many stand.
    pub fn len(&self) -> usize {
        self.lock().standing.len()
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.lock().standing.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
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
        let say = |t, s| book.enter(&alert(t, s)) == News::Publish;
        assert!(!say(Transition::Cleared, Severity::Warning), "never raised");
        assert!(say(Transition::Raised, Severity::Warning));
        assert!(!say(Transition::Raised, Severity::Warning), "stands already");
        assert!(say(Transition::Raised, Severity::Critical), "graver now");
        assert!(say(Transition::Event, Severity::Info));
        assert_eq!(book.len(), 1);
        assert!(say(Transition::Cleared, Severity::Critical));
        assert!(book.is_empty());
    }

    /// Guarantees: of many that stand those are given that have stood longest, in that order, and only those that are wanted.
    #[test]
    fn the_oldest_first() {
        let book = AlertBook::default();
        for (topic, time_us) in [("c", 3), ("a", 1), ("d", 4), ("b", 2)] {
            book.enter(&Alert { topic: topic.into(), time_us, ..alert(Transition::Raised, Severity::Warning) });
        }
        let topics = |most, but: &str| -> Vec<String> {
            book.oldest(most, |alert| alert.topic != but).into_iter().map(|alert| alert.topic).collect()
        };
        assert_eq!(topics(2, ""), ["a", "b"]);
        assert_eq!(topics(9, "b"), ["a", "c", "d"]);
        assert!(topics(0, "").is_empty());
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

    /// Guarantees: a rule that makes up keys is refused when it has as many as it may, alone, and until one of them is cleared.
    #[test]
    fn a_rule_has_so_many_and_no_more() {
        let book = AlertBook::default();
        let keyed =
            |transition, key: usize| Alert { key: key.to_string().into(), ..alert(transition, Severity::Warning) };
        for key in 0..MAX_STANDING {
            assert_eq!(book.enter(&keyed(Transition::Raised, key)), News::Publish);
        }
        assert_eq!(book.enter(&keyed(Transition::Raised, MAX_STANDING)), News::Refused);
        assert_eq!(book.enter(&keyed(Transition::Raised, 0)), News::Known);
        assert_eq!(book.enter(&alert(Transition::Event, Severity::Warning)), News::Publish);
        let other = Alert { rule: "cold".into(), ..alert(Transition::Raised, Severity::Warning) };
        assert_eq!(book.enter(&other), News::Publish, "another rule's own");
        assert_eq!(book.enter(&keyed(Transition::Cleared, 0)), News::Publish);
        assert_eq!(book.enter(&keyed(Transition::Raised, MAX_STANDING)), News::Publish, "there is room again");
        assert_eq!(book.clear_rule("hot", 9, "gone").len(), MAX_STANDING);
        assert_eq!(book.enter(&keyed(Transition::Raised, 0)), News::Publish);
        assert_eq!(book.len(), 2);
    }

    /// Guarantees: a book made of what stood says so, and knows of each alert how it is now.
    #[test]
    fn what_stood_stands() {
        let raised = alert(Transition::Raised, Severity::Critical);
        let book = AlertBook::of(std::slice::from_ref(&raised));
        assert_eq!(book.enter(&raised), News::Known);
        let now = book.now(&key_of(&raised));
        assert_eq!((now.transition, now.severity, now.time_us), (Transition::Raised, Severity::Critical, 5));
        assert_eq!(book.clear_where("hot", |topic| topic == "dev/b", 9, "reset").len(), 0);
        assert_eq!(book.clear_where("hot", |topic| topic == "dev/a", 9, "reset").len(), 1);
        assert_eq!(book.now(&key_of(&raised)).transition, Transition::Cleared);
        assert_eq!(book.enter(&raised), News::Publish);
    }
}
