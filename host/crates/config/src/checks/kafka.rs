//! `[sources.kafka.…]` and `[sinks.kafka.…]`.

use std::collections::BTreeMap;

use super::Checker;
use crate::document::Place;
use crate::raw::{
    ClientValue, OneOrMany, RawCompression, RawHeaders, RawKafkaSink, RawKafkaSource, RawMessageKey, RawPointFormat,
    RawRecordsBy, RawStart, RawTimeFrom, RawTogether, RawTopicFrom,
};
use crate::settings::{
    Compression, Journal, KafkaMessages, KafkaSink, KafkaSource, KafkaStart, LaneBy, MessageKey, Offsets,
    PointFormat, RecordHeaders, RecordsBy, Secret, TimeFrom, TopicFrom,
};
use crate::shown::names_secret;

/// The same for a producer.
const OURS_TO_PRODUCE: &[(&str, &str)] = &[
    ("bootstrap.servers", "write it as `brokers`"),
    ("metadata.broker.list", "write it as `brokers`"),
    ("compression.type", "write it as `compression`"),
    ("compression.codec", "write it as `compression`"),
    ("enable.idempotence", "remove it: without it a record that is sent again is stored twice, or out of order"),
    ("acks", "remove it: a record counts as stored when all replicas in sync have it"),
    ("request.required.acks", "remove it: a record counts as stored when all replicas in sync have it"),
    ("partitioner", "remove it: the records of a series go to the partition that Java's clients would choose"),
    ("transactional.id", "remove it: there are no transactions here"),
    ("delivery.report.only.error", "remove it: a write waits for a word on each of its records"),
];

/// Settings of librdkafka that Tidegate makes itself, with the reason. Changing one would lose messages, or be undone.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "write it as `brokers`"),
    ("metadata.broker.list", "write it as `brokers`"),
    ("group.id", "write it as `group`"),
    ("auto.offset.reset", "write it as `start`"),
    ("enable.auto.commit", "remove it: offsets are committed only after their records are stored"),
    ("auto.commit.enable", "remove it: offsets are committed only after their records are stored"),
    (
        "enable.auto.offset.store",
        "remove it: an offset stored when a record is read would lose the record in a crash",
    ),
    ("offset.store.method", "remove it: offsets are kept by the group, where every host finds them"),
    ("partition.assignment.strategy", "remove it: `cooperative-sticky` keeps partitions in work while others move"),
    ("group.protocol", "remove it: handing partitions over is built on the classic protocol"),
    ("enable.partition.eof", "remove it: the end of a partition is not an event here"),
];

