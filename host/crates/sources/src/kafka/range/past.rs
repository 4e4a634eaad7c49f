//! A range of a Kafka topic as a history: for backtests, which only look.
//!
//! The partitions are read side by side and put together by the time of their records, so that a rule is given them about as they came: a
//! partition read to its end before the next would make a year of silence of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_config::KafkaSource as Settings;
use tidegate_model::{Books, History, HistoryError, Logs, Names, Page, Past, Span};

use super::bounds::{Bound, KafkaRange};
use super::progress::RangeProgress;
use crate::kafka::client::{self, Client, Context, Meaning};
use crate::kafka::records::Records;

/// A page has no more records.
const PAGE_ROWS: u64 = 2_000;
/// How long one partition is waited for before a page ends, so that who reads can stop.
const WAIT: Duration = Duration::from_millis(100);
/// How long all of them may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Each partition has a queue of its own, of so many KiB: with the most partitions, 128 MiB.
const QUEUE_KIB: &str = "512";
const MAX_PARTITIONS: usize = 256;

/// The topics that a source reads, to be read again.
pub struct KafkaLogs(Settings);

impl KafkaLogs {
    /// Those of this source.
    pub fn new(settings: Settings) -> Self {
        Self(settings)
    }
}

impl Logs for KafkaLogs {
    /// Only what the source itself names: who may ask for backtests may not so see all that its user may.
    fn part(&self, log: Option<&str>, from: &str, to: &str) -> Result<Arc<dyn History>, HistoryError> {
        let topic = match log {
            None => sole_topic(&self.0).map_err(HistoryError)?,
            Some(name) => self.0.topics.iter().find(|topic| *topic == name).ok_or_else(|| {
                let known: Vec<&str> = self.0.topics.iter().map(String::as_str).collect();
                HistoryError(format!("the source reads no topic of that name; it reads {}", known.join(", ")))
            })?,
        };
        let place = |text: &str| text.parse::<Bound>().map_err(HistoryError);
        Ok(Arc::new(Part { settings: self.0.clone(), topic: topic.to_owned(), from: place(from)?, to: place(to)? }))
    }
}

/// The topic of a source that has one.
///
/// # Errors
/// It has several, or a regular expression.
pub fn sole_topic(settings: &Settings) -> Result<&str, String> {
    match &settings.topics[..] {
        [topic] if topic.starts_with('^') => Err("it has topics by a regular expression: choose one".to_owned()),
        [topic] => Ok(topic),
        _ => Err("it has several topics: choose one".to_owned()),
    }
}

/// What is to be read.
struct Part {
    settings: Settings,
    topic: String,
    from: Bound,
    to: Bound,
}

impl History for Part {
    fn open(&self, span: Span, books: Arc<Books>) -> Result<Box<dyn Past>, HistoryError> {
        let mut config = client::config(&self.settings);
        config.set("queued.max.messages.kbytes", QUEUE_KIB);
        let (settings, bounds) = (self.settings.clone(), (self.from, self.to));
        let range = KafkaRange::find_by(config, settings, &self.topic, bounds, &BTreeMap::new());
        let range = range.map_err(|error| HistoryError(error.to_string()))?;
        Ok(Box::new(Reading::begin(range, span, books)?))
    }
}

/// A range as it is read.
struct Reading {
    client: Arc<Client>,
    topic: String,
    brokers: String,
    records: Records,
    progress: Arc<RangeProgress>,
    /// Those that are not read to their end.
    open: Vec<Partition>,
    span: Span,
    names: Names,
    /// When a record last came.
    heard: Instant,
}

struct Partition {
    number: i32,
    /// The first offset that is not wanted.
    to: i64,
    queue: PartitionQueue<Context>,
    /// The next record, and its time.
    head: Option<(i64, OwnedMessage)>,
}

/// What a partition has.
enum Next {
    There,
    NotYet,
    Nothing,
}

impl Reading {
    fn begin(range: KafkaRange, span: Span, books: Arc<Books>) -> Result<Self, HistoryError> {
        let KafkaRange { client, settings, topic, progress } = range;
        let wanted = progress.stretches().iter().filter(|stretch| stretch.from < stretch.to);
        let mut list = TopicPartitionList::new();
        let told = |error: KafkaError| HistoryError(format!("{topic} cannot be read: {}", client::describe(&error)));
        for stretch in wanted.clone() {
            list.add_partition_offset(&topic, stretch.partition, Offset::Offset(stretch.from)).map_err(told)?;
        }
        if list.count() > MAX_PARTITIONS {
            let detail = format!("{topic} has {} partitions, and {MAX_PARTITIONS} can be read at once", list.count());
            return Err(HistoryError(detail));
        }
        // Before they are fetched: what comes earlier goes to the queue of all, where nobody looks for records.
        let open = wanted.map(|stretch| {
            let number = stretch.partition;
            let queue = client.split_partition_queue(&topic, number);
            let queue = queue.ok_or_else(|| HistoryError(format!("partition {number} of {topic} cannot be read")))?;
            Ok(Partition { number, to: stretch.to, queue, head: None })
        });
        let open = open.collect::<Result<Vec<Partition>, HistoryError>>()?;
        client.assign(&list).map_err(told)?;
        let (records, names) = (Records::new(&settings), Names::new(books));
        let (brokers, heard) = (settings.brokers, Instant::now());
        Ok(Self { client, topic, brokers, records, progress, open, span, names, heard })
    }

