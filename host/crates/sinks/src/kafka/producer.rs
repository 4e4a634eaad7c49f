//! librdkafka's producer, and the count of what it has acknowledged.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, ToBytes};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_config::KafkaSink;
use tidegate_model::SinkError;
use tokio::sync::Notify;

use super::progress::Progress;

/// How long librdkafka tries by itself, unless `client` says otherwise: then the write has failed, and its spool takes it.
const MESSAGE_TIMEOUT_MS: &str = "10000";
/// What librdkafka puts into one batch unless `client` says otherwise: bytes.
const BATCH_BYTES: u32 = 1_000_000;
/// No batch is made smaller than this because a broker found one too large: bytes.
const LEAST_BATCH_BYTES: u32 = 16 << 10;
/// How long after its time is over librdkafka may take to say so of a record.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait for room in the producer's queue before it is asked again.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// A producer, and the write it is at.
pub(super) struct Producer {
    producer: ThreadedProducer<Context>,
    tally: Arc<Tally>,
    brokers: String,
    batches: Batches,
    /// How long a word on a record may take; none where librdkafka may try for ever.
    patience: Option<Duration>,
}

/// What a broker is sent together. It checks a batch as a whole and can find fault with all of it because of one record, or with its size
/// where no record is too large: only of a record that was sent alone is it known what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batches {
    /// Up to so many bytes, or as `client` says.
    UpTo(Option<u32>),
    /// Each record alone.
    OfOne,
}

impl Batches {
    /// After a broker found one too large.
    pub(super) fn smaller(self, settings: &KafkaSink) -> Self {
        let set = || settings.client.iter().find(|(key, _)| *key == "batch.size")?.1.reveal().parse().ok();
        match self {
            Batches::UpTo(bytes) => {
                Batches::UpTo(Some((bytes.or_else(set).unwrap_or(BATCH_BYTES) / 2).max(LEAST_BATCH_BYTES)))
            }
            Batches::OfOne => Batches::OfOne,
        }
    }
}

/// Why a write failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// As the sink says it.
    Sink(SinkError),
    /// A broker finds fault with a batch; with which record of it is not known.
    Batch(KafkaError),
}

impl From<SinkError> for Fault {
    fn from(error: SinkError) -> Self {
        Fault::Sink(error)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// What has come of the records of a write. Acknowledgements only count down; failures are few.
#[derive(Debug, Default)]
struct Tally {
    left: AtomicUsize,
    /// By the number of the record; and who says so.
    failures: Mutex<Vec<(usize, By, KafkaError)>>,
    /// Why brokers do not let us in, since records were last acknowledged: of a record it is only heard that its time was up.
    turned_away: Mutex<Option<KafkaError>>,
    news: Notify,
}

/// Who found fault with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The producer, before it was sent.
    Producer,
    /// A broker, or nobody in time.
    Broker,
}

/// What librdkafka calls, on the thread that polls.
struct Context {
    tally: Arc<Tally>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            // A broker that cannot be reached says so with every attempt, at this level; the write that fails reports it once.
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        let code = error.rdkafka_error_code();
        if matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)) {
            *self.tally.turned_away.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

impl ProducerContext for Context {
    /// The number of the record in its write.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Err((error, _)) = result {
            self.tally.failed(number, By::Broker, error.clone());
        }
        self.tally.settled();
    }
}

impl Tally {
    fn failed(&self, number: usize, by: By, error: KafkaError) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((number, by, error));
    }

    fn settled(&self) {
        // Release: who sees that none is left sees the failures, too.
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.news.notify_one();
        }
    }
}

impl Producer {
    /// One that connects by itself; no broker need be there yet.
    pub(super) fn new(settings: &KafkaSink, batches: Batches) -> Result<Self, SinkError> {
        let tally = Arc::new(Tally::default());
        let context = Context { tally: Arc::clone(&tally) };
        let producer =
            ThreadedProducer::from_config_and_context(&config(settings, batches), context).map_err(|error| {
                let error = match error {
                    // Without the value, which may be a secret.
                    KafkaError::ClientConfig(_, what, key, _) => format!("the setting `{key}` is refused: {what}"),
                    other => other.to_string(),
                };
                SinkError::NeedsOperator(format!(
                    "librdkafka refuses the configuration: {error}; correct it under `client`"
                ))
            })?;
        Ok(Self { producer, tally, brokers: settings.brokers.clone(), batches, patience: patience(settings) })
    }

