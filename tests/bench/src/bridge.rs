//! The raw bridge, from MQTT to Kafka: messages a second, by a bare rumqttc loop that hands each message to a bare librdkafka producer.
//!
//! **In**, on both sides: connecting, receiving MQTT 5 at QoS 1 from the same feeder, producing to 32 partitions with the topic as the key, by an idempotent
//! producer with the same options, and waiting until the brokers have acknowledged every record. Ours sends PUBACK only when Kafka has the
//! message, as a bridge must, and tells in headers when and how it came; the bare one acknowledges what it has not yet produced, and has no headers.
//! **Out**: starting feeder and cluster, and all rules: a bridge needs none.
//!
//! Wall time. Feeder and brokers are processes of their own on the same cores; the brokers are librdkafka's mock cluster, whose partitions must
//! have grown by just so many records after each run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tidegate_config::{Compression, KafkaMessages, KafkaSink, MessageKey, MqttSource as Settings, PointFormat};
use tidegate_model::{Books, Limits};
use tidegate_pipeline::SinkSetup;
use tidegate_sinks::{Discard, Kafka};
use tidegate_sources::MqttSource;

use crate::consumer::{PATIENCE, RECEIVE_MAXIMUM, settings};
use crate::kafka::{PARTITIONS, TOPIC};
use crate::line::{Line, LineSetup};
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::mqtt::feeder::Feed;
use crate::mqtt::process::Process;
use crate::mqtt::wire::{Qos, Version};
use crate::poison::Hundredth;
use crate::report::Progress;

const MESSAGES: usize = 200_000;
const REPETITIONS: usize = 7;
/// How long to wait for room in the bare producer's queue before it is asked again.
const ROOM_WAIT: Duration = Duration::from_millis(1);

/// Messages a second.
pub fn measure(effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let messages = effort.amount(MESSAGES);
    let cluster = Process::start(&["kafka", "--records", "0"])?;
    let line = cluster.line()?;
    let brokers = line.strip_prefix("listening ").with_context(|| format!("the cluster said {line:?}"))?;
    let sink = sink(brokers);
    let mut there = 0;
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let feed = Feed {
            messages,
            version: Version::V5,
            qos: Qos::AtLeastOnce,
            window: usize::from(RECEIVE_MAXIMUM),
            hundredth: Hundredth::Usual,
        };
        let (feeder, port) = Process::feeder(feed)?;
        let source = settings(port, feed.version, feed.qos)?;
        let began = Instant::now();
        let ended = match side {
            Side::Ours => ours(source, sink.clone(), messages)?,
            Side::Baseline => bare(&source, &sink, messages)?,
        };
        feeder.says("done")?;
        let now = records(brokers)?;
        ensure!(now == there + messages as i64, "{messages} messages made {} records", now - there);
        there = now;
        Ok(messages as f64 / (ended - began).as_secs_f64())
    })
}

/// As a configuration has it when nothing is said.
fn sink(brokers: &str) -> KafkaSink {
    KafkaSink {
        brokers: brokers.to_owned(),
        messages: Some(KafkaMessages { topic: TOPIC.to_owned(), from: None, key: MessageKey::Topic }),
        points: None,
        alerts: None,
        dead_letters: None,
        format: PointFormat::Json,
        compression: Compression::Zstd,
        client: BTreeMap::new(),
    }
}

/// The host's source, lanes and sink; gives when all was stored.
fn ours(source: Settings, sink: KafkaSink, messages: usize) -> Result<Instant> {
    let books = Arc::new(Books::new(100_000));
    let line = Line::start(LineSetup {
        lanes: std::thread::available_parallelism().map_or(1, Into::into),
        batch_rows: None,
        books: books.clone(),
        sinks: vec![SinkSetup::new("raw", Box::new(Kafka::new(sink, books)))],
        letters: Box::new(Discard::default()),
    })?;
    line.pipeline().add_source("edge", Box::new(MqttSource::new(source)), Limits::default());
    let deadline = Instant::now() + PATIENCE;
    let stored = || line.pipeline().status().sources.iter().map(|source| source.messages.stored).sum::<u64>();
    while stored() < messages as u64 {
        ensure!(Instant::now() < deadline, "the bridge did not come to an end: {:?}", line.pipeline().status());
        std::thread::sleep(Duration::from_micros(500));
    }
    let ended = Instant::now();
    line.close()?;
    Ok(ended)
}

/// Counts what the brokers have acknowledged.
struct Acknowledged {
    due: usize,
    come: AtomicUsize,
    /// When the last of them was.
    ended: OnceLock<Instant>,
}

/// What librdkafka calls.
struct Told(Arc<Acknowledged>);

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() && self.0.come.fetch_add(1, Ordering::AcqRel) + 1 == self.0.due {
            self.0.ended.get_or_init(Instant::now);
        }
    }
}

/// The least that can bridge: one loop, which copies each message into the producer's queue.
fn bare(source: &Settings, sink: &KafkaSink, messages: usize) -> Result<Instant> {
    let acknowledged = Arc::new(Acknowledged { due: messages, come: AtomicUsize::new(0), ended: OnceLock::new() });
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &sink.brokers)
        .set("linger.ms", "2")
        .set("queue.buffering.max.kbytes", "65536")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("compression.type", sink.compression.as_str());
    let producer = ThreadedProducer::from_config_and_context(&config, Told(acknowledged.clone()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, forward(source, &producer, messages)).await })??;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(ended) = acknowledged.ended.get() {
            return Ok(*ended);
        }
        ensure!(Instant::now() < deadline, "the bare producer's records were not acknowledged");
        std::thread::sleep(Duration::from_micros(500));
    }
}

async fn forward(source: &Settings, producer: &ThreadedProducer<Told>, messages: usize) -> Result<()> {
    let endpoint = &source.endpoint;
    let mut options = MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    options
        .set_clean_start(false)
        .set_receive_maximum(Some(source.receive_maximum))
        .set_max_packet_size(Some(endpoint.max_packet_bytes))
        .set_keep_alive(endpoint.keep_alive);
    let (client, mut eventloop) = AsyncClient::new(options, 4);
    for subscription in &source.subscriptions {
        client.try_subscribe(subscription.filter.as_str(), QoS::AtLeastOnce)?;
    }
    let mut come = 0;
    while come < messages {
        match eventloop.poll().await? {
            Event::Incoming(Packet::Publish(publish)) => {
                come += 1;
                let record = || BaseRecord::to(TOPIC).key(&publish.topic[..]).payload(&publish.payload[..]);
                while let Err((error, _)) = producer.send(record()) {
                    if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                        bail!("the bare producer: {error}");
                    }
                    tokio::time::sleep(ROOM_WAIT).await;
                }
            }
            Event::Incoming(Packet::Disconnect(_)) => bail!("the feeder disconnected the bare client"),
            _ => {}
        }
    }
    client.try_disconnect()?;
    // Until the last acknowledgements are out: the feeder counts them.
    while eventloop.poll().await.is_ok() {}
    Ok(())
}

/// How many records have ever been in the topic.
fn records(brokers: &str) -> Result<i64> {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "bench-count").create()?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        asked.add_partition_offset(TOPIC, partition, Offset::End)?;
    }
    let ends = reader.offsets_for_times(asked, PATIENCE)?;
    let end =
        |offset| if let Offset::Offset(end) = offset { Ok(end) } else { bail!("no end of a partition: {offset:?}") };
    ends.elements().iter().map(|element| end(element.offset())).sum()
}
