//! Against librdkafka's own mock cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::mpsc::channel;
use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use super::*;

pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
pub(crate) const POLL: Duration = Duration::from_millis(100);
pub(crate) const TOPIC: &str = "fleet";

pub(crate) struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    /// Each partition has so many records: its number and theirs as the payload.
    pub(crate) fn new(partitions: i32, records: usize) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        let cluster = Self(cluster);
        let producer = cluster.producer();
        for (partition, number) in (0..partitions).flat_map(|p| (0..records).map(move |n| (p, n))) {
            let (payload, time) = (format!("{partition} {number}"), number as i64 + 1);
            let record = BaseRecord::to(TOPIC).partition(partition).key("k").payload(&payload).timestamp(time);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
        cluster
    }

    fn producer(&self) -> BaseProducer {
        self.producer_with("none")
    }

    pub(crate) fn producer_with(&self, compression: &str) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.0.bootstrap_servers()).set("compression.type", compression);
        config.create().unwrap()
    }

    pub(crate) fn consumer(&self) -> BatchConsumer<DefaultConsumerContext> {
        consumer(&self.0.bootstrap_servers())
    }
}

fn consumer(brokers: &str) -> BatchConsumer<DefaultConsumerContext> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "g")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    BatchConsumer::new(consumer).unwrap()
}

fn partitions(count: i32) -> Vec<(String, i32)> {
    (0..count).map(|partition| (TOPIC.to_owned(), partition)).collect()
}

/// Assigns the partitions, each from there.
pub(crate) fn assign(consumer: &BatchConsumer<DefaultConsumerContext>, count: i32, from: i64) {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions(count) {
        list.add_partition_offset(&topic, partition, Offset::Offset(from)).unwrap();
    }
    consumer.gather(&partitions(count));
    consumer.assign(&list).unwrap();
    consumer.gather(&partitions(count));
}

/// Partition and offset of the next so many records.
fn take(consumer: &BatchConsumer<DefaultConsumerContext>, count: usize) -> Vec<(i32, i64)> {
    let (mut came, began) = (Vec::new(), Instant::now());
    while came.len() < count {
        assert!(began.elapsed() < DEADLINE, "{} of {count} records came", came.len());
        assert!(consumer.poll(Duration::ZERO).is_none(), "nothing but events comes by the consumer's own queue");
        consumer.read(POLL, count - came.len(), |read| {
            if let Ok(record) = read {
                assert_eq!(
                    record.payload().unwrap(),
                    format!("{} {}", record.partition(), record.offset()).as_bytes()
                );
                came.push((record.partition(), record.offset()));
            }
        });
    }
    came
}

fn of_one(offsets: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    offsets.map(|offset| (0, offset)).collect()
}

/// Guarantees: every record of every partition comes once, in the order of its partition, with all that it has; no call gives more than was asked
/// for.
#[test]
fn every_record_once() {
    let cluster = Cluster::new(3, 700);
    let consumer = cluster.consumer();
    assign(&consumer, 3, 0);
    let came = take(&consumer, 3 * 700);
    for partition in 0..3 {
        let of_it = came.iter().filter(|(number, _)| *number == partition).map(|(_, offset)| *offset);
        assert!(of_it.eq(0..700));
    }
    assign(&consumer, 1, 41);
    let mut most = 0;
    while most == 0 {
        most = consumer.read(POLL, 7, |read| {
            let Ok(record) = read else { return };
            let key: &[u8] = b"k";
            assert_eq!((record.topic(), record.key()), (TOPIC, Some(key)));
            assert_eq!(record.timestamp(), Timestamp::CreateTime(record.offset() + 1));
            assert!(record.headers().is_none() && record.topic_address() != 0);
        });
    }
    assert!(most <= 7, "{most}");
    assert_eq!(consumer.read(POLL, 0, |_| panic!("nothing was asked for")), 0);
}

/// Guarantees: what was fetched before a pause, a seek or another assignment never comes after it, and no record is left out by it.
#[test]
fn nothing_of_before() {
    let cluster = Cluster::new(1, 1_000);
    let consumer = cluster.consumer();
    assign(&consumer, 1, 0);
    assert_eq!(take(&consumer, 10), of_one(0..10));
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    for next in [10, 15, 20] {
        consumer.pause(&list).unwrap();
        assert_eq!(consumer.read(Duration::ZERO, MOST, |_| panic!("it is paused")), 0);
        consumer.resume(&list).unwrap();
        assert_eq!(take(&consumer, 5), of_one(next..next + 5));
    }
    for to in [500, 3, 990] {
        consumer.seek(TOPIC, 0, Offset::Offset(to), DEADLINE).unwrap();
        assert_eq!(take(&consumer, 5), of_one(to..to + 5));
    }
    for to in [7, 300] {
        consumer.unassign().unwrap();
        assert_eq!(consumer.read(Duration::ZERO, MOST, |_| panic!("nothing is assigned")), 0);
        assign(&consumer, 1, to);
        assert_eq!(take(&consumer, 5), of_one(to..to + 5));
    }
}

/// Guarantees: what a partition has to say beside records comes in its place among them, and takes the place of none: a pause after it leaves no record
/// out.
#[test]
fn the_end_of_a_partition() {
    let cluster = Cluster::new(1, 3);
    let consumer = cluster.consumer();
    assign(&consumer, 1, 0);
    let (mut said, began) = (Vec::new(), Instant::now());
    while said.len() < 4 {
        assert!(began.elapsed() < DEADLINE, "{said:?}");
        consumer.read(POLL, MOST, |read| said.push(read.map(|record| record.offset())));
    }
    assert_eq!(said, [Ok(0), Ok(1), Ok(2), Err(KafkaError::PartitionEOF(0))]);

    // To librdkafka that was offset 3.
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    consumer.pause(&list).unwrap();
    let producer = cluster.producer();
    for number in 3..6 {
        let payload = format!("0 {number}");
        producer.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&payload)).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    consumer.resume(&list).unwrap();
    assert_eq!(take(&consumer, 3), of_one(3..6));
}

/// Guarantees: an event ends a wait for records.
#[test]
fn an_event_ends_a_wait() {
    let cluster = Cluster::new(1, 0);
    let consumer = cluster.consumer();
    let began = Instant::now();
    // The group gives the partition to it, which is an event.
    consumer.subscribe(&[TOPIC]).unwrap();
    while !consumer.has_events() {
        consumer.read(2 * DEADLINE, MOST, |_| panic!("there is no record"));
    }
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(consumer.poll(Duration::ZERO).is_none());
}

/// Guarantees: a consumer ends although records wait to be read, and others were taken and not looked at.
#[test]
fn it_ends_with_records_unread() {
    let cluster = Cluster::new(2, 500);
    let (brokers, (ended, end)) = (cluster.0.bootstrap_servers(), channel());
    // Not joined: where it did not end, this says so.
    std::thread::spawn(move || {
        let consumer = consumer(&brokers);
        assign(&consumer, 2, 0);
        take(&consumer, 3);
        let (mut batch, began) = (Batch::default(), Instant::now());
        while batch.is_empty() {
            assert!(began.elapsed() < DEADLINE);
            batch.fill(&consumer.records, POLL, 20);
        }
        assert!(batch.next().is_some());
        drop(batch);
        drop(consumer);
        ended.send(()).unwrap();
    });
    end.recv_timeout(DEADLINE).expect("the end of a consumer");
}