    /// A write begins. All records of the one before were settled.
    pub(super) fn begin(&mut self) {
        self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Hands a record over, waiting for room in the queue.
    pub(super) async fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, P, usize>,
    ) -> Result<(), SinkError> {
        self.tally.left.fetch_add(1, Ordering::AcqRel);
        let number = record.delivery_opaque;
        let mut next = record;
        loop {
            let Err((error, back)) = self.producer.send(next) else { return Ok(()) };
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                self.tally.failed(number, By::Producer, error);
                self.tally.settled();
                return Ok(());
            }
            next = back;
            // Told when all are settled, which is more room than needed; looked at again before.
            let _room_or_not = tokio::time::timeout(ROOM_WAIT, self.tally.news.notified()).await;
        }
    }

    /// Waits until everything that was handed over of a write of so many records is settled, and notes in `progress` what has come of it.
    pub(super) async fn acknowledged(&self, records: usize, progress: &mut Progress) -> Result<(), Fault> {
        self.settled().await?;
        let failures = std::mem::take(&mut *self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner));
        let turned_away = self.tally.turned_away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if failures.is_empty() {
            return Ok(());
        }
        progress.ended(records);
        let (mut first, mut batch) = (None, None);
        for (number, by, error) in failures {
            let error = match &turned_away {
                Some(why) if error.rdkafka_error_code() == Some(Code::MessageTimedOut) => why.clone(),
                _ => error,
            };
            let error = match meaning(&error) {
                Meaning::Bad if by == By::Broker && self.batches != Batches::OfOne => {
                    batch = Some(error);
                    None
                }
                Meaning::Bad => {
                    progress.refused.insert(number, format!("Kafka does not take its record: {error}"));
                    continue;
                }
                Meaning::Passing => Some(SinkError::Retry(format!("Kafka at {}: {error}", self.brokers))),
                Meaning::Operator(todo) => {
                    Some(SinkError::NeedsOperator(format!("Kafka at {}: {error}; {todo}", self.brokers)))
                }
            };
            progress.failed(number);
            first = first.or(error);
        }
        match (first, batch) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(Fault::Batch(error)),
            (None, None) => Ok(()),
        }
    }

    /// Waits until no record is left of which nothing is known, but not for ever.
    async fn settled(&self) -> Result<(), SinkError> {
        let all = async {
            while self.tally.left.load(Ordering::Acquire) > 0 {
                self.tally.news.notified().await;
            }
        };
        let Some(patience) = self.patience else {
            all.await;
            return Ok(());
        };
        tokio::time::timeout(patience, all).await.map_err(|_| {
            let (left, brokers) = (self.tally.left.load(Ordering::Acquire), &self.brokers);
            SinkError::Retry(format!("Kafka at {brokers}: nothing was heard of {left} records for {patience:?}"))
        })
    }

    /// Ends it, and forgets what it has not sent.
    pub(super) async fn end(self) {
        // It waits for its thread, and half a second for its broker.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(self)).await {
            tracing::debug!(%error, "a producer did not end in order");
        }
    }
}

/// What came of a record that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It, or another of its batch, will never be taken.
    Bad,
    /// It may work later.
    Passing,
    /// Somebody has to do this.
    Operator(&'static str),
}

fn meaning(error: &KafkaError) -> Meaning {
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord,
        ) => Meaning::Bad,
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic) => {
            Meaning::Operator("create the topic, or correct its name")
        }
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Meaning::Operator("give this user the rights to write to the topic")
        }
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            Meaning::Operator("check the SASL settings under `client`: mechanism, user name and password")
        }
        Some(Code::SSL) => Meaning::Operator("check the TLS settings under `client` and the brokers' certificates"),
        Some(Code::InvalidTimestamp) => Meaning::Operator(
            "check this machine's clock; and let the topic take records of any age: set its `message.timestamp.type` to LogAppendTime, or raise its \
             `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`",
        ),
        Some(Code::UnsupportedCompressionType) => Meaning::Operator("choose another `compression`"),
        _ => Meaning::Passing,
    }
}

