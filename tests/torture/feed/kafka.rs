//! Through Kafka: a producer, and an eye on how far the host has come.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::Work;
use crate::alarm;
use crate::book::{Book, Road};
use crate::stream::message;

/// The host's consumer group.
pub const GROUP: &str = "tidegate";

/// The most records that the host may be behind. The mock brokers drop what is older than 5 MiB or 100,000 records a
/// partition, whether it was read or not; this is a tenth of it.
const BEHIND: u64 = 30_000;

/// How often it is looked how far the host has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Producer {
    work: Work,
    topic: String,
    producer: ThreadedProducer<Reports>,
    group: BaseConsumer,
    partitions: TopicPartitionList,
}

/// Writes into the book what the brokers have taken.
struct Reports(std::sync::Arc<Book>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(_) => self.0.taken(*number, self.0.life()),
            Err((error, _)) => alarm::raise(format!("Kafka did not take message {number}: {error}")),
        }
    }
}

impl Producer {
    pub(super) fn new(work: Work, brokers: &str, topic: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        let mut acknowledged = config.clone();
        acknowledged.set("acks", "all").set("linger.ms", "5");
        let producer = acknowledged.create_with_context(Reports(work.book.clone())).expect("a Kafka producer");
        let group: BaseConsumer = config.set("group.id", GROUP).create().expect("a Kafka consumer");
        let metadata = group.fetch_metadata(Some(topic), PATIENCE).expect("the Kafka brokers should answer");
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            partitions.add_partition(topic, partition.id());
        }
        Self { work, topic: topic.to_owned(), producer, group, partitions }
    }

    pub(super) fn run(&mut self) {
        let (mut committed, mut looked) = (0, Instant::now());
        loop {
            let ended = self.work.end.load(std::sync::atomic::Ordering::SeqCst);
            let room = BEHIND.saturating_sub(self.work.pace.made - committed);
            if !ended {
                for _ in 0..self.work.pace.owed().min(room) {
                    self.produce();
                }
            } else if committed == self.work.pace.made {
                return;
            }
            if looked.elapsed() > LOOK_EVERY {
                (committed, looked) = (self.committed(), Instant::now());
            }
            // The pace of the load, not a wait for anything.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn produce(&mut self) {
        let number = self.work.book.open(Road::Kafka);
        let message = message(number);
        let mut record =
            BaseRecord::with_opaque_to(&self.topic, Box::new(number)).key(&message.topic).payload(&message.payload);
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            record = back;
            self.producer.flush(Timeout::Never).expect("Kafka should take what is queued");
        }
        self.work.pace.made += 1;
    }

    /// How many records the host's group has done with, by the brokers' word.
    fn committed(&self) -> u64 {
        let offsets = self.group.committed_offsets(self.partitions.clone(), PATIENCE);
        let offsets = offsets.expect("the Kafka brokers should tell what was committed");
        let offset = |offset: Offset| if let Offset::Offset(number) = offset { number } else { 0 };
        offsets.elements().iter().map(|element| offset(element.offset()) as u64).sum()
    }
}
