//! The Kafka sink against librdkafka's own mock cluster, which speaks the protocol and fails on command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidegate_config::{Compression, KafkaMessages, KafkaSink, MessageKey, PointFormat, Secret};
use tidegate_model::{Books, DeadLetter, Delivery, Marks, Messages, OriginIs, Properties, Sink, SinkError, Stage};
use tidegate_sinks::Kafka;

use crate::{PATIENCE, alerts, points, through_units};

pub(crate) struct Cluster(pub(crate) MockCluster<'static, DefaultProducerContext>);

/// Key, payload and headers of a record.
pub(crate) type Record = (String, String, BTreeMap<String, String>);

impl Cluster {
    pub(crate) fn start() -> Self {
        crate::servers_run::used("Kafka: librdkafka's mock cluster");
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["points", "alerts", "letters", "raw"] {
            cluster.create_topic(topic, 3, 1).unwrap();
        }
        Self(cluster)
    }

    pub(crate) fn settings(&self) -> KafkaSink {
        KafkaSink {
            brokers: self.0.bootstrap_servers(),
            messages: None,
            points: Some("points".to_owned()),
            alerts: Some("alerts".to_owned()),
            dead_letters: None,
            format: PointFormat::Reading,
            compression: Compression::Lz4,
            client: [("message.timeout.ms", "30000"), ("message.max.bytes", "100000")]
                .map(|(key, value)| (key.to_owned(), Secret::new(value)))
                .into(),
        }
    }

    /// All there is in a topic, the records of each partition in order.
    pub(crate) fn records(&self, topic: &str) -> Vec<Record> {
        self.partitions(topic).into_values().flatten().collect()
    }

    /// The same by partition.
    pub(crate) fn partitions(&self, topic: &str) -> BTreeMap<i32, Vec<Record>> {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        self.read(topic, |record| {
            let headers = record.headers().into_iter().flat_map(Headers::iter);
            let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
            (text(record.key()), text(record.payload()), headers)
        })
    }

    /// The same, as `of` sees a record.
    fn read<T>(&self, topic: &str, of: impl Fn(&BorrowedMessage<'_>) -> T) -> BTreeMap<i32, Vec<T>> {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", format!("{:x}", fastrand::u64(..)))
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "false")
            .create()
            .unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        let mut expected = 0;
        for partition in 0..3 {
            let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE).unwrap();
            expected += high - low;
            list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        let mut all: BTreeMap<i32, Vec<T>> = BTreeMap::new();
        for _ in 0..expected {
            let record = reader.poll(PATIENCE).expect("what the watermarks promise").unwrap();
            all.entry(record.partition()).or_default().push(of(&record));
        }
        all
    }
}

/// `rows` points of seven series, numbered from `from` on by value and millisecond.
pub(crate) fn numbered(books: &Books, from: i64, rows: i64) -> Arc<Delivery> {
    let topics: Vec<String> = (0..7).map(|i| format!("dev/tag{i}")).collect();
    let rows: Vec<_> = (from..from + rows)
        .map(|i| (topics[i as usize % 7].as_str(), Some("°C"), i * 1_000, i as f64, None))
        .collect();
    Arc::new(points(books, &rows))
}

/// The values of each series, in the order in which they stand in the topic.
pub(crate) fn values(records: &[Record]) -> BTreeMap<&str, Vec<i64>> {
    let mut by_key: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (key, payload, _) in records {
        let json: serde_json::Value = serde_json::from_str(payload).unwrap();
        by_key.entry(key).or_default().push(json["v"].as_f64().unwrap() as i64);
    }
    by_key
}

/// Guarantees: every point is a record with its series as the key, once, the records of a series in one partition in order, over several
/// writes; an alert tells in its headers what it is; a dead letter is copied when asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_keyed_and_in_order() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut settings = cluster.settings();
    settings.dead_letters = Some("letters".to_owned());
    let mut sink = Kafka::new(settings, Arc::clone(&books));
    assert!(sink.wants().points && sink.wants().alerts && sink.wants().dead_letters);
    let letter = DeadLetter {
        source: "plant".into(),
        topic: "dev/bad".into(),
        received_us: 0,
        marks: 0,
        payload: b"no".to_vec(),
        properties: Vec::new(),
        stage: Stage::Decode,
        rule: None,
        module: None,
        reason: "bad".into(),
        backtrace: None,
    };
    let letters = Arc::new(Delivery { dead_letters: vec![letter], ..Delivery::default() });
    let written =
        sink.write(&[numbered(&books, 0, 3_000), alerts(7, 1), numbered(&books, 3_000, 500), letters]).await;
    let written = written.unwrap();
    assert_eq!((written.points, written.alerts, written.rejected.len()), (3_500, 1, 0));
    assert_eq!(sink.write(&[numbered(&books, 3_500, 1_500)]).await.unwrap().points, 1_500);
    sink.close().await;

    let records = cluster.records("points");
    let by_key = values(&records);
    assert_eq!(by_key.len(), 7);
    for (key, found) in by_key {
        let tag: i64 = key.trim_start_matches("dev/tag").parse().unwrap();
        let expected: Vec<i64> = (0..5_000).filter(|i| i % 7 == tag).collect();
        assert_eq!(found, expected, "{key}");
    }
    assert!(records.iter().any(|(_, payload, _)| payload == r#"{"v":1.0,"q":192,"ts":1703289600001,"u":"°C"}"#));
    let (key, payload, headers) = cluster.records("alerts").remove(0);
    assert_eq!((key.as_str(), payload.contains("too hot")), ("dev/line7/temp", true));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("rule", "overheat"), ("severity", "critical"), ("transition", "raised")]);
    let (key, _, headers) = cluster.records("letters").remove(0);
    assert_eq!((key.as_str(), headers["stage"].as_str()), ("dev/bad", "decode"));
}

