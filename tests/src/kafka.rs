//! A Kafka cluster: librdkafka's own mock in this process, or Apache Kafka as a server of one's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tempfile::TempDir;

use crate::machine::{free_port, has, installed, root, runtime};
use crate::message::Message;
use crate::offsets::{self, GroupOffsets};
use crate::server::Server;
use crate::servers_run::{missing, skipped, used};
use crate::wait::{DEADLINE, wait_for};

/// Brokers, and a producer to them that keeps the ledger.
pub struct Kafka {
    feed: Feed,
    partitions: i32,
    brokers: Brokers,
}

/// A producer to a topic, with a ledger of its own.
pub struct Feed {
    producer: BaseProducer,
    topic: String,
    sent: Vec<Message>,
}

enum Brokers {
    Mock(MockCluster<'static, DefaultProducerContext>),
    /// The server before its directory, so that it ends first.
    Apache {
        address: String,
        secured: Option<Secured>,
        _server: Server,
        directory: TempDir,
    },
}

/// The listener of a server that wants TLS and SCRAM.
struct Secured {
    address: String,
}

/// Who may come by the secured listener.
pub const KAFKA_USER: (&str, &str) = ("tidegate", "a-good-pass%word");

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
        used("Kafka: librdkafka's mock cluster");
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        Self::to(Brokers::Mock(cluster), topic, partitions)
    }

    /// Apache Kafka with one topic. None, said plainly, where there is no Java, or no Maven and Kafka was not fetched before: a machine without them is
    /// no failure. One with both has Kafka as well, or fails where servers are demanded.
    pub fn apache(topic: &str, partitions: i32) -> Option<Self> {
        Self::apache_with(topic, partitions, false)
    }

    /// The same, which [`KAFKA_USER`] reaches by TLS and SCRAM as well ([`Self::secured`]). None, said plainly, without `openssl`, too.
    pub fn apache_secured(topic: &str, partitions: i32) -> Option<Self> {
        installed("openssl", "openssl").then(|| Self::apache_with(topic, partitions, true)).flatten()
    }

    fn apache_with(topic: &str, partitions: i32, secured: bool) -> Option<Self> {
        let libraries = root().join("target/dev/kafka/libs");
        let (name, fetched) = ("Kafka: Apache Kafka (KRaft)", root().join("target/dev/kafka/.done").exists());
        if !has("java") || !fetched && !has("mvn") {
            skipped(name, "no Java, or no Maven to fetch it with; the mock cluster alone was used");
            return None;
        }
        if !fetched {
            missing(
                name,
                "not fetched, although Java and Maven are here: see target/dev/kafka.log, run deploy/dev/setup.sh",
            );
            return None;
        }
        used(name);
        let directory = TempDir::new().unwrap();
        let (port, controller) = (free_port(), free_port());
        let config = directory.path().join("server.properties");
        let data = directory.path().join("data");
        let secured = secured.then(|| Secured { address: format!("127.0.0.1:{}", free_port()) });
        let also = secured.as_ref().map_or(String::new(), |secured| format!("SASL_SSL://{},", secured.address));
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={also}PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={also}PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
            data.display()
        );
        if secured.is_some() {
            certificates(directory.path());
            let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
            text.push_str(&format!(
                "sasl.enabled.mechanisms=SCRAM-SHA-512\nlistener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}\n\
                 ssl.keystore.type=PEM\nssl.keystore.location={}\n",
                directory.path().join("server.keystore").display()
            ));
        }
        std::fs::write(&config, text).unwrap();
        let java = |class: &str| {
            let mut java = Command::new("java");
            java.args(["-Xmx384m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
            java.arg(format!("{}/*", libraries.display())).arg(class).current_dir(directory.path());
            java
        };
        let id = "MkU3OEVBNTcwNTJENDM2Qg";
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "-t", id, "-c"]).arg(&config);
        if secured.is_some() {
            let (name, password) = KAFKA_USER;
            format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={name},password={password}]")]);
        }
        let formatted = format.output().unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let log = directory.path().join("kafka.log");
        let mut server = Server::spawn("Apache Kafka", java("kafka.Kafka").arg(&config), &log);
        let address = format!("127.0.0.1:{port}");
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &address).create().unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        wait_for("Apache Kafka to make a topic", DEADLINE, || {
            assert!(server.ended().is_none(), "Apache Kafka ended; {}", server.tail());
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(30)));
            let made =
                runtime().block_on(admin.create_topics([&new], &options)).map_err(|error| error.to_string())?;
            match made.first() {
                Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
                other => Err(format!("{other:?}; {}", server.tail())),
            }
        });
        let brokers = Brokers::Apache { address, secured, _server: server, directory };
        Some(Self::to(brokers, topic, partitions))
    }

    fn to(brokers: Brokers, topic: &str, partitions: i32) -> Self {
        Self { feed: Feed::to(&brokers.address(), topic), partitions, brokers }
    }

    /// Another producer to its topic, for a thread of its own.
    pub fn feed(&self) -> Feed {
        Feed::to(&self.brokers(), &self.feed.topic)
    }

    /// What a group has committed of each partition; 0 for nothing yet.
    pub fn committed(&self, group: &str) -> Vec<i64> {
        self.offsets(group).now()
    }

    /// The same for who asks again and again.
    pub fn offsets(&self, group: &str) -> GroupOffsets {
        GroupOffsets::new(&self.brokers(), group, &self.feed.topic, self.partitions)
    }

    /// Partition and offset of every commit of a group, in order. None of the mock cluster, which keeps no log of them.
    pub fn commits(&self, group: &str) -> Option<Vec<(i32, i64)>> {
        match &self.brokers {
            Brokers::Mock(_) => None,
            Brokers::Apache { address, .. } => Some(offsets::commits(address, group, &self.feed.topic)),
        }
    }

    /// The address of the listener that wants TLS and SCRAM.
    pub fn secured(&self) -> String {
        match &self.brokers {
            Brokers::Apache { secured: Some(secured), .. } => secured.address.clone(),
            _ => panic!("these brokers have no such listener"),
        }
    }

    /// A file beside the server's own: `ca.pem` has the authority of its certificate, `other.pem` another.
    pub fn file(&self, name: &str) -> PathBuf {
        let Brokers::Apache { directory, .. } = &self.brokers else { panic!("the mock cluster has no files") };
        directory.path().join(name)
    }

    /// Makes another topic, of one partition.
    pub fn add_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        let new = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        let made = runtime().block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// How many records the first partition of a topic has.
    pub fn end_of(&self, topic: &str) -> i64 {
        let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        in_time("the end of a topic", reader.fetch_watermarks(topic, 0, DEADLINE)).1
    }

    /// Sets one setting of its topic. Apache Kafka has settings.
    pub fn set(&self, name: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        let topic = AlterConfig::new(ResourceSpecifier::Topic(&self.feed.topic)).set(name, value);
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
        self.feed.deliver(messages);
    }

    /// The same to another topic.
    pub fn deliver_to(&mut self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        self.feed.deliver_to(topic, messages);
    }

    /// The ledger.
    pub fn sent(&self) -> &[Message] {
        self.feed.sent()
    }
}

