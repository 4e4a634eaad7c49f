//! Against librdkafka's own mock cluster, which keeps groups, offsets and generations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod begins;
mod exact;
mod garbled;
mod group;
mod range;
mod together;

use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidegate_config::{
    KafkaSource as Settings, KafkaStart, LaneBy, RecordHeaders, RecordsBy, Secret, TimeFrom, TopicFrom,
};
use tidegate_model::{Books, Logs, Marks, Outcome, ParcelLimits, Phase, Span, State};

use super::consumer::REVOKE_WAIT;
use super::{KafkaLogs, KafkaSource};
use crate::servers_run::used;
use crate::testing::{DEADLINE, Got, Host, payloads, settled};

/// Payload, key and header of a record.
type Record<'a> = (Option<String>, Option<&'a str>, Option<(&'a str, &'a str)>);

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn new(partitions: i32) -> Self {
        used("Kafka: librdkafka's mock cluster");
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("fleet", partitions, 1).unwrap();
        Self(cluster)
    }

    fn settings(&self) -> Settings {
        Settings {
            brokers: self.0.bootstrap_servers(),
            group: "hosts".into(),
            topics: vec!["fleet".into()],
            topic_from: TopicFrom::Topic,
            time_from: TimeFrom::Arrival,
            headers: RecordHeaders::Kept,
            lane_by: RecordsBy::Topics(LaneBy::Topic),
            start: KafkaStart::Earliest,
            offsets: tidegate_config::Offsets::Group,
            journal: tidegate_config::Journal::Off,
            max_in_flight: 10_000,
            // The mock cluster ends every rebalance but the first only when a session could have timed out.
            client: [("session.timeout.ms", "2500"), ("heartbeat.interval.ms", "300")]
                .map(|(key, value)| (key.to_owned(), Secret::new(value)))
                .into(),
        }
    }

    /// Sends these payloads to one partition, in order, and waits until the cluster has them.
    fn produce(&self, partition: i32, numbers: std::ops::Range<u32>) {
        let records = numbers.map(|n| (Some(number(n)), None, None)).collect::<Vec<_>>();
        self.produce_records(partition, &records);
    }

    /// What the group has committed of the first partition.
    fn committed(&self) -> Offset {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", "hosts")
            .create()
            .unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition("fleet", 0);
        reader.committed_offsets(asked, DEADLINE).unwrap().elements()[0].offset()
    }

    /// Sets a group that nobody has joined yet to this offset of the first partition.
    fn commit(&self, group: &str, offset: i64) {
        let writer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("fleet", 0, Offset::Offset(offset)).unwrap();
        writer.commit(&list, CommitMode::Sync).unwrap();
    }

    fn produce_records(&self, partition: i32, records: &[Record<'_>]) {
        self.produce_to("fleet", partition, records);
    }

    fn produce_to(&self, topic: &str, partition: i32, records: &[Record<'_>]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        for (payload, key, header) in records {
            let mut record = BaseRecord::<str, String>::to(topic).partition(partition);
            if let Some(payload) = payload {
                record = record.payload(payload);
            }
            if let Some(key) = key {
                record = record.key(*key);
            }
            if let Some((key, value)) = header {
                record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(*value) }));
            }
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
    }
}

fn number(n: u32) -> String {
    format!("{n:06}")
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(number).collect()
}

/// Parcels of `rows` records, so that they can be settled apart.
fn start(settings: Settings, rows: usize) -> Host {
    Host::with(KafkaSource::new(settings), 1, 1_000, ParcelLimits { rows, bytes: 1 << 20 })
}

/// Guarantees: after a restart, what was settled without a gap is not read again, and everything from the first open
/// record on is.
#[tokio::test(flavor = "multi_thread")]
async fn low_water_mark_survives_a_restart() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..20);
    let mut first = start(cluster.settings(), 5);
    let (_, mut parcels) = first.hold(20).await;
    let open = parcels.remove(1);
    parcels.into_iter().rev().for_each(settled);
    first.close().await;
    drop(open);

    let mut second = start(cluster.settings(), 5);
    assert_eq!(payloads(&second.settle(15).await), numbers(5..20));
    second.close().await;

    let mut third = start(cluster.settings(), 5);
    cluster.produce(0, 20..21);
    assert_eq!(payloads(&third.settle(1).await), numbers(20..21));
    third.close().await;
}