/// After so long librdkafka has said of each record what came of it, whatever that is; none where it was told to try for ever.
fn patience(settings: &KafkaSink) -> Option<Duration> {
    // Two names of one setting; what comes last in the alphabet is set last.
    let set = ["message.timeout.ms", "delivery.timeout.ms"].iter().find_map(|name| settings.client.get(*name));
    let ms = set.map_or(MESSAGE_TIMEOUT_MS, |set| set.reveal()).parse().ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(ms) + GRACE)
}

/// librdkafka's configuration. What the guarantees rest on is set last, so that nothing overrides it.
fn config(settings: &KafkaSink, batches: Batches) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "tidegate");
    config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    // A write is handed over at once and then waited for: what lingers only waits.
    config.set("linger.ms", "2");
    config.set("queue.buffering.max.kbytes", "65536");
    for (key, value) in &settings.client {
        config.set(key, value.reveal());
    }
    match batches {
        Batches::UpTo(None) => {}
        Batches::UpTo(Some(bytes)) => {
            config.set("batch.size", bytes.to_string());
        }
        Batches::OfOne => {
            config.set("batch.num.messages", "1");
        }
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("enable.idempotence", "true")
        // A write waits for a word on each record.
        .set("delivery.report.only.error", "false")
        .set("partitioner", "murmur2_random")
        .set("compression.type", settings.compression.as_str());
    config
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use tidegate_config::{Compression, PointFormat, Secret};

    use super::*;

    fn settings(client: &[(&str, &str)]) -> KafkaSink {
        KafkaSink {
            brokers: "127.0.0.1:1".to_owned(),
            messages: None,
            points: Some("points".to_owned()),
            alerts: None,
            dead_letters: None,
            format: PointFormat::Reading,
            compression: Compression::None,
            client: client.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect(),
        }
    }

    /// Guarantees: the producer is idempotent, whatever is set and however records are batched.
    #[test]
    fn idempotence_is_not_to_be_set() {
        for client in
            [&[][..], &[("enable.idempotence", "false")], &[("compression.type", "lz4"), ("linger.ms", "0")]]
        {
            for batches in [Batches::UpTo(None), Batches::UpTo(Some(20_000)), Batches::OfOne] {
                let config = config(&settings(client), batches);
                assert_eq!(config.get("enable.idempotence"), Some("true"), "{client:?} {batches:?}");
            }
        }
    }

    /// Guarantees: a record of which nothing is ever heard does not stop a sink for ever: the write fails, to be tried again, and counts as not done;
    /// librdkafka's own time is over before, however it was set.
    #[tokio::test]
    async fn a_record_without_a_word() {
        let seconds = |client| patience(&settings(client)).map(|patience| patience.as_secs());
        assert_eq!(seconds(&[]), Some(20));
        assert_eq!(seconds(&[("delivery.timeout.ms", "60000")]), Some(70));
        assert_eq!(seconds(&[("delivery.timeout.ms", "60000"), ("message.timeout.ms", "1000")]), Some(11));
        assert_eq!(seconds(&[("message.timeout.ms", "0")]), None);

        let mut producer = Producer::new(&settings(&[]), Batches::UpTo(None)).unwrap();
        producer.patience = Some(Duration::from_millis(1));
        producer.tally.left.fetch_add(3, Ordering::AcqRel);
        let mut progress = Progress::default();
        match producer.acknowledged(3, &mut progress).await {
            Err(Fault::Sink(SinkError::Retry(text))) => assert!(text.contains("3 records"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            super::super::progress::Left::of(&progress).next(super::super::progress::Kind::Points, None),
            Some(0)
        );
        producer.end().await;
    }
}