    /// What the client has to say beside records, which it must be asked for.
    fn listen(&self) -> Result<(), HistoryError> {
        while let Some(said) = self.client.poll(Duration::ZERO) {
            match said {
                Err(error) => self.tolerate(&error)?,
                // It cannot be put in its order any more, and nothing is left out in silence.
                Ok(record) => {
                    let (topic, number) = (&self.topic, record.partition());
                    return Err(HistoryError(format!(
                        "{topic}: partition {number} came beside its queue; try again"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lets pass what passes.
    fn tolerate(&self, error: &KafkaError) -> Result<(), HistoryError> {
        let gone = error.rdkafka_error_code() == Some(Code::AutoOffsetReset);
        if !gone && client::meaning(error) != Meaning::Fatal {
            return Ok(());
        }
        let advice = if gone { ": the brokers have deleted records of the range meanwhile" } else { "" };
        Err(HistoryError(format!("Kafka at {}: {}{advice}", self.brokers, client::describe(error))))
    }

    /// Sees to it that every partition shows its next record; false if one has none yet.
    fn heads(&mut self) -> Result<bool, HistoryError> {
        let mut at = 0;
        while let Some(partition) = self.open.get(at) {
            let next = if partition.head.is_some() { Next::There } else { self.ask(at)? };
            match next {
                Next::There => at += 1,
                Next::NotYet => return Ok(false),
                Next::Nothing => self.close(at),
            }
        }
        Ok(true)
    }

    fn ask(&mut self, at: usize) -> Result<Next, HistoryError> {
        let Some(partition) = self.open.get_mut(at) else { return Ok(Next::Nothing) };
        let next = match partition.queue.poll(WAIT) {
            None => Next::NotYet,
            Some(Ok(record)) if record.offset() >= partition.to => Next::Nothing,
            Some(Ok(record)) => {
                partition.head = Some((self.records.time_of(&record, 0), record.detach()));
                Next::There
            }
            Some(Err(KafkaError::PartitionEOF(_))) => Next::Nothing,
            Some(Err(error)) => {
                self.tolerate(&error)?;
                Next::NotYet
            }
        };
        if !matches!(next, Next::NotYet) {
            self.heard = Instant::now();
        } else if self.heard.elapsed() >= PATIENCE {
            let detail = format!("Kafka at {} has sent nothing of {} for {PATIENCE:?}", self.brokers, self.topic);
            return Err(HistoryError(detail));
        }
        Ok(next)
    }

    /// A partition is read to its end, which is where it is now if what it had last is of no interest any more.
    fn close(&mut self, at: usize) {
        let gone = self.open.swap_remove(at);
        if let Some(stretch) = self.progress.stretch(gone.number) {
            stretch.reached(stretch.to);
        }
        if let Err(error) = self.client.pause(&client::list(&[(self.topic.clone(), gone.number)])) {
            tracing::debug!(%error, partition = gone.number, "a partition was not paused; its records are left");
        }
    }

    /// The oldest of the records that partitions show.
    fn oldest(&mut self) -> Option<(i64, OwnedMessage)> {
        let key = |partition: &Partition| Some((partition.head.as_ref()?.0, partition.number));
        let first = self.open.iter_mut().min_by_key(|partition| key(partition))?;
        let head = first.head.take();
        let stretch = self.progress.stretch(first.number);
        if let (Some(stretch), Some((_, record))) = (stretch, &head) {
            stretch.reached(record.offset() + 1);
        }
        head
    }
}

impl Past for Reading {
    fn next_page(&mut self) -> Result<Option<Page>, HistoryError> {
        self.listen()?;
        let mut page = Page::default();
        while page.looked_at < PAGE_ROWS && !page.is_full() && self.heads()? {
            let Some((at, record)) = self.oldest() else {
                return Ok((page.looked_at > 0).then_some(page));
            };
            self.records.read(&record, at, &self.span, &mut self.names, &mut page);
        }
        let (read, total) = (self.progress.settled() as f64, self.progress.total() as f64);
        page.done = Some(if total > 0.0 { (read / total).min(1.0) } else { 1.0 });
        Ok(Some(page))
    }
}