/// Guarantees: records given back by the lanes are read again by the running source, marked as repeated, and then count as
/// any other.
#[tokio::test(flavor = "multi_thread")]
async fn returned_is_read_again() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..20);
    let mut host = start(cluster.settings(), 5);
    let (_, mut parcels) = host.hold(20).await;
    settled(parcels.remove(0));
    parcels.remove(1).ack.resolve(Outcome::Returned);
    let again = host.settle(15).await;
    assert_eq!(payloads(&again), numbers(5..20));
    assert!(again.iter().all(|got| got.marks.has(Marks::REDELIVERED)));
    cluster.produce(0, 20..30);
    let new = host.settle(10).await;
    assert_eq!(payloads(&new), numbers(20..30));
    assert!(!new.iter().any(|got| got.marks.has(Marks::REDELIVERED)));
    // Those of before the rewind settle late, and mean nothing.
    parcels.into_iter().for_each(settled);
    host.close().await;

    let mut next = start(cluster.settings(), 5);
    cluster.produce(0, 30..31);
    assert_eq!(payloads(&next.settle(1).await), numbers(30..31));
    next.close().await;
}

/// Guarantees: when partitions move to a second member, what was in flight is settled and committed before they go, so
/// that each record comes to one of the two, once.
#[tokio::test(flavor = "multi_thread")]
async fn rebalance_hands_over_what_is_settled() {
    let cluster = Cluster::new(4);
    // A machine that is busy for a while loses no member by it: what comes twice then is not what is meant here.
    let settings = || {
        let mut settings = cluster.settings();
        settings.client.insert("session.timeout.ms".to_owned(), Secret::new("10000"));
        settings
    };
    (0..4).for_each(|partition| cluster.produce(partition, partition as u32 * 100..partition as u32 * 100 + 50));
    let mut one = start(settings(), 10);
    let (got, held) = one.hold(200).await;
    assert_eq!(payloads(&got).len(), 200);
    let began = Instant::now();
    let mut two = start(settings(), 10);
    two.until("the second member is in the group", |host| host.inlet.health().state() == State::Up).await;
    // The first member is asked to give up partitions, and waits for these; not for ever, since the group waits with it.
    held.into_iter().for_each(settled);
    let in_time = began.elapsed() < REVOKE_WAIT / 2;

    // Records go on coming until both members have had some: then the partitions have moved.
    let (mut from_one, mut from_two) = (Vec::new(), Vec::new());
    let mut again = Vec::new();
    let mut take = |got: Vec<Got>, to: &mut Vec<Got>| {
        let (new, old): (Vec<Got>, Vec<Got>) = got.into_iter().partition(|got| got.payload >= number(1_000));
        to.extend(new);
        again.extend(old);
    };
    let mut round = 0;
    while from_one.is_empty() || from_two.is_empty() {
        for partition in 0..4_u32 {
            cluster.produce(partition as i32, 1_000 + round * 4 + partition..1_001 + round * 4 + partition);
        }
        round += 1;
        assert!(began.elapsed() < DEADLINE, "the second member got nothing in {round} rounds");
        while from_one.len() + from_two.len() < round as usize * 4 {
            tokio::select! {
                parcel = one.parcel() => { take(one.open(&parcel), &mut from_one); settled(parcel); }
                parcel = two.parcel() => { take(two.open(&parcel), &mut from_two); settled(parcel); }
            }
        }
    }
    from_one.extend(from_two);
    assert_eq!(payloads(&from_one), numbers(1_000..1_000 + round * 4));
    // Where this machine was too slow for the wait, they come again to the next owner, as they should.
    assert!(again.is_empty() || !in_time, "{:?}", payloads(&again));
    one.close().await;
    two.close().await;
}

