//! librdkafka's consumer: its settings, its callbacks, and what its errors mean.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use tidegate_config::{KafkaSource as Settings, Offsets};
use tidegate_kafka_batch::BatchConsumer;
use tidegate_model::Health;

use super::assignment::Position;
use super::lag::{self, Ends};

/// The consumer with our callbacks.
pub(super) type Client = BaseConsumer<Context>;
/// The same as a member of a group, whose records are read many at a time.
pub(super) type Member = BatchConsumer<Context>;

/// A change of the assignment, to be carried out by the consumer's loop.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

/// What librdkafka calls, on the thread that polls. Rebalances are only noted: librdkafka waits until the loop, which owns
/// all state, has carried them out. So no lock is taken for a record.
#[derive(Debug)]
pub(super) struct Context {
    /// Where it is told how far we are behind.
    health: Arc<Health>,
    /// Where partitions end, as far as that was asked.
    ends: Mutex<Ends>,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The loop is gone: rebalances are carried out at once.
    closing: AtomicBool,
    commits: AtomicU64,
    refused: AtomicU64,
    /// The offsets of commits that went well and were not asked for yet: as many as there are partitions.
    committed: Mutex<HashMap<(String, i32), i64>>,
    commit_failing: AtomicBool,
}

impl Context {
    /// One that nothing has happened to yet.
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            ends: Mutex::default(),
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            committed: Mutex::default(),
            commit_failing: AtomicBool::new(false),
        }
    }

    /// The oldest rebalance not carried out.
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Where partitions end: librdkafka itself only knows of those that it fetches from.
    pub(super) fn they_end(&self, ends: Ends) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// What was committed since this was last asked: the next offset, by partition.
    pub(super) fn committed(&self) -> HashMap<(String, i32), i64> {
        std::mem::take(&mut *self.committed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether all of these were committed, or more, since [`Self::committed`] was last asked.
    pub(super) fn has_committed(&self, marks: &[Position]) -> bool {
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = |mark: &Position| {
            let offset = committed.get(&(mark.topic.clone(), mark.partition));
            offset.is_some_and(|offset| *offset >= mark.offset)
        };
        marks.iter().all(reached)
    }

    /// How many commits were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Acquire)
    }

    /// How many commits were answered.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.health.behind(lag::of(&statistics, &self.ends.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The loop gets it too, and reports it once.
        tracing::debug!(target: "librdkafka", %error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning if facility == "OFFSET" => {
                tracing::error!(target: "librdkafka", facility, "where the group stood is no record any more: {message}");
            }
            // A broker that cannot be reached says so with every attempt, at this level; the loop reports it once.
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named = partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let rebalance = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(named),
            _ => Rebalance::Revoke(named),
        };
        if self.closing.load(Ordering::Acquire) {
            if let Err(error) = carry_out(client, &rebalance, &[]) {
                tracing::debug!(%error, "a rebalance at the end failed");
            }
        } else {
            self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_ok() {
            let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
            for element in offsets.elements().iter().filter(|element| element.error().is_ok()) {
                if let Offset::Offset(offset) = element.offset() {
                    committed.insert((element.topic().to_owned(), element.partition()), offset);
                }
            }
        }
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(Code::NoOffset)) => {
                self.commit_failing.store(false, Ordering::Relaxed)
            }
            Err(error) => {
                self.refused.fetch_add(1, Ordering::AcqRel);
                if !self.commit_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "Kafka offsets could not be committed; it will be tried again, and records are repeated if we stop before"
                    );
                }
            }
        }
        self.commits.fetch_add(1, Ordering::Release);
    }
}

/// Tells librdkafka that an assignment was taken or given up, in the way of the protocol the group agreed on. `begin` is where to begin with each
/// partition; where it is empty the group's offset stands.
pub(super) fn carry_out(client: &Client, rebalance: &Rebalance, begin: &[Offset]) -> KafkaResult<()> {
    let cooperative = matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative);
    match rebalance {
        Rebalance::Assign(named) if cooperative => client.incremental_assign(&list_from(named, begin)?),
        Rebalance::Assign(named) => client.assign(&list_from(named, begin)?),
        Rebalance::Revoke(named) if cooperative => client.incremental_unassign(&list(named)),
        Rebalance::Revoke(_) => client.unassign(),
    }
}

/// Leaves the group, having carried out every rebalance that is still open: librdkafka would wait for it for ever. What
/// offsets are stored it commits.
pub(super) fn leave(client: Member) {
    client.context().closing.store(true, Ordering::Release);
    while let Some(rebalance) = client.context().next_rebalance() {
        if let Err(error) = carry_out(&client, &rebalance, &[]) {
            tracing::debug!(%error, "a rebalance at the end failed");
        }
    }
}

/// Partitions as librdkafka wants them.
pub(super) fn list(named: &[(String, i32)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(named.len());
    for (topic, partition) in named {
        list.add_partition(topic, *partition);
    }
    list
}

/// The same, each to be read from its offset, where such are given.
fn list_from(named: &[(String, i32)], begin: &[Offset]) -> KafkaResult<TopicPartitionList> {
    let mut list = list(named);
    for ((topic, partition), begin) in named.iter().zip(begin) {
        list.set_partition_offset(topic, *partition, *begin)?;
    }
    Ok(list)
}

/// librdkafka's configuration. What the guarantees rest on is set last, so that nothing overrides it.
pub(super) fn config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "tidegate");
    // The default of 1 s leaves a consumer idle that is faster than its queue is refilled.
    config.set("fetch.queue.backoff.ms", "20");
    // How far we are behind.
    config.set("statistics.interval.ms", "2000");
    // Of one consumer, all partitions: the default of 64 MiB is much for an edge node.
    config.set("queued.max.messages.kbytes", "16384");
    for (key, value) in &settings.client {
        config.set(key, value.reveal());
    }
    let start = match settings.offsets {
        // Where to begin is told with each assignment, and nobody else may choose.
        Offsets::WithPoints => "error",
        // Also where a group begins at the end, which is told with its first assignment (`latest.rs`): whose offset is not there any more reads what is left.
        Offsets::Group => "earliest",
    };
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("auto.offset.reset", start)
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.partition.eof", "false")
        .set("partition.assignment.strategy", "cooperative-sticky");
    config
}

/// What an error of the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// librdkafka goes on by itself, and tells more if it cannot.
    Passing,
    /// Nothing will come until someone does this.
    Down(&'static str),
    /// This client will never work again: a new one may.
    Fatal,
}

/// Sorts an error.
pub(super) fn meaning(error: &KafkaError) -> Meaning {
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return Meaning::Fatal;
    }
    match error.rdkafka_error_code() {
        Some(Code::AllBrokersDown | Code::Resolve) => {
            Meaning::Down("check that the brokers run and that their addresses are right")
        }
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            Meaning::Down("check the SASL settings under `client`: mechanism, user name and password")
        }
        Some(Code::SSL) => Meaning::Down("check the TLS settings under `client` and the brokers' certificates"),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            Meaning::Down("create the topic, or correct its name under `topics`")
        }
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Meaning::Down("give this user the rights to read the topics and to join the group")
        }
        Some(Code::Fatal) => Meaning::Fatal,
        _ => Meaning::Passing,
    }
}

/// An error's text without the value of a setting, which may be a secret.
pub(super) fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, key, _) => format!("the setting `{key}` is refused: {what}"),
        other => other.to_string(),
    }
}
