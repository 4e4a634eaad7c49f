//! A stretch of a Kafka topic, read once and settled: for `tidegate replay`.
//!
//! It belongs to no consumer group and commits nothing, so that no offset of a running host moves. What is in flight is bounded as in a
//! live source. [`RangeProgress`] says at any time from where on each partition would have to be read again: everything before was settled.

mod bounds;
mod past;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_config::KafkaSource as Settings;
use tidegate_model::{Inlet, Marks, Outcome, Parcels, Phase, PhaseWatch, Source, SourceError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use bounds::{Bound, KafkaRange, RangeError};
pub use past::{KafkaLogs, sole_topic};
pub use progress::{RangeProgress, Stretch};

use super::assignment::{Assignment, Token};
use super::client::{self, Client, Meaning};
use super::records::Records;
use crate::phase;
use crate::settlements::{Settlement, Settlements};

/// How long a poll may wait when nothing comes.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long to wait for room or settlements at a time.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// The most records read before settlements are looked at.
const BURST: usize = 10_000;

#[async_trait]
impl Source for KafkaRange {
    async fn run(self: Box<Self>, inlet: Inlet, phase: PhaseWatch) -> Result<(), SourceError> {
        let (runtime, progress) = (Handle::current(), self.progress());
        let (ended, end) = oneshot::channel();
        // librdkafka's calls block.
        tidegate_telemetry::thread("kafka-range", move || {
            let _gone = ended.send(Reading::new(*self, inlet, phase, runtime).run()).is_err();
        })
        .map_err(|error| SourceError(format!("a thread cannot be started: {error}")))?;
        let read = end.await.unwrap_or_else(|_| Err("its thread ended without a word".to_owned()));
        if let Err(why) = &read {
            progress.end(Err(why.clone()));
        }
        read.map_err(SourceError)
    }
}

/// The range while it is read.
struct Reading {
    client: Arc<Client>,
    settings: Settings,
    topic: String,
    progress: Arc<RangeProgress>,
    inlet: Inlet,
    phase: PhaseWatch,
    runtime: Handle,
    records: Records,
    assignment: Assignment,
    parcels: Parcels<Token>,
    settlements: Arc<Settlements<Token>>,
    settled: Vec<Settlement<Token>>,
    /// Partitions that are not read to their end.
    open: Vec<i32>,
}

impl Reading {
    fn new(range: KafkaRange, inlet: Inlet, phase: PhaseWatch, runtime: Handle) -> Self {
        let KafkaRange { client, settings, topic, progress } = range;
        let settlements: Arc<Settlements<Token>> = Arc::default();
        let to = settlements.clone();
        let parcels = inlet.parcels(move |tokens| to.ack(0, tokens));
        let open = progress.stretches().iter().filter(|s| s.next() < s.to).map(|s| s.partition).collect();
        let records = Records::new(&settings);
        let (assignment, settled) = (Assignment::default(), Vec::new());
        Self {
            client,
            settings,
            topic,
            progress,
            inlet,
            phase,
            runtime,
            records,
            assignment,
            parcels,
            settlements,
            settled,
            open,
        }
    }

    fn run(mut self) -> Result<(), String> {
        self.assign().map_err(|error| format!("the partitions cannot be read: {}", client::describe(&error)))?;
        self.inlet.health().up();
        loop {
            self.settle()?;
            match phase::now(&self.phase) {
                Phase::Closed => return Ok(()),
                Phase::Draining if self.parcels.is_empty() => self.parcels.shut(),
                Phase::Running
                    if self.open.is_empty() && self.parcels.is_empty() && self.assignment.in_flight() == 0 =>
                {
                    self.progress.end(Ok(()));
                }
                Phase::Running | Phase::Draining => {}
            }
            let room = !self.parcels.is_full() && self.assignment.in_flight() < self.settings.max_in_flight;
            if phase::now(&self.phase) == Phase::Running && !self.open.is_empty() && room {
                self.read()?;
            } else {
                self.wait()?;
            }
        }
    }

    fn assign(&mut self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for stretch in self.progress.stretches().iter().filter(|stretch| self.open.contains(&stretch.partition)) {
            list.add_partition_offset(&self.topic, stretch.partition, Offset::Offset(stretch.next()))?;
            self.assignment.assign(&self.topic, stretch.partition);
        }
        self.client.assign(&list)
    }

    /// Takes what is at hand, waiting for the first, and hands it over.
    fn read(&mut self) -> Result<(), String> {
        // Records borrow it.
        let client = Arc::clone(&self.client);
        let mut wait = IDLE_WAIT;
        let mut arrived_us = None;
        for _ in 0..BURST {
            match client.poll(wait) {
                None => break,
                Some(Ok(record)) => {
                    let now = *arrived_us.get_or_insert_with(|| self.inlet.now_us());
                    // Not the time of the replay, which would put what has no time of its own beside what comes now.
                    let then = self.records.time_of(&record, now);
                    self.take(&record, then);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.read_to_the_end(partition),
                Some(Err(error)) => self.failed(&error)?,
            }
            wait = Duration::ZERO;
            if self.open.is_empty()
                || self.parcels.is_full()
                || self.assignment.in_flight() >= self.settings.max_in_flight
            {
                break;
            }
        }
        self.parcels.try_send().map(drop).map_err(|closed| closed.to_string())
    }

    fn take(&mut self, record: &BorrowedMessage<'_>, arrived_us: i64) {
        let (partition, offset) = (record.partition(), record.offset());
        if !self.open.contains(&partition) {
            return;
        }
        if self.progress.stretch(partition).is_none_or(|stretch| offset >= stretch.to) {
            return self.read_to_the_end(partition);
        }
        if let Some(received) = self.assignment.receive(&self.topic, partition, offset) {
            let what = (Marks::REPLAYED, arrived_us, received);
            self.records.put(record, what, None, &self.inlet, &mut self.parcels);
        }
        if self.progress.stretch(partition).is_some_and(|stretch| offset + 1 == stretch.to) {
            self.read_to_the_end(partition);
        }
    }

    /// Nothing more is wanted of a partition: it may go on for long.
    fn read_to_the_end(&mut self, partition: i32) {
        self.open.retain(|open| *open != partition);
        if let Err(error) = self.client.pause(&client::list(&[(self.topic.clone(), partition)])) {
            tracing::debug!(%error, partition, "a partition was not paused; its records are left");
        }
    }

    fn failed(&mut self, error: &KafkaError) -> Result<(), String> {
        let told = client::describe(error);
        match client::meaning(error) {
            Meaning::Fatal => Err(told),
            _ if error.rdkafka_error_code() == Some(Code::AutoOffsetReset) => Err(format!(
                "{told}: the brokers have deleted records of the range meanwhile; begin where there are some, or with `earliest`"
            )),
            Meaning::Down(advice) => {
                if self.inlet.health().down(format!("{told}; {advice}")) {
                    tracing::warn!("Kafka at {}: {told}; {advice}; trying again", self.settings.brokers);
                }
                Ok(())
            }
            Meaning::Passing => Ok(()),
        }
    }

    /// Notes how far everything is settled. What is given back is not read again here: that would go on for ever.
    fn settle(&mut self) -> Result<(), String> {
        if !self.settlements.take(&mut self.settled) {
            return Ok(());
        }
        let mut given_back = false;
        for settlement in self.settled.drain(..) {
            given_back |= settlement.outcome == Outcome::Returned;
            self.assignment.settle(settlement.outcome, &settlement.tokens);
        }
        for position in self.assignment.advance() {
            if let Some(stretch) = self.progress.stretch(position.partition) {
                stretch.reached(position.offset);
            }
        }
        // At the end, what is not stored in time is given back as well; then it says by itself how to go on.
        if given_back && phase::now(&self.phase) == Phase::Running {
            return Err("records were given back by the lanes, and are not stored".to_owned());
        }
        Ok(())
    }

    /// Waits until parcels are sent, something settles, or the phase moves.
    fn wait(&mut self) -> Result<(), String> {
        let Self { parcels, settlements, phase, .. } = self;
        let next = if phase::now(phase) == Phase::Running { Phase::Draining } else { Phase::Closed };
        let waiting = async {
            tokio::select! {
                sent = parcels.send(), if !parcels.is_empty() => sent,
                () = settlements.news() => Ok(()),
                () = phase::reaches(phase, next) => Ok(()),
                () = tokio::time::sleep(ROOM_WAIT) => Ok(()),
            }
        };
        self.runtime.block_on(waiting).map_err(|closed| closed.to_string())
    }
}