/// Guarantees: where the group does not take the last commit of partitions that move, they move all the same; who gets them reads again what was not
/// committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_is_not_committed() {
    let cluster = Cluster::new(2);
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1_000];
    cluster.0.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    (0..2).for_each(|partition| cluster.produce(partition, partition as u32 * 10..partition as u32 * 10 + 10));
    let mut one = start(cluster.settings(), 10);
    assert_eq!(payloads(&one.settle(20).await), numbers(0..20));
    let mut two = start(cluster.settings(), 10);
    let again = payloads(&two.settle(10).await);
    assert!(again == numbers(0..10) || again == numbers(10..20), "{again:?}");
    one.close().await;
    two.close().await;
}

/// Guarantees: slow lanes and a small limit hold the cluster back; nothing is lost, repeated or out of order, and no
/// more is in flight than may be.
#[tokio::test(flavor = "multi_thread")]
async fn slow_lanes() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..2_000);
    let settings = Settings { max_in_flight: 50, ..cluster.settings() };
    let mut host = Host::with(KafkaSource::new(settings), 1, 1, ParcelLimits { rows: 10, bytes: 1 << 20 });
    let (_, held) = host.hold(50).await;
    // That time passes is the case here: partitions are paused then, and what was fetched is thrown away.
    tokio::time::sleep(super::consumer::PATIENCE * 3).await;
    assert_eq!(host.inlet.ledger().totals().in_flight, 50);
    assert_eq!(host.anything_waiting(), None);
    held.into_iter().for_each(settled);
    let got: Vec<_> = host.settle(1_950).await.into_iter().map(|got| got.payload).collect();
    let wrong = got.iter().zip(numbers(50..2_000)).position(|(got, expected)| *got != expected);
    assert_eq!(wrong, None);
    host.close().await;
}

/// Guarantees: a cluster that is not there yet does not end the source; health says so, and it works when the cluster
/// comes.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_down_at_start() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..5);
    cluster.0.broker_down(-1).unwrap();
    let mut host = start(cluster.settings(), 5);
    host.until("down", |host| matches!(host.inlet.health().state(), State::Down(why) if why.contains("brokers run")))
        .await;
    cluster.0.broker_up(-1).unwrap();
    assert_eq!(payloads(&host.settle(5).await), numbers(0..5));
    assert_eq!(host.inlet.health().state(), State::Up);
    host.close().await;
}

/// Guarantees: a host can end while the cluster is away, in bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn closes_while_brokers_are_down() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..5);
    let mut host = start(cluster.settings(), 5);
    let (_, held) = host.hold(5).await;
    cluster.0.broker_down(-1).unwrap();
    host.until("down", |host| matches!(host.inlet.health().state(), State::Down(_))).await;
    held.into_iter().for_each(settled);
    host.close().await;
}

/// Guarantees: a host that drains takes nothing more, still commits what settles, and leaves the rest to its successor.
#[tokio::test(flavor = "multi_thread")]
async fn draining() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..10);
    let mut first = start(cluster.settings(), 10);
    let (_, held) = first.hold(10).await;
    first.enter(Phase::Draining);
    cluster.produce(0, 10..20);
    held.into_iter().for_each(settled);
    first.until("what settles is committed", |_| cluster.committed() == Offset::Offset(10)).await;
    assert_eq!(first.anything_waiting(), None);
    assert_eq!(first.inlet.ledger().totals().received, 10);
    first.close().await;

    let mut second = start(cluster.settings(), 10);
    assert_eq!(payloads(&second.settle(10).await), numbers(10..20));
    second.close().await;
}