/// Guarantees: a record bears the unit of the time when its point was measured, though the series has another by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unit_of_its_time() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(9));
    let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
    sink.write(&through_units(&books)).await.unwrap();
    sink.close().await;
    let records = cluster.records("points");
    let units: Vec<_> = records.iter().map(|(_, payload, _)| payload.split_once(r#""u":"#).unwrap().1).collect();
    assert_eq!(units, [r#""°F"}"#, r#""°C"}"#]);
}

/// Guarantees: messages are records byte for byte, an empty one too, with topic, time, properties and marks; only those of the sources that the
/// sink names; and one that is too large is refused alone, by its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_as_they_came() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let messages =
        KafkaMessages { topic: "raw".to_owned(), from: Some(vec!["plant".parse().unwrap()]), key: MessageKey::Topic };
    let settings = KafkaSink { messages: Some(messages), points: None, alerts: None, ..cluster.settings() };
    let mut sink = Kafka::new(settings, Arc::clone(&books));
    let (a, b) = (books.intern_topic("dev/a", "dev/a").unwrap(), books.intern_topic("dev/b", "dev/b").unwrap());
    let mut origin = Messages::default();
    let row = origin.push(a, 1_703_289_600_000_001, Marks::RETAINED.with(Marks::AT_MOST_ONCE), b"\xf0\x9f\x8c\x8a");
    origin.properties.push(row, "site", b"north");
    origin.push(b, 2_000, Marks::default(), b"");
    origin.push(b, 3_000, Marks::default(), &[b'x'; 200_000]);
    origin.push(b, 4_000, Marks::TRUNCATED, b"not whole");
    origin.push(b, 5_000, Marks::default(), b"of another source");
    let sources = vec![(0, "plant".into()), (4, "other".into())];
    let delivery = Delivery { origin: Arc::new(origin), origin_is: OriginIs::Cargo, sources, ..Delivery::default() };
    let written = sink.write(&[Arc::new(Delivery::default()), Arc::new(delivery)]).await.unwrap();
    let refused: Vec<_> = written.rejected_messages.iter().map(|r| (r.delivery, r.row)).collect();
    assert_eq!((refused, written.rejected.len(), written.points), (vec![(1, 2)], 0, 0));
    let mut records = cluster.records("raw");
    records.sort();
    let headers = |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let first =
        [("tidegate.received_us", "1703289600000001"), ("tidegate.marks", "retained,qos0"), ("site", "north")];
    let expected = [
        ("dev/a".to_owned(), "🌊".to_owned(), headers(&first)),
        ("dev/b".to_owned(), String::new(), headers(&[("tidegate.received_us", "2000")])),
    ];
    assert_eq!(records, expected);
}

/// Guarantees: from one Kafka to another a record keeps its key, byte for byte, and one without a payload has none, which is not an empty one: a compacted
/// topic would keep what was deleted; what stands in the record itself is no header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_as_they_were() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let messages = KafkaMessages { topic: "raw".to_owned(), from: None, key: MessageKey::Record };
    let settings = KafkaSink { messages: Some(messages), points: None, alerts: None, ..cluster.settings() };
    let mut sink = Kafka::new(settings, Arc::clone(&books));
    let topic = books.intern_topic("fleet", "fleet").unwrap();
    let mut origin = Messages::default();
    for (key, payload) in [(Some(&b"\xff1"[..]), Some("x")), (Some(&b"\xff1"[..]), None), (None, Some(""))] {
        let row = origin.push(topic, 1_000, Marks::default(), payload.unwrap_or_default().as_bytes());
        if let Some(key) = key {
            origin.properties.push(row, Properties::KEY, key);
        }
        if payload.is_none() {
            origin.properties.push(row, Properties::TOMBSTONE, b"");
        }
    }
    let sources = vec![(0, "fleet".into())];
    let delivery = Delivery { origin: Arc::new(origin), origin_is: OriginIs::Cargo, sources, ..Delivery::default() };
    sink.write(&[Arc::new(delivery)]).await.unwrap();
    let read = cluster.read("raw", |record| {
        let names: Vec<_> =
            record.headers().into_iter().flat_map(Headers::iter).map(|header| header.key.to_owned()).collect();
        (record.key().map(<[u8]>::to_vec), record.payload().map(<[u8]>::to_vec), names)
    });
    let mut records: Vec<_> = read.into_values().flatten().collect();
    records.sort();
    let names = ["tidegate.received_us", "tidegate.topic"].map(str::to_owned).to_vec();
    let key = Some(b"\xff1".to_vec());
    let expected = [
        (None, Some(Vec::new()), names.clone()),
        (key.clone(), None, names.clone()),
        (key, Some(b"x".to_vec()), names),
    ];
    assert_eq!(records, expected);
}

/// Guarantees: every compression that can be configured is built in, and what it made is read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let all = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (i, compression) in (0..).zip(all) {
        let mut sink = Kafka::new(KafkaSink { compression, ..cluster.settings() }, Arc::clone(&books));
        let written = sink.write(&[numbered(&books, i * 700, 700)]).await;
        assert_eq!(written.map(|written| written.points), Ok(700), "{compression:?}");
        sink.close().await;
    }
    let records = cluster.records("points");
    for (key, found) in values(&records) {
        let mut found = found.clone();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 500, "{key}");
    }
}

