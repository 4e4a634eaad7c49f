//! MQTT topic filters, for rules that treat some topics otherwise than others.

use std::fmt;

/// A topic filter: `+` stands for one level, `#` at the end for any number of them. A filter that
/// begins with a wildcard does not match topics that begin with `$`. Source: MQTT 5, section 4.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter(String);

impl TopicFilter {
    /// A filter.
    ///
    /// # Errors
    /// A sentence that says where a wildcard stands wrong.
    pub fn new(filter: &str) -> Result<Self, String> {
        if filter.is_empty() || filter.contains('\0') {
            return Err("a topic filter is empty or has NUL in it".to_owned());
        }
        let levels: Vec<&str> = filter.split('/').collect();
        for (at, level) in levels.iter().enumerate() {
            if level.contains('#') && (*level != "#" || at + 1 != levels.len()) {
                return Err(format!("topic filter `{filter}`: `#` must be the whole last level"));
            }
            if level.contains('+') && *level != "+" {
                return Err(format!("topic filter `{filter}`: `+` must be a whole level"));
            }
        }
        Ok(Self(filter.to_owned()))
    }

    /// Whether a topic is one of those meant.
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.0.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(name)) if level == name => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::TopicFilter;

    /// Guarantees: the examples of MQTT 5, section 4.7, come out as it says.
    #[test]
    fn matches_as_mqtt_says() {
        let matches = |filter: &str, topic: &str| TopicFilter::new(filter).unwrap().matches(topic);
        for (filter, topic) in [
            ("sport/#", "sport"),
            ("sport/#", "sport/tennis/player1"),
            ("#", "a/b"),
            ("+", "a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("a/+/c", "a/b/c"),
            ("a/+/c", "a//c"),
            ("$SYS/#", "$SYS/x"),
            ("+/b/#", "a/b/c/d"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("+", "/finance"),
            ("sport/+", "sport"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("a/+", "a/b/c"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
        for filter in ["", "a/#/b", "a#", "a+/b", "a\0"] {
            assert!(TopicFilter::new(filter).is_err(), "{filter}");
        }
    }
}
