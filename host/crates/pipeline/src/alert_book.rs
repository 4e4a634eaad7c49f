//! Which alerts stand, for the whole host.

mod listed;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_model::{Alert, Severity, Transition};

use crate::alert_book::listed::{Listed, Oldest, PIECE};
use crate::lane::LaneId;

/// The book of standing alerts: what a rule raises again while it stands is not published again, and what it
/// clears without having raised it is not published at all.
#[derive(Debug, Default)]
pub struct AlertBook {
    book: Mutex<Book>,
    /// How many stand: who asks for that alone takes no lock that a lane may wait for.
    count: AtomicUsize,
}

/// The most alerts of one rule that stand at once: a rule that makes up keys without end must not fill the host's memory.
pub const MAX_STANDING: usize = 100_000;
/// And the most bytes of their topics, keys and messages: each may have some thousands, which so many need not.
pub const MAX_STANDING_BYTES: usize = 64 << 20;

/// What an alert is to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It changes something: it is published.
    Publish,
    /// It says what is known.
    Known,
    /// [`MAX_STANDING`] of its rule stand already, or it would have more than [`MAX_STANDING_BYTES`]: it is not entered.
    /// One that stands already is not refused, and keeps its message where a longer one has no room.
    Refused,
}

#[derive(Debug, Default)]
struct Book {
    standing: HashMap<Key, Entry>,
    /// How many of each rule, and how many bytes of text they have; no rule has none.
    by_rule: HashMap<Arc<str>, (usize, usize)>,
    /// The same alerts, for readers.
    listed: Listed,
}

#[derive(Debug)]
struct Entry {
    alert: Arc<Standing>,
    /// Where it is listed.
    place: usize,
    /// The lane that raised it last, or said so again: by its state it stands. None since the process began has spoken of what an earlier one left.
    by: Option<LaneId>,
    /// Its rule was forgotten since: what comes back under that name does not know of it.
    void: bool,
}

/// Rule, topic and key of an alert.
pub(crate) type Key = (Arc<str>, Arc<str>, Arc<str>);

pub(crate) fn key_of(alert: &Alert) -> Key {
    (alert.rule.clone(), alert.topic.clone(), alert.key.clone())
}

