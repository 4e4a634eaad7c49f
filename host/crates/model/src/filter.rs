//! MQTT topic filters: MQTT 5.0 §4.7, the same in 3.1.1.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A topic filter: levels parted by `/`, `+` for any one level, `#` as the last level for all that follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter(Box<str>);

/// Why a text is no topic filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Filters have at least one character (§4.7.3).
    #[error("a topic filter cannot be empty")]
    Empty,
    /// Filters have at most 65,535 bytes and no NUL (§4.7.3).
    #[error("a topic filter cannot hold NUL or be longer than 65,535 bytes")]
    BadText,
    /// `#` must be the last level, and alone in it (§4.7.1.2).
    #[error("in {0:?}, `#` must stand alone in the last level, as in `plant/#`")]
    Hash(String),
    /// `+` must be alone in its level (§4.7.1.3).
    #[error("in {0:?}, `+` must stand alone in its level, as in `plant/+/temp`")]
    Plus(String),
}

impl FromStr for TopicFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > 65_535 || text.contains('\0') {
            return Err(FilterError::BadText);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(FilterError::Hash(text.to_owned()));
            }
            if level.contains('+') && level != "+" {
                return Err(FilterError::Plus(text.to_owned()));
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TopicFilter {
    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `topic` matches. A filter that begins with a wildcard matches no topic that begins with `$` (§4.7.2).
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in self.0.split('/') {
            match (level, topic_levels.next()) {
                // `plant/#` also matches `plant` itself: the level before `#` may be the last one of the topic.
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (literal, Some(actual)) if literal == actual => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }

    /// Whether there can be a topic that both match.
    pub fn overlaps(&self, other: &TopicFilter) -> bool {
        let hidden_from = |a: &TopicFilter, b: &TopicFilter| a.0.starts_with('$') && b.0.starts_with(['+', '#']);
        if hidden_from(self, other) || hidden_from(other, self) {
            return false;
        }
        let (mut a, mut b) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (a.next(), b.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
                _ => return false,
            }
        }
    }

    /// Orders filters that match one topic by how closely they name it, the closest greatest: level by level
    /// from the left, a literal before `+` before `#`.
    pub fn closeness(&self, other: &TopicFilter) -> Ordering {
        let rank = |level: Option<&str>| match level {
            Some("#") => 0,
            None => 1,
            Some("+") => 2,
            Some(_) => 3,
        };
        let (mut a, mut b) = (self.0.split('/'), other.0.split('/'));
        loop {
            let (x, y) = (a.next(), b.next());
            match rank(x).cmp(&rank(y)) {
                Ordering::Equal if x.is_none() && y.is_none() => return Ordering::Equal,
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    /// Guarantees: filters overlap if, and only if, some topic matches both, either way round.
    #[test]
    fn overlaps_where_a_topic_matches_both() {
        let levels = ["a", "b", "+", "#", "$s"];
        let mut filters: Vec<TopicFilter> = levels.iter().map(|level| filter(level)).collect();
        filters.extend(
            levels.iter().flat_map(|x| levels.map(|y| format!("{x}/{y}"))).filter_map(|text| text.parse().ok()),
        );
        // `c` stands for every name that no filter has.
        let names = ["a", "b", "c", "$s"];
        let mut topics: Vec<String> = names.map(str::to_owned).to_vec();
        topics.extend(names.iter().flat_map(|x| names.map(|y| format!("{x}/{y}"))));
        topics.extend(names.iter().flat_map(|x| names.map(|y| format!("{x}/{y}/c"))));
        for (one, other) in filters.iter().flat_map(|one| filters.iter().map(move |other| (one, other))) {
            let common = topics.iter().find(|topic| one.matches(topic) && other.matches(topic));
            assert_eq!(one.overlaps(other), common.is_some(), "{one} and {other}: {common:?}");
        }
    }

    /// Guarantees: the examples of MQTT 5.0 §4.7.1 and §4.7.2 hold.
    #[test]
    fn the_standards_examples() {
        for (pattern, topic, matches) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "anything/at/all", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
        ] {
            assert_eq!(filter(pattern).matches(topic), matches, "{pattern} on {topic}");
        }
    }

    /// Guarantees: what the standard forbids is refused.
    #[test]
    fn malformed_filters() {
        for bad in ["", "a/#/b", "a#", "a/b+", "+a/b", "a\0b"] {
            assert!(bad.parse::<TopicFilter>().is_err(), "{bad:?}");
        }
    }

    /// Guarantees: of several decoders, the one that names the topic most closely wins.
    #[test]
    fn closest_first() {
        let mut filters: Vec<_> = ["#", "dev/#", "dev/+/temp", "dev/a/temp", "dev/+/#"].map(filter).into();
        filters.sort_by(|a, b| b.closeness(a));
        let order: Vec<_> = filters.iter().map(TopicFilter::as_str).collect();
        assert_eq!(order, ["dev/a/temp", "dev/+/temp", "dev/+/#", "dev/#", "#"]);
    }
}