/// Guarantees: a record that is larger than the brokers take is refused alone, by its delivery and row; all others are stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_is_refused_alone() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
    let large = vec![b'x'; 200_000];
    let rows = [
        ("a", None, 0, 1.0, None),
        ("a", None, 1, f64::NAN, Some(&large[..])),
        ("a", None, 2, f64::NAN, Some(&b"\xff"[..])),
    ];
    let written = sink.write(&[numbered(&books, 0, 10), Arc::new(points(&books, &rows))]).await.unwrap();
    assert_eq!(written.points, 11);
    let mut refused: Vec<_> = written.rejected.iter().map(|r| (r.delivery, r.row)).collect();
    refused.sort_unstable();
    assert_eq!(refused, [(1, 1), (1, 2)]);
    assert_eq!(cluster.records("points").len(), 11);
}

/// Guarantees: what a broker says of a batch is not taken for a word on each of its records: they are sent one by one, and those that are good
/// are stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_not_its_records() {
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG,
    ] {
        let cluster = Cluster::start();
        let books = Arc::new(Books::new(99));
        let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
        cluster.0.request_errors(RDKafkaApiKey::Produce, &[error]);
        let written = sink.write(&[numbered(&books, 0, 700)]).await.unwrap();
        assert!(written.rejected.is_empty(), "{error:?}: {:?}", written.rejected);
        assert_eq!(written.points, 700, "{error:?}");
        assert_eq!(sink.write(&[numbered(&books, 700, 700)]).await.unwrap().points, 700, "{error:?}");
        for (key, mut found) in values(&cluster.records("points")) {
            // At least once: those of another partition were taken with the first attempt.
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), 200, "{error:?}: {key}");
        }
    }
}

/// Guarantees: brokers that are away make a write fail as `Retry` in bounded time; when they are back, the same write succeeds, and so do later
/// ones, each series in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_are_waited_for() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut settings = cluster.settings();
    settings.client.insert("message.timeout.ms".to_owned(), Secret::new("2000"));
    let mut sink = Kafka::new(settings, Arc::clone(&books));
    while let Err(error) = sink.write(&[numbered(&books, 0, 700)]).await {
        assert!(matches!(error, SinkError::Retry(_)), "{error}");
    }
    cluster.0.broker_down(1).unwrap();
    let next = [numbered(&books, 700, 700)];
    let failed = tokio::time::timeout(PATIENCE, sink.write(&next)).await.unwrap();
    assert!(matches!(&failed, Err(SinkError::Retry(text)) if text.contains("127.0.0.1")), "{failed:?}");
    // A write that is given up in the middle leaves nothing behind that would come later.
    let given_up = tokio::time::timeout(Duration::from_millis(100), sink.write(&next)).await;
    assert!(given_up.is_err());
    cluster.0.broker_up(1).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = sink.write(&next).await {
        assert!(Instant::now() < deadline && matches!(error, SinkError::Retry(_)), "{error}");
    }
    sink.write(&[numbered(&books, 1_400, 700)]).await.unwrap();
    for (key, found) in values(&cluster.records("points")) {
        let mut once = found.clone();
        once.dedup();
        assert!(once.is_sorted() && once.len() == 300, "{key}: {found:?}");
    }
}

/// Guarantees: errors that pass are tried again by the producer, without a record doubled; those that want a person say what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_told_apart() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
    let passing = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.0.request_errors(RDKafkaApiKey::Produce, &passing);
    assert_eq!(sink.write(&[numbered(&books, 0, 700)]).await.unwrap().points, 700);
    for (_, found) in values(&cluster.records("points")) {
        assert_eq!(found.len(), 100);
    }
    cluster.0.topic_error("points", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let mut settings = cluster.settings();
    settings.alerts = None;
    let refused = Kafka::new(settings, Arc::clone(&books)).write(&[numbered(&books, 0, 7)]).await;
    assert!(matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("rights")), "{refused:?}");
}
