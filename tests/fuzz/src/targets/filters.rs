//! MQTT topic filters against a plain reference. The input is a filter, a line's end and a topic.

use tidegate_model::TopicFilter;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, topic) = text.split_once('\n').unwrap_or((text, ""));
    let parsed = filter.parse::<TopicFilter>();
    assert_eq!(parsed.is_ok(), valid(filter), "whether {filter:?} is a filter");
    let Ok(parsed) = parsed else { return };
    assert_eq!(parsed.to_string(), filter);
    assert_eq!(parsed.matches(topic), matches(filter, topic), "{filter:?} on {topic:?}");
    // Of two filters either is the closer, or both are as close.
    if let Ok(other) = topic.parse::<TopicFilter>() {
        assert_eq!(parsed.closeness(&other), other.closeness(&parsed).reverse(), "{filter:?} and {topic:?}");
    }
}

/// MQTT 5.0 §4.7.1 and §4.7.3.
fn valid(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let hash = levels
        .iter()
        .enumerate()
        .all(|(at, level)| !level.contains('#') || (*level == "#" && at + 1 == levels.len()));
    let plus = levels.iter().all(|level| !level.contains('+') || *level == "+");
    !filter.is_empty() && filter.len() <= 65_535 && !filter.contains('\0') && hash && plus
}

/// MQTT 5.0 §4.7.1 and §4.7.2, as one would say them.
fn matches(filter: &str, topic: &str) -> bool {
    let levels = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let hidden = topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    !hidden && level_by_level(&levels(filter), &levels(topic))
}

fn level_by_level(filter: &[String], topic: &[String]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        (None, None) => true,
        (Some((first, [])), _) if first == "#" => true,
        (Some((wanted, filter)), Some((level, topic))) => {
            (wanted == "+" || wanted == level) && level_by_level(filter, topic)
        }
        _ => false,
    }
}
