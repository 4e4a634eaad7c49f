//! From Kafka to discard: records a second, and CPU time a record, by a bare librdkafka loop with the same options.
//!
//! **In**, on our side: the consumer, its offsets, the lanes with decoder and threshold in WebAssembly, alerts, dead letters, and the sums by which
//! every value and the number of alerts are checked. In the baseline: polling, and counting bytes. The rate is by wall time from the first record
//! that is through to the last; CPU time is that of this process from subscribing to the end. **Out**: producing; the brokers, which
//! are a process of their own and stay the same for all runs.
//!
//! The settings are those of a configuration that says nothing; `kafka/host-headers-left` has `headers = "left"`: the bare loop looks for none.
//!
//! The brokers are librdkafka's own mock cluster, one broker with 32 partitions: the real protocol, no disk. It shares the machine's cores
//! with the consumer, and serves one request at a time.
//!
//! A run takes half a second after the three that a group needs to form, and a machine that others share has better and worse seconds: so a repetition is made of several runs of both sides in turn, and
//! its figure of all records and all time of a side.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidegate_config::{
    KafkaSource as Settings, KafkaStart, LaneBy, Offsets, RecordHeaders, RecordsBy, TimeFrom, TopicFrom,
};
use tidegate_engine::{Engine, Rule};
use tidegate_model::{Books, Limits};
use tidegate_pipeline::SinkSetup;
use tidegate_sources::KafkaSource;

use crate::broker::Figure;
use crate::clock;
use crate::consumer::PATIENCE;
use crate::consumer::checked::{CheckedDiscard, CountedDeadLetters, Tally};
use crate::line::{Line, LineSetup};
use crate::measure::{Effort, Sample, Side, Slot, in_slots};
use crate::mqtt::process::Process;
use crate::report::Progress;
use crate::rules::{self, Setup};
use crate::workload::{self, Expected};

/// Records of one run: what the mock cluster keeps of its partitions is bounded, to 5 MB and 100,000 records each.
const RECORDS: usize = 1_000_000;
/// Runs of each side that make one repetition.
const SLOTS: usize = 3;
pub const PARTITIONS: i32 = 32;
pub const TOPIC: &str = "telemetry";
const REPETITIONS: usize = 5;
const POLL: Duration = Duration::from_millis(100);

/// What a process is called with that is the cluster.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Cluster {
    /// Records that it holds.
    #[arg(long)]
    records: usize,
}

/// Makes a cluster, fills it, says `listening <brokers>`, and stays until its standard input is closed.
pub fn run(cluster: Cluster) -> Result<()> {
    let brokers = MockCluster::new(1)?;
    brokers.create_topic(TOPIC, PARTITIONS, 1)?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers.bootstrap_servers())
        .set("acks", "all")
        .set("linger.ms", "20")
        .create()?;
    let topics: Vec<String> = (0..workload::TOPICS).map(workload::topic).collect();
    let mut payload = Vec::new();
    for record in 0..cluster.records {
        payload.clear();
        workload::payload(record, &mut payload);
        let key = &topics[workload::topic_of(record)];
        // Its reading's own time, as a producer at the edge gives it.
        let time_ms = workload::time_us(record) / 1_000;
        let made = || BaseRecord::to(TOPIC).key(key).payload(&payload).timestamp(time_ms);
        while let Err((error, _)) = producer.send(made()) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                bail!("a record could not be produced: {error}");
            }
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE)?;
    println!("listening {}", brokers.bootstrap_servers());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The figure of both.
