//! A Kafka cluster: librdkafka's own mock in this process, or Apache Kafka as a server of one's own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::machine::{free_port, root, runtime};
use crate::message::Message;
use crate::server::Server;
use crate::wait::{DEADLINE, wait_for};

/// Brokers, and a producer to them that keeps the ledger.
pub struct Kafka {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
    sent: Vec<Message>,
    brokers: Brokers,
}

enum Brokers {
    Mock(MockCluster<'static, DefaultProducerContext>),
    /// The server before its directory, so that it ends first.
    Apache {
        address: String,
        _server: Server,
        _directory: TempDir,
    },
}

impl Brokers {
    fn address(&self) -> String {
        match self {
            Brokers::Mock(cluster) => cluster.bootstrap_servers(),
            Brokers::Apache { address, .. } => address.clone(),
        }
    }
}

impl Kafka {
    /// A mock broker with one topic.
    pub fn start(topic: &str, partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        Self::to(Brokers::Mock(cluster), topic, partitions)
    }

    /// Apache Kafka with one topic. None, said plainly, where there is no Java, or Kafka was not fetched: that takes Maven, and a machine
    /// without it is no failure.
    pub fn apache(topic: &str, partitions: i32) -> Option<Self> {
        let libraries = root().join("target/dev/kafka/libs");
        if !root().join("target/dev/kafka/.done").exists() || !Path::new("/usr/bin/java").exists() {
            eprintln!(
                "SKIPPED: Apache Kafka is not here (Java and Maven fetch it: deploy/dev/setup.sh); the mock cluster alone was used"
            );
            return None;
        }
        println!("Kafka: Apache Kafka, a server of its own");
        let directory = TempDir::new().unwrap();
        let (port, controller) = (free_port(), free_port());
        let config = directory.path().join("server.properties");
        let data = directory.path().join("data");
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let java = |class: &str| {
            let mut java = Command::new("java");
            java.args(["-Xmx384m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
            java.arg(format!("{}/*", libraries.display())).arg(class).current_dir(directory.path());
            java
        };
        let id = "MkU3OEVBNTcwNTJENDM2Qg";
        let formatted =
            java("kafka.tools.StorageTool").args(["format", "-t", id, "-c"]).arg(&config).output().unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let log = directory.path().join("kafka.log");
        let mut server = Server::spawn("Apache Kafka", java("kafka.Kafka").arg(&config), &log);
        let address = format!("127.0.0.1:{port}");
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &address).create().unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        wait_for("Apache Kafka to make a topic", DEADLINE, || {
            assert!(server.ended().is_none(), "Apache Kafka ended; {}", server.tail());
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
            let made =
                runtime().block_on(admin.create_topics([&new], &options)).map_err(|error| error.to_string())?;
            match made.first() {
                Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
                other => Err(format!("{other:?}; {}", server.tail())),
            }
        });
        let brokers = Brokers::Apache { address, _server: server, _directory: directory };
        Some(Self::to(brokers, topic, partitions))
    }

    fn to(brokers: Brokers, topic: &str, partitions: i32) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers.address())
            .set("acks", "all")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        Self { producer, topic: topic.to_owned(), partitions, sent: Vec::new(), brokers }
    }

    /// What a group has committed of each partition; 0 for nothing yet.
    pub fn committed(&self, group: &str) -> Vec<i64> {
        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).set("group.id", group).create().unwrap();
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partitions {
            asked.add_partition(&self.topic, partition);
        }
        let offset = |offset| if let Offset::Offset(number) = offset { number } else { 0 };
        let found = reader.committed_offsets(asked, DEADLINE).unwrap();
        found.elements().iter().map(|element| offset(element.offset())).collect()
    }

    /// Sets one setting of its topic. Apache Kafka has settings.
    pub fn set(&self, name: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        let topic = AlterConfig::new(ResourceSpecifier::Topic(&self.topic)).set(name, value);
        let set = runtime().block_on(admin.alter_configs([&topic], &AdminOptions::new())).unwrap();
        assert!(set.iter().all(Result::is_ok), "{set:?}");
    }

    /// Takes the mock cluster's broker away, or brings it back.
    pub fn away(&self, away: bool) {
        let Brokers::Mock(cluster) = &self.brokers else { panic!("only the mock cluster goes and comes on command") };
        if away { cluster.broker_down(1).unwrap() } else { cluster.broker_up(1).unwrap() }
    }

    /// As clients name it.
    pub fn brokers(&self) -> String {
        self.brokers.address()
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