/// An alert that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
    fn bytes(&self) -> usize {
        self.topic.len() + self.key.len() + self.message.len()
    }

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

    /// In which these stand too, by a state that was forgotten.
    #[must_use]
    pub fn and_void(self, raised: &[Alert]) -> Self {
        for alert in raised {
            let _ = self.enter(alert);
            if let Some(entry) = self.lock().standing.get_mut(&key_of(alert)) {
                entry.void = true;
            }
        }
        self
    }

    /// How it is with an alert now: as it was raised, or cleared.
    pub(crate) fn now(&self, key: &Key) -> Alert {
        match self.lock().standing.get(key) {
            Some(standing) => standing.alert.raised(),
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
        self.enter_by(alert, None)
    }

    /// The same of what a lane says.
    pub(crate) fn enter_by(&self, alert: &Alert, by: Option<LaneId>) -> News {
        let key = || key_of(alert);
        match alert.transition {
            Transition::Event => News::Publish,
            Transition::Raised => {
                let mut book = self.lock();
                let place = match book.standing.get_mut(&key()) {
                    Some(known) if known.alert.severity == alert.severity => {
                        known.by = by.or(known.by);
                        known.void = false;
                        return News::Known;
                    }
                    Some(known) => Some((known.place, known.alert.clone())),
                    None => None,
                };
                let (count, before) = book.by_rule.get(&alert.rule).copied().unwrap_or_default();
                let count = count + usize::from(place.is_none());
                let others = before - place.as_ref().map_or(0, |(_, known)| known.bytes());
                let with = |message: &str| others + alert.topic.len() + alert.key.len() + message.len();
                let has_room = count <= MAX_STANDING && with(&alert.message) <= MAX_STANDING_BYTES;
                let message = match &place {
                    _ if has_room => &alert.message,
                    Some((_, known)) => &known.message,
                    None => return News::Refused,
                };
                book.by_rule.insert(alert.rule.clone(), (count, with(message)));
                let standing = Arc::new(Standing {
                    rule: alert.rule.to_string(),
                    topic: alert.topic.to_string(),
                    key: alert.key.to_string(),
                    severity: alert.severity,
                    since_us: alert.time_us,
                    message: message.clone(),
                });
                let place = match place {
                    Some((place, _)) => {
                        book.listed.change(place, standing.clone());
                        place
                    }
                    None => book.listed.put(standing.clone()),
                };
                book.standing.insert(key(), Entry { alert: standing, place, by, void: false });
                self.count.store(book.standing.len(), Relaxed);
                News::Publish
            }
            Transition::Cleared => {
                let mut book = self.lock();
                let Some(gone) = book.standing.remove(&key()) else { return News::Known };
                book.listed.free(gone.place);
                book.take_off(&alert.rule, 1, gone.alert.bytes());
                self.count.store(book.standing.len(), Relaxed);
                News::Publish
            }
        }
    }

    /// Clears what `rule` has raised and `which` means, by topic and by who raised it, and gives the alerts that say so.
    pub(crate) fn clear_where(
        &self,
        rule: &str,
        which: impl Fn(&str, Option<LaneId>) -> bool,
        now_us: i64,
        reason: &str,
    ) -> Vec<Alert> {
        self.clear_entries(rule, |topic, entry| which(topic, entry.by), now_us, reason)
    }

    /// The same for those that stand by a state that was forgotten, of the topics that are meant.
    pub(crate) fn clear_void(
        &self,
        rule: &str,
        which: impl Fn(&str) -> bool,
        now_us: i64,
        reason: &str,
    ) -> Vec<Alert> {
        self.clear_entries(rule, |topic, entry| entry.void && which(topic), now_us, reason)
    }

    fn clear_entries(
        &self,
        rule: &str,
        which: impl Fn(&str, &Entry) -> bool,
        now_us: i64,
        reason: &str,
    ) -> Vec<Alert> {
        let mut book = self.lock();
        if !book.by_rule.contains_key(rule) {
            return Vec::new();
        }
        let gone: Vec<(Key, Entry)> = {
            let meant = |(of, topic, _): &Key, entry: &mut Entry| &**of == rule && which(topic, entry);
            book.standing.extract_if(meant).collect()
        };
        gone.iter().for_each(|(_, entry)| book.listed.free(entry.place));
        self.count.store(book.standing.len(), Relaxed);
        book.take_off(rule, gone.len(), gone.iter().map(|(_, entry)| entry.alert.bytes()).sum());
        drop(book);
        let cleared = |((rule, topic, key), was): (Key, Entry)| Alert {
            rule,
            topic,
            key,
            time_us: now_us,
            transition: Transition::Cleared,
            severity: was.alert.severity,
            value: f64::NAN,
            message: reason.to_owned(),
        };
        gone.into_iter().map(cleared).collect()
    }

    /// What of a rule stands that was raised by a lane, or by none since the process began.
    pub(crate) fn raised_by(&self, rule: &str, lane: Option<LaneId>) -> Vec<Alert> {
        let book = self.lock();
        if !book.by_rule.contains_key(rule) {
            return Vec::new();
        }
        let of_it = book.standing.iter().filter(|((of, _, _), entry)| &**of == rule && entry.by == lane);
        let raised = of_it.map(|((rule, topic, key), entry)| Alert {
            rule: rule.clone(),
            topic: topic.clone(),
            key: key.clone(),
            ..entry.alert.raised()
        });
        raised.collect()
    }

    /// All that stand at one moment, the oldest first.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let (mut oldest, mut all, mut next) = (Oldest::new(usize::MAX), Vec::new(), Some(0));
        let book = self.lock();
        while let Some(from) = next {
            next = book.listed.piece(from, &mut all);
        }
        drop(book);
        all.into_iter().for_each(|alert| oldest.look_at(alert));
        oldest.in_order()
    }

    /// Of those that stand and are `wanted`, the `most` that have stood longest, the oldest first. They are looked through piece by piece: what is
    /// raised or cleared meanwhile may be among them or not, and lanes wait for no more than a piece.
    pub fn oldest(&self, most: usize, wanted: impl Fn(&Standing) -> bool) -> Vec<Standing> {
        let (mut oldest, mut piece) = (Oldest::new(most), Vec::with_capacity(PIECE));
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.lock().listed.piece(from, &mut piece);
            piece.drain(..).filter(|alert| wanted(alert)).for_each(|alert| oldest.look_at(alert));
        }
        oldest.in_order()
    }

    /// How many stand.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// So many of a rule are gone.
    fn take_off(&mut self, rule: &str, gone: usize, gone_bytes: usize) {
        if let Some((count, bytes)) = self.by_rule.get_mut(rule) {
            *count -= gone;
            *bytes -= gone_bytes;
            if *count == 0 {
                self.by_rule.remove(rule);
            }
        }
    }
}

#[cfg(test)]
mod tests;