pub fn measure(figure: Figure, headers: RecordHeaders, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let records = effort.amount(RECORDS);
    let cluster = Process::start(&["kafka", "--records", &records.to_string()])?;
    let line = cluster.line()?;
    let brokers = line.strip_prefix("listening ").with_context(|| format!("the cluster said {line:?}"))?.to_owned();
    let expected = Arc::new(workload::expected(records));
    let engine = Engine::new()?;
    let rules = [Setup::json_reading(), Setup::threshold()]
        .iter()
        .map(|setup| rules::rule(setup, &rules::module(&engine, setup.module)?))
        .collect::<Result<Vec<_>>>()?;
    let mut group = 0;
    let mut run = |side| {
        group += 1;
        let settings = Settings { headers, ..settings(&brokers, group) };
        let cpu_before = clock::process_cpu();
        let (began, ended) = match side {
            Side::Ours => host(settings, &expected, &rules)?,
            Side::Baseline => bare(&settings, records)?,
        };
        Ok(match figure {
            Figure::Rate => (ended - began).as_secs_f64(),
            Figure::Cpu => clock::nanos_each(clock::process_cpu() - cpu_before, records),
        })
    };
    let all = in_slots(effort.repetitions(REPETITIONS), SLOTS, progress, |side| run(side).map(Slot::Seen))?;
    let of_runs = |runs: &[f64]| {
        let (number, sum) = (runs.len() as f64, runs.iter().sum::<f64>());
        match figure {
            Figure::Rate => records as f64 * number / sum,
            Figure::Cpu => sum / number,
        }
    };
    Ok(all.iter().map(|repetition| repetition.sample(of_runs)).collect())
}

/// As a configuration has them when nothing is said. Each run has a group of its own, which begins at the beginning.
pub fn settings(brokers: &str, group: usize) -> Settings {
    Settings {
        brokers: brokers.to_owned(),
        group: format!("bench-{group}"),
        topics: vec![TOPIC.to_owned()],
        topic_from: TopicFrom::Key,
        time_from: TimeFrom::Arrival,
        headers: RecordHeaders::Kept,
        lane_by: RecordsBy::Topics(LaneBy::Topic),
        start: KafkaStart::Earliest,
        offsets: Offsets::Group,
        journal: tidegate_config::Journal::Off,
        max_in_flight: 50_000,
        client: std::collections::BTreeMap::new(),
    }
}

/// The host; gives when the first and when the last record was through.
fn host(settings: Settings, expected: &Arc<Expected>, rules: &[Arc<Rule>]) -> Result<(Instant, Instant)> {
    let books = Arc::new(Books::new(100_000));
    let (told, all_come) = sync_channel(1);
    let tally = Arc::new(Tally::new(expected, told));
    let line = Line::start(LineSetup {
        lanes: std::thread::available_parallelism().map_or(1, Into::into),
        batch_rows: None,
        books: books.clone(),
        sinks: vec![SinkSetup::new("discard", Box::new(CheckedDiscard::new(tally.clone(), books)))],
        letters: Box::new(CountedDeadLetters::new(tally.clone(), None)),
    })?;
    for rule in rules {
        line.install(rule)?;
    }
    line.pipeline().add_source("bench", Box::new(KafkaSource::new(settings)), Limits::default());
    let ended = all_come
        .recv_timeout(PATIENCE)
        .with_context(|| format!("the host did not come to an end; it stands at {:?}", line.pipeline().status()))?;
    let began = tally.first_came().context("nothing came")?;
    line.close()?;
    tally.check(expected)?;
    Ok((began, ended))
}

/// The bare loop; the same of it.
fn bare(settings: &Settings, records: usize) -> Result<(Instant, Instant)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "20")
        .set("queued.max.messages.kbytes", "16384")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    let (mut come, mut bytes, mut began) = (0, 0, None);
    let deadline = Instant::now() + PATIENCE;
    while come < records {
        let Some(polled) = consumer.poll(POLL) else {
            ensure!(Instant::now() < deadline, "the bare loop got {come} of {records} records");
            continue;
        };
        let record = polled?;
        began.get_or_insert_with(Instant::now);
        come += 1;
        bytes += record.payload().map_or(0, <[u8]>::len);
    }
    let ended = Instant::now();
    ensure!(bytes > come, "{come} records with {bytes} bytes came");
    Ok((began.context("nothing came")?, ended))
}
