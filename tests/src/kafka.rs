//! A Kafka cluster in this process: librdkafka's own mock, which speaks the protocol on 127.0.0.1.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::message::Message;
use crate::wait::DEADLINE;

/// Brokers, and a producer to them that keeps the ledger.
pub struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    topic: String,
    sent: Vec<Message>,
}

impl Kafka {
    /// One broker with one topic.
    pub fn start(topic: &str, partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("acks", "all")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        Self { cluster, producer, topic: topic.to_owned(), sent: Vec::new() }
    }

    /// As clients name it.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces these, each with its topic as the key, and waits until the brokers have them.
    pub fn deliver(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let record = || BaseRecord::to(&self.topic).key(&message.topic).payload(&message.payload);
            while let Err((error, _)) = self.producer.send(record()) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                self.producer.poll(Duration::from_millis(10));
            }
            self.sent.push(message);
        }
        self.producer.flush(DEADLINE).unwrap();
    }

    /// The ledger.
    pub fn sent(&self) -> &[Message] {
        &self.sent
    }
}