impl Checker<'_> {
    pub(super) fn kafka_source(&mut self, place: &Place, raw: RawKafkaSource) -> KafkaSource {
        KafkaSource {
            brokers: self.brokers(place, raw.brokers),
            group: self.required(place, "group", raw.group, "\"tidegate\""),
            topics: self.kafka_topics(place, raw.topics),
            topic_from: self.topic_from(&place.key("topic_from"), raw.topic_from),
            time_from: self.time_from(&place.key("time_from"), raw.time_from),
            headers: match raw.headers {
                None | Some(RawHeaders::Kept) => RecordHeaders::Kept,
                Some(RawHeaders::Left) => RecordHeaders::Left,
            },
            lane_by: self.records_by(place, raw.lane_by),
            start: match raw.start {
                None | Some(RawStart::Earliest) => KafkaStart::Earliest,
                Some(RawStart::Latest) => KafkaStart::Latest,
            },
            offsets: Offsets::Group,
            journal: if raw.journal == Some(true) { Journal::On } else { Journal::Off },
            max_in_flight: self.number(place, "max_in_flight", raw.max_in_flight, 50_000, 1..=1_000_000),
            client: self.client(&place.key("client"), raw.client.unwrap_or_default(), OURS),
        }
    }

    pub(super) fn kafka_sink(&mut self, place: &Place, mut raw: RawKafkaSink) -> KafkaSink {
        let messages = self.kafka_messages(place, &mut raw);
        let sink = KafkaSink {
            messages,
            brokers: self.brokers(place, raw.brokers),
            points: self.kafka_topic(place, "points", raw.points),
            alerts: self.kafka_topic(place, "alerts", raw.alerts),
            dead_letters: self.kafka_topic(place, "dead_letters", raw.dead_letters),
            format: match raw.format {
                None | Some(RawPointFormat::Json) => PointFormat::Json,
                Some(RawPointFormat::Reading) => PointFormat::Reading,
            },
            compression: match raw.compression {
                None | Some(RawCompression::Zstd) => Compression::Zstd,
                Some(RawCompression::Lz4) => Compression::Lz4,
                Some(RawCompression::None) => Compression::None,
                Some(RawCompression::Gzip) => Compression::Gzip,
                Some(RawCompression::Snappy) => Compression::Snappy,
            },
            client: self.client(&place.key("client"), raw.client.unwrap_or_default(), OURS_TO_PRODUCE),
        };
        let KafkaSink { messages, points, alerts, dead_letters, .. } = &sink;
        if messages.is_none() && points.is_none() && alerts.is_none() && dead_letters.is_none() {
            self.error(
                place,
                "this sink would produce nothing",
                "name a topic for `messages`, `points`, `alerts` or `dead_letters`",
            );
        }
        sink
    }

    fn kafka_messages(&mut self, place: &Place, raw: &mut RawKafkaSink) -> Option<KafkaMessages> {
        let topic = self.kafka_topic(place, "messages", raw.messages.take());
        let (from, key) = (raw.messages_from.take(), raw.messages_key.take());
        let keys = [("messages_from", from.is_some()), ("messages_key", key.is_some())];
        for (key, _) in keys.iter().filter(|(_, there)| *there && topic.is_none()) {
            let what = format!("`{key}` says which messages to produce, but not where");
            self.error(&place.key(key), what, "add messages = \"<Kafka topic>\"");
        }
        let from = from.map(|names| {
            let at = place.key("messages_from");
            if names.is_empty() {
                self.error(&at, "`messages_from` is empty", "name a source, or remove it for all of them");
            }
            names.iter().enumerate().map(|(i, name)| self.name(&at.item(i), name)).collect()
        });
        let key = match key {
            None | Some(RawMessageKey::Topic) => MessageKey::Topic,
            Some(RawMessageKey::Lane) => MessageKey::Lane,
            Some(RawMessageKey::Record) => MessageKey::Record,
            Some(RawMessageKey::None) => MessageKey::None,
        };
        topic.map(|topic| KafkaMessages { topic, from, key })
    }

    fn time_from(&mut self, at: &Place, raw: Option<RawTimeFrom>) -> TimeFrom {
        match raw {
            None | Some(RawTimeFrom::Arrival) => TimeFrom::Arrival,
            Some(RawTimeFrom::Record) => TimeFrom::Record,
            Some(RawTimeFrom::Header(name)) => {
                if name.is_empty() {
                    self.error(
                        at,
                        "the header has no name",
                        "write time_from = { header = \"tidegate.received_us\" }",
                    );
                }
                TimeFrom::Header(name)
            }
        }
    }

    fn kafka_topic(&mut self, place: &Place, key: &str, raw: Option<String>) -> Option<String> {
        if let Some(topic) = &raw
            && !is_kafka_topic(topic)
        {
            self.error(
                &place.key(key),
                format!("`{topic}` is no Kafka topic"),
                "use 1 to 249 letters, digits, `.`, `_` and `-`",
            );
        }
        raw
    }

    fn brokers(&mut self, place: &Place, raw: Option<OneOrMany>) -> String {
        let at = place.key("brokers");
        let list: Vec<String> = match raw {
            None => {
                self.missing(place, "brokers", "\"127.0.0.1:9092\"");
                return String::new();
            }
            Some(OneOrMany::One(text)) => text.split(',').map(|b| b.trim().to_owned()).collect(),
            Some(OneOrMany::Many(list)) => list.iter().map(|b| b.trim().to_owned()).collect(),
        };
        if list.is_empty() {
            self.error(&at, "`brokers` is empty", "write brokers = \"127.0.0.1:9092\"");
        }
        for broker in &list {
            // `host:port` or `[v6]:port`; librdkafka also takes a bare host, with port 9092.
            let (host, port) = match broker.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    (host, port.parse::<u16>().is_ok())
                }
                Some(_) => (broker.as_str(), false),
                None => (broker.as_str(), true),
            };
            if host.is_empty() || !port || broker.contains("//") || broker.contains(char::is_whitespace) {
                self.error(&at, format!("`{broker}` is no broker"), "write host:port, as in \"127.0.0.1:9092\"");
            }
        }
        list.join(",")
    }

    fn kafka_topics(&mut self, place: &Place, raw: Option<Vec<String>>) -> Vec<String> {
        let at = place.key("topics");
        let Some(topics) = raw else {
            self.missing(place, "topics", "[\"telemetry\"]");
            return Vec::new();
        };
        if topics.is_empty() {
            self.error(&at, "`topics` is empty", "name at least one, as in [\"telemetry\"]");
        }
        for (i, topic) in topics.iter().enumerate() {
            if !is_kafka_topic(topic) && !topic.starts_with('^') {
                self.error(
                    &at.item(i),
                    format!("`{topic}` is no Kafka topic"),
                    "use letters, digits, `.`, `_` and `-`; a regular expression begins with `^`",
                );
            }
        }
        topics
    }

    fn records_by(&mut self, place: &Place, raw: Option<RawRecordsBy>) -> RecordsBy {
        match raw {
            None | Some(RawRecordsBy::Named(RawTogether::Topic)) => RecordsBy::Topics(LaneBy::Topic),
            Some(RawRecordsBy::Named(RawTogether::Key)) => RecordsBy::Key,
            Some(RawRecordsBy::Named(RawTogether::Partition)) => RecordsBy::Partition,
            Some(RawRecordsBy::Levels(levels)) => RecordsBy::Topics(self.lane_by(place, Some(levels))),
        }
    }

    fn topic_from(&mut self, at: &Place, raw: Option<RawTopicFrom>) -> TopicFrom {
        match raw {
            None | Some(RawTopicFrom::Topic) => TopicFrom::Topic,
            Some(RawTopicFrom::Key) => TopicFrom::Key,
            Some(RawTopicFrom::Header(name)) => {
                if name.is_empty() {
                    self.error(at, "the header has no name", "write topic_from = { header = \"topic\" }");
                }
                TopicFrom::Header(name)
            }
            Some(RawTopicFrom::Field(pointer)) => {
                if !pointer.starts_with('/') {
                    let todo = format!("begin it with `/`, as in {{ field = \"/{pointer}\" }}");
                    self.error(at, format!("`{pointer}` is no JSON pointer (RFC 6901)"), todo);
                }
                TopicFrom::Field(pointer)
            }
        }
    }

    fn client(
        &mut self,
        place: &Place,
        raw: BTreeMap<String, ClientValue>,
        ours: &[(&str, &str)],
    ) -> BTreeMap<String, Secret> {
        let mut client = BTreeMap::new();
        for (key, value) in raw {
            let at = place.key(&key);
            if let Some((_, reason)) = ours.iter().find(|(name, _)| *name == key) {
                self.error(&at, format!("`{key}` is set by Tidegate itself"), *reason);
                continue;
            }
            let secret = names_secret(&key);
            let value = match value {
                ClientValue::Text(text) => {
                    if secret {
                        let todo = format!("write \"{key}\" = {{ file = \"…\" }} or {{ env = \"…\" }}");
                        self.warn(&at, format!("the value of `{key}` stands in the file"), todo);
                    }
                    Some(Secret::new(text))
                }
                ClientValue::Number(number) => Some(Secret::new(number.to_string())),
                ClientValue::Switch(on) => Some(Secret::new(on.to_string())),
                ClientValue::Kept(kept) => match (kept.file, kept.env) {
                    (Some(file), None) => self.secret_file(&at, &file),
                    (None, Some(variable)) => self.secret_env(&at, &variable),
                    _ => {
                        let what = format!("`{key}` needs either `file` or `env`");
                        self.error(&at, what, "write { file = \"…\" } or { env = \"…\" }");
                        None
                    }
                },
            };
            client.extend(value.map(|value| (key, value)));
        }
        client
    }
}

/// The broker's own rule for names: 1 to 249 of these characters, and neither "." nor "..".
fn is_kafka_topic(topic: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=249).contains(&topic.len()) && topic.chars().all(fits) && topic != "." && topic != ".."
}
