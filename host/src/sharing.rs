//! Rules with a state behind a shared subscription: whether a host sees all of what they are about.
//!
//! A broker deals the messages of `$share/…` out over hosts, mostly in turn: one host then sees that a value is too high, and another that it is well again. A rule
//! that remembers one message until the next is wrong there, without any error. No I/O; for `tidegate check`, and for the start of a host.

use std::collections::BTreeMap;

use tidegate_config::{LaneBy, MqttSource, Name, ShareBy, SourceSettings};
use tidegate_model::TopicFilter;

/// What the state of a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateOf {
    /// It has none.
    Nothing,
    Series,
    Partition,
    /// The whole node.
    Node,
}

/// What is wrong with a rule behind a shared subscription, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scattered {
    /// It would raise and clear alerts wrongly, as far as anybody knows.
    Wrong(String),
    /// It is right about what this host sees, which is not all.
    Partial(String),
}

/// Whether `rule`, with a state of that kind, would see only a part of what it is about. The first source that does that to it is told.
pub fn scattered(
    sources: &BTreeMap<Name, SourceSettings>,
    rule: &str,
    state: StateOf,
    topics: &[TopicFilter],
) -> Option<Scattered> {
    sources.iter().find_map(|(name, source)| match source {
        SourceSettings::Mqtt(source) => scattered_by(name, source, rule, state, topics),
        SourceSettings::Kafka(_) => None,
    })
}

fn scattered_by(
    name: &Name,
    source: &MqttSource,
    rule: &str,
    state: StateOf,
    topics: &[TopicFilter],
) -> Option<Scattered> {
    let group = source.share.as_ref()?;
    let mut common =
        source.subscriptions.iter().filter(|it| topics.iter().any(|topic| topic.overlaps(&it.filter))).peekable();
    common.peek()?;
    let (whose, whole) = match state {
        StateOf::Nothing => return None,
        StateOf::Series => ("each series", "one of a topic's readings may come to this host and the next to another"),
        StateOf::Partition => ("each partition", "its messages may come to different hosts"),
        StateOf::Node => ("the whole node", "this host sees some of the messages and others the rest"),
    };
    let shares = format!(
        "{rule}: its state belongs to {whose}, and the source `{name}` shares its messages out over the hosts of `{group}`"
    );
    match (source.share_by, state) {
        (ShareBy::OneHost, _) | (ShareBy::Topic, StateOf::Series) => None,
        (ShareBy::Unknown, _) => {
            let by_topic = if state == StateOf::Node {
                ""
            } else {
                "share_by = \"topic\" if the broker gives all messages of a topic to one host (EMQX: hash_topic), "
            };
            Some(Scattered::Wrong(format!(
                "{shares}: {whole}, so that its alerts would be wrong; write {by_topic}share_by = \"one_host\" if no other host is in the group, or run the rule where all messages come: on one host without `share`, or in a group behind Kafka"
            )))
        }
        (ShareBy::Topic, StateOf::Partition) => {
            let several = common.find(|it| it.lane_by != LaneBy::Topic)?;
            Some(Scattered::Partial(format!(
                "{shares}, topic by topic: a partition of `{}` is several topics (`lane_by`), of which this host may have some; remove `lane_by` there, or share by nothing",
                several.filter
            )))
        }
        (ShareBy::Topic, _) => Some(Scattered::Partial(format!(
            "{shares}, topic by topic: it sees the topics of this host only; run it on the one host that gets them all"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use tidegate_config::{Config, ProcessEnv};

    use super::*;

    fn sources(lines: &str) -> BTreeMap<Name, SourceSettings> {
        let text = format!(
            "node = \"n\"\n[sources.mqtt.plant]\nurl = \"mqtt://broker\"\n\
             topics = [\"dev/#\", {{ filter = \"line/#\", lane_by = [1] }}]\n{lines}\n"
        );
        Config::parse(&text, "t.toml", &ProcessEnv).unwrap().sources
    }

    /// What is said of a rule on one topic: nothing, `part` or `wrong`.
    fn said(sources: &BTreeMap<Name, SourceSettings>, state: StateOf, topic: &str) -> &'static str {
        match scattered(sources, "r", state, &[topic.parse().unwrap()]) {
            None => "",
            Some(Scattered::Wrong(why)) => {
                assert!(why.starts_with("r: ") && why.contains("share_by = \"one_host\""), "{why}");
                assert_eq!(why.contains("share_by = \"topic\""), state != StateOf::Node, "{why}");
                "wrong"
            }
            Some(Scattered::Partial(why)) => {
                assert!(why.contains("topic by topic"), "{why}");
                "part"
            }
        }
    }

    /// Guarantees: what a rule remembers is weighed against what the broker deals out by: series stay whole where topics do, partitions where they are
    /// topics, and a node only where it is alone in its group.
    #[test]
    fn by_what_is_remembered() {
        let all = [StateOf::Nothing, StateOf::Series, StateOf::Partition, StateOf::Node];
        for (lines, topic, due) in [
            ("", "dev/a", ["", "", "", ""]),
            ("share = \"g\"", "dev/a", ["", "wrong", "wrong", "wrong"]),
            ("share = \"g\"\nshare_by = \"unknown\"", "#", ["", "wrong", "wrong", "wrong"]),
            ("share = \"g\"\nshare_by = \"topic\"", "dev/+", ["", "", "", "part"]),
            ("share = \"g\"\nshare_by = \"topic\"", "line/#", ["", "", "part", "part"]),
            ("share = \"g\"\nshare_by = \"one_host\"\nconnections = 2", "#", ["", "", "", ""]),
            ("share = \"g\"", "other/#", ["", "", "", ""]),
        ] {
            let sources = sources(lines);
            assert_eq!(all.map(|state| said(&sources, state, topic)), due, "{lines}, on {topic}");
        }
    }
}
