//! Topics that a Kafka sink writes and a Kafka source of the same host reads: what comes back, again and again.

use regex::Regex;

use super::Checker;
use crate::document::Place;
use crate::nearest::suggest;
use crate::settings::{Config, KafkaSink, KafkaSource, Name, SinkSettings, SourceSettings};

/// What librdkafka takes for the port of a broker that has none.
const PORT: &str = ":9092";

impl Checker<'_> {
    /// Messages that a sink produces must come from sources there are, and nothing that it produces may be what a source reads.
    pub(super) fn kafka_loops(&mut self, config: &Config) {
        for (sink_name, sink) in &config.sinks {
            let SinkSettings::Kafka(sink) = sink else { continue };
            let place = Place::default().key("sinks").key("kafka").key(sink_name.as_str());
            let from = sink.messages.iter().flat_map(|messages| messages.from.iter().flatten());
            for (i, name) in from.enumerate() {
                if !config.sources.contains_key(name) {
                    let known: Vec<&str> = config.sources.keys().map(|name| name.as_str()).collect();
                    let at = place.key("messages_from").item(i);
                    self.error(&at, format!("there is no source `{name}`"), suggest(name.as_str(), &known));
                }
            }
            for (name, source) in &config.sources {
                if let SourceSettings::Kafka(source) = source
                    && have_a_broker_in_common(&source.brokers, &sink.brokers)
                {
                    self.kafka_loop(&place, sink, name, source);
                }
            }
        }
    }

    fn kafka_loop(&mut self, place: &Place, sink: &KafkaSink, name: &Name, source: &KafkaSource) {
        let by = |topic: &str| {
            let by = reads(source, topic)?;
            let by = if by == topic { String::new() } else { format!(", by `{by}`") };
            Some(format!("the source `{name}` reads the topic `{topic}`{by}"))
        };
        if let Some(messages) = &sink.messages
            && messages.from.as_ref().is_none_or(|from| from.contains(name))
            && let Some(reads) = by(&messages.topic)
        {
            self.error(
                &place.key("messages"),
                format!("{reads}: each message would come back, again and again"),
                "choose another topic, or leave that source out of `messages_from`",
            );
        }
        let another = "choose another topic, or one that no source of this host reads";
        if let Some(reads) = sink.points.as_deref().and_then(by) {
            let what = format!("{reads}: each point would come back as a message, again and again");
            self.error(&place.key("points"), what, another);
        }
        if let Some(reads) = sink.dead_letters.as_deref().and_then(by) {
            let what = format!("{reads}: each dead letter would come back, and end as another");
            self.error(&place.key("dead_letters"), what, another);
        }
        if let Some(reads) = sink.alerts.as_deref().and_then(by) {
            // To have alerts as points may be what somebody wants.
            self.warn(
                &place.key("alerts"),
                format!("{reads}: a rule that raises an alert for an alert would do so again and again"),
                "choose another topic, unless no rule does",
            );
        }
    }
}

fn have_a_broker_in_common(one: &str, other: &str) -> bool {
    let address = |broker: &str| {
        let broker = broker.trim().to_ascii_lowercase();
        if broker.ends_with(']') || !broker.contains(':') { broker + PORT } else { broker }
    };
    one.split(',').any(|broker| other.split(',').any(|other| address(other) == address(broker)))
}

/// By which of its topics, if any, a source reads a topic. A regular expression that librdkafka knows and we do not is none.
fn reads<'s>(source: &'s KafkaSource, topic: &str) -> Option<&'s str> {
    let matches = |pattern: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(topic));
    let passed_by = source.client.get("topic.blacklist").map_or("", |patterns| patterns.reveal());
    if passed_by.split(',').any(|pattern| !pattern.is_empty() && matches(pattern)) {
        return None;
    }
    let by = |pattern: &&String| pattern.as_str() == topic || pattern.starts_with('^') && matches(pattern);
    source.topics.iter().find(by).map(String::as_str)
}