impl Feed {
    fn to(brokers: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        Self { producer, topic: topic.to_owned(), sent: Vec::new() }
    }

    /// Produces these, each with its topic as the key, and waits until the brokers have them.
    pub fn deliver(&mut self, messages: impl IntoIterator<Item = Message>) {
        let topic = self.topic.clone();
        self.deliver_to(&topic, messages);
    }

    fn deliver_to(&mut self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let record = || BaseRecord::to(topic).key(&message.topic).payload(&message.payload);
            while let Err((error, _)) = self.producer.send(record()) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                self.producer.poll(Duration::from_millis(10));
            }
            self.sent.push(message);
        }
        in_time("the brokers to take what was produced", self.producer.flush(DEADLINE));
    }

    /// The ledger.
    pub fn sent(&self) -> &[Message] {
        &self.sent
    }
}

/// What was asked of the brokers, with [`DEADLINE`]; where it passed, the test says so as other waits do.
pub(crate) fn in_time<T>(what: &str, answer: Result<T, KafkaError>) -> T {
    answer.unwrap_or_else(|error| match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::OperationTimedOut) => panic!("waited {DEADLINE:?} for {what}: {error}"),
        _ => panic!("{what}: {error}"),
    })
}

/// What a server of `127.0.0.1` needs for TLS, and a second authority that it knows nothing of.
fn certificates(directory: &Path) {
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
        ));
    }
    std::fs::write(directory.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile server.ext",
    );
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    std::fs::write(directory.join("server.keystore"), read("server.key") + &read("server.pem")).unwrap();
}
