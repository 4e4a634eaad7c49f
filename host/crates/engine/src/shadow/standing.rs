//! Which alerts stand by a shadow's own account: what it goes on believing if it serves one day with the state it has built, and what the
//! book of alerts must say then.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tidegate_model::{Alert, Transition};

/// The most that stand, as of a rule that serves.
const MOST: usize = 100_000;
/// What is kept by an alert beside its texts, about: bytes.
const BESIDE_TEXTS: usize = 160;
/// What is kept of one that is nobody's, about, whose texts are those of the book: bytes.
const UNSPOKEN: usize = 48;

/// Topic and key of an alert.
type Key = (Arc<str>, Arc<str>);

/// Alerts by topic and key.
#[derive(Debug)]
pub(super) struct Standing {
    raised: HashMap<Key, Alert>,
    /// See [`Believed::unspoken`].
    unspoken: Option<HashSet<Key>>,
    bytes: usize,
    /// With more the shadow is stopped: one that served without knowing of all its alerts would clear what stands.
    most_bytes: usize,
}

/// Which alerts stand by the state that a shadow has built.
#[derive(Debug, Default)]
pub struct Believed {
    /// Those it has raised, or was told of as raised by the instance whose state it was given.
    pub raised: Vec<Alert>,
    /// Of those that stood when it was given a copy of the state, and of which nobody knew whether they stand by that or by the state on another
    /// lane: topics and keys of those it has not spoken of. None if it was given no copy, or has lost it.
    pub unspoken: Option<HashSet<(Arc<str>, Arc<str>)>>,
}

/// There is no room for more alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Standing {
    /// None; their texts may have so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { raised: HashMap::new(), unspoken: None, bytes: 0, most_bytes }
    }

    /// Takes over, with a copy of the state, what stands by it, and of what nobody knows whether it does.
    pub fn copy(&mut self, own: Vec<Alert>, nobodys: Vec<Alert>) -> Result<(), NoRoom> {
        own.into_iter().try_for_each(|alert| self.note(alert))?;
        let unspoken: HashSet<Key> = nobodys.into_iter().map(|alert| (alert.topic, alert.key)).collect();
        self.bytes += unspoken.len() * UNSPOKEN;
        self.unspoken = Some(unspoken);
        if self.bytes > self.most_bytes { Err(NoRoom) } else { Ok(()) }
    }

    /// It says so now.
    pub fn note(&mut self, alert: Alert) -> Result<(), NoRoom> {
        if alert.transition == Transition::Event {
            return Ok(());
        }
        let key = (alert.topic.clone(), alert.key.clone());
        if self.unspoken.as_mut().is_some_and(|unspoken| unspoken.remove(&key)) {
            self.bytes -= UNSPOKEN;
        }
        let (raised, bytes) = (alert.transition == Transition::Raised, size_of(&key, &alert.message));
        let before = if raised { self.raised.insert(key.clone(), alert) } else { self.raised.remove(&key) };
        self.bytes -= before.map_or(0, |before| size_of(&key, &before.message));
        if raised {
            self.bytes += bytes;
        }
        if self.raised.len() > MOST || self.bytes > self.most_bytes { Err(NoRoom) } else { Ok(()) }
    }

    /// It has forgotten what it knew.
    pub fn forget(&mut self) {
        *self = Self::new(self.most_bytes);
    }

    /// What they take up, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them.
    pub fn into_believed(self) -> Believed {
        Believed { raised: self.raised.into_values().collect(), unspoken: self.unspoken }
    }
}

fn size_of((topic, key): &Key, message: &str) -> usize {
    BESIDE_TEXTS + topic.len() + key.len() + message.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_model::Severity;

    use super::*;

    fn alert(topic: &str, transition: Transition, message: &str) -> Alert {
        Alert {
            rule: "hot".into(),
            topic: topic.into(),
            key: "".into(),
            time_us: 1,
            transition,
            severity: Severity::Warning,
            value: 1.0,
            message: message.into(),
        }
    }

    /// Guarantees: what alerts take up is counted whatever is raised again, cleared or forgotten, and is not more than it may be.
    #[test]
    fn bounded_by_bytes() {
        let mut standing = Standing::new(2_000);
        let raised = |topic, message: &str| alert(topic, Transition::Raised, message);
        standing.copy(vec![raised("a", "hot")], vec![raised("b", "not counted")]).unwrap();
        assert_eq!(standing.bytes(), BESIDE_TEXTS + 1 + 3 + UNSPOKEN);
        standing.note(raised("a", "hotter")).unwrap();
        standing.note(alert("b", Transition::Cleared, "")).unwrap();
        assert_eq!(standing.bytes(), BESIDE_TEXTS + 1 + 6, "b was not counted with its text");
        assert_eq!(standing.note(raised("c", &"x".repeat(2_000))), Err(NoRoom));
        standing.note(alert("c", Transition::Cleared, "")).unwrap();
        standing.note(alert("a", Transition::Cleared, "")).unwrap();
        assert_eq!(standing.bytes(), 0);
        standing.note(raised("a", "hot")).unwrap();
        standing.forget();
        assert_eq!(standing.bytes(), 0);
        assert!(Standing::new(100).copy(vec![raised("a", "")], vec![]).is_err());
        assert!(Standing::new(40).copy(vec![], vec![raised("a", "")]).is_err());
    }

    /// Guarantees: of alerts that are nobody's it is known which it has spoken of; after a fault it knows of none.
    #[test]
    fn what_it_has_not_spoken_of() {
        let raised = |topic| alert(topic, Transition::Raised, "");
        let begun = || {
            let mut standing = Standing::new(10_000);
            standing.copy(vec![raised("own")], vec![raised("a"), raised("b"), raised("c")]).unwrap();
            standing.note(raised("a")).unwrap();
            standing.note(alert("b", Transition::Cleared, "")).unwrap();
            standing
        };
        let Believed { raised, unspoken } = begun().into_believed();
        let mut topics: Vec<_> = raised.iter().map(|alert| &*alert.topic).collect();
        topics.sort_unstable();
        assert_eq!(topics, ["a", "own"]);
        assert_eq!(unspoken.unwrap().into_iter().map(|(topic, _)| topic).collect::<Vec<_>>(), ["c".into()]);
        let mut standing = begun();
        standing.forget();
        let Believed { raised, unspoken } = standing.into_believed();
        assert!(raised.is_empty() && unspoken.is_none());
    }
}