/// Guarantees: the logical topic is found where it is said to stand, a record without one keeps the Kafka topic's name,
/// key and headers arrive as properties, the headers unless they are left, also where the topic is one too many for this host, and a tombstone is
/// an empty message.
#[tokio::test(flavor = "multi_thread")]
async fn logical_topics_and_properties() {
    let cluster = Cluster::new(1);
    let header = Some(("site", "north"));
    cluster.produce_records(0, &[(Some("84.5".into()), Some("dev/line1/temp"), header), (None, None, None)]);
    let mut host = start(Settings { topic_from: TopicFrom::Key, ..cluster.settings() }, 1);
    let got = host.settle(2).await;
    assert_eq!((got[0].topic.as_str(), got[0].payload.as_str()), ("dev/line1/temp", "84.5"));
    let expected = [("kafka.key", "dev/line1/temp"), ("site", "north")];
    let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(got[0].properties, expected);
    assert_eq!((got[1].topic.as_str(), got[1].payload.as_str()), ("fleet", ""));
    assert_eq!(got[1].properties, [("kafka.tombstone".to_owned(), String::new())]);
    // Only the record itself can say these of it.
    for name in ["kafka.key", "kafka.tombstone"] {
        cluster.produce_records(0, &[(Some("1".into()), None, Some((name, "x")))]);
        assert_eq!(host.settle(1).await[0].properties, []);
    }
    host.close().await;

    let full = Settings { topic_from: TopicFrom::Key, group: "full".into(), ..cluster.settings() };
    let mut host = Host::knowing(0, KafkaSource::new(full), 1, 64, ParcelLimits::default());
    let got = host.settle(2).await;
    assert_eq!((got[0].topic.as_str(), &*got[0].properties), ("!dev/line1/temp", &expected[..]));
    host.close().await;

    let topic_from = TopicFrom::Header("site".into());
    let left = Settings { topic_from, headers: RecordHeaders::Left, group: "another".into(), ..cluster.settings() };
    let mut host = start(left, 1);
    let got = host.settle(2).await;
    assert_eq!((got[0].topic.as_str(), got[0].payload.as_str()), ("north", "84.5"));
    assert_eq!(got[0].properties, [("kafka.key".to_owned(), "dev/line1/temp".to_owned())]);
    host.close().await;
}

/// Guarantees: a setting librdkafka refuses ends the source, named, and without its value.
#[tokio::test(flavor = "multi_thread")]
async fn refused_setting() {
    use tidegate_model::Source as _;
    let cluster = Cluster::new(1);
    let mut settings = cluster.settings();
    settings.client.insert("sasl.mechanisms.typo".into(), Secret::new("hunter2"));
    let host = start(settings.clone(), 1);
    let (_phase, watch) = tokio::sync::watch::channel(Phase::Running);
    let error = Box::new(KafkaSource::new(settings)).run(host.inlet.clone(), watch).await.unwrap_err();
    assert!(error.0.contains("sasl.mechanisms.typo") && !error.0.contains("hunter2"), "{error}");
}

/// Guarantees: a history has the records of all partitions by their times, of the range and of the span, and knows how far it is; one that nobody
/// produces to ends as well.
#[test]
fn a_history_of_all_partitions() {
    let cluster = Cluster::new(3);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.0.bootstrap_servers()).create().unwrap();
    // One partition after the other, so that what comes first from the brokers is not what is oldest; the last has nothing.
    for (partition, times) in [(1, [2_000, 4_000, 6_000]), (0, [1_000, 3_000, 5_000])] {
        for ms in times {
            let payload = ms.to_string();
            let record = BaseRecord::<(), String>::to("fleet").partition(partition).payload(&payload).timestamp(ms);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
    }
    let logs = KafkaLogs::new(cluster.settings());
    let read = |from: &str, to: &str, span: Span| -> Vec<i64> {
        let books = std::sync::Arc::new(Books::new(10));
        let mut past = logs.part(None, from, to).unwrap().open(span, books).unwrap();
        let (mut times, mut done) = (Vec::new(), 0.0);
        while let Some(page) = past.next_page().unwrap() {
            assert!(page.done.is_none_or(|now| now >= done), "it goes on");
            done = page.done.unwrap_or(1.0);
            times.extend(page.messages.received_us.iter().map(|us| us / 1_000_000));
        }
        times
    };
    assert_eq!(read("earliest", "latest", Span::default()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(read("offset:1", "offset:2", Span::default()), [3, 4]);
    assert_eq!(read("latest", "latest", Span::default()), [0; 0]);
    let part = Span { from_us: Some(2_000_000), until_us: Some(5_000_000), ..Span::default() };
    assert_eq!(read("earliest", "latest", part), [2, 3, 4]);
    let other = Span { topics: vec!["other/#".parse().unwrap()], ..Span::default() };
    assert_eq!(read("earliest", "latest", other), [0; 0]);
    for (log, from) in [(Some("secret"), "earliest"), (None, "yesterday"), (None, "offset:-1")] {
        assert!(logs.part(log, from, "latest").is_err(), "{log:?} {from}");
    }
}
