//! The consumer's loop, on a thread of its own: librdkafka's calls block, and its callbacks run in the thread that polls.
//!
//! The loop reads all that is at hand before it sends parcels. When lanes are full, or as much is in flight as may be, it
//! first waits a moment without polling, since pausing makes librdkafka throw away what it has fetched; if that does
//! not help, partitions are paused and polling goes on, so that the group does not take us for dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_config::KafkaSource as Settings;
use tidegate_model::{Inlet, InletClosed, Marks, Parcels, Phase, PhaseWatch};
use tokio::runtime::Handle;

use super::assignment::{Assignment, Position, Token};
use super::client::{self, Client, Meaning, Rebalance};
use super::topic_from::LogicalTopic;
use crate::phase;
use crate::routes::Routes;
use crate::settlements::{Settlement, Settlements};

/// How long a poll may wait when nothing comes: the delay of settlements and of the phase.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// The same while parcels wait for room in a lane.
const BEHIND_WAIT: Duration = Duration::from_millis(2);
/// How long to wait for room at a time.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// How long to wait for room before partitions are paused.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// The most records read before settlements are looked at.
const BURST: usize = 10_000;
/// How long what is in flight of a revoked partition may take; the whole group waits meanwhile.
const REVOKE_WAIT: Duration = Duration::from_secs(5);
/// How long seeking may take: it is answered by librdkafka itself, not by a broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the last commit may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a broker that was down is asked whether it is back, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// The most headers of one record that are kept, and the most bytes of them: the rest is not for telemetry.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The name a record's key has among the properties.
const KEY_PROPERTY: &str = "kafka.key";

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum End {
    /// The host is done with us, and offsets are committed.
    Closed,
    /// The client is broken for good; a new one may work.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// What arrives is left: it is neither counted nor committed.
    Shut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Reading,
    /// No room since then.
    Held(Instant),
    Paused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Unknown,
    Up,
    /// Down, and when to ask next.
    Down(Instant),
}

/// All the loop knows.
pub(super) struct Consumer {
    settings: Arc<Settings>,
    inlet: Inlet,
    phase: PhaseWatch,
    runtime: Handle,
    logical: LogicalTopic,
    assignment: Assignment,
    parcels: Parcels<Token>,
    routes: Routes,
    settlements: Arc<Settlements<Token>>,
    settled: Vec<Settlement<Token>>,
    intake: Intake,
    flow: Flow,
    reach: Reach,
}

impl Consumer {
    pub(super) fn new(settings: Arc<Settings>, inlet: Inlet, phase: PhaseWatch, runtime: Handle) -> Self {
        let settlements: Arc<Settlements<Token>> = Arc::default();
        let parcels = parcels(&inlet, &settlements);
        Self {
            logical: LogicalTopic::new(&settings.topic_from),
            settings,
            inlet,
            phase,
            runtime,
            assignment: Assignment::default(),
            parcels,
            routes: Routes::default(),
            settlements,
            settled: Vec::new(),
            intake: Intake::Open,
            flow: Flow::Reading,
            reach: Reach::Unknown,
        }
    }

    /// Reads until the phase is [`Phase::Closed`], or the client is broken. The client must be subscribed.
    pub(super) fn run(&mut self, client: &Client) -> End {
        loop {
            let phase = phase::now(&self.phase);
            self.settle(client);
            if phase == Phase::Closed {
                self.finish(client);
                return End::Closed;
            }
            if phase == Phase::Draining {
                self.shut(client);
            }
            while let Some(rebalance) = client.context().next_rebalance() {
                self.rebalance(client, &rebalance);
            }
            self.probe(client);
            if let Some(end) = if self.has_room(client) { self.read(client) } else { self.wait(client) } {
                return end;
            }
        }
    }

    /// Gives up all partitions without a word to the broker: the client that held them is broken.
    pub(super) fn forget(&mut self) {
        for (topic, partition) in self.assignment.all() {
            self.assignment.revoke(&topic, partition);
        }
        self.flow = Flow::Reading;
    }

    /// Takes what is at hand, waiting for the first, and hands it over.
    fn read(&mut self, client: &Client) -> Option<End> {
        let mut wait = if self.parcels.is_empty() { IDLE_WAIT } else { BEHIND_WAIT };
        let mut received_us = None;
        for _ in 0..BURST {
            match client.poll(wait) {
                None => break,
                Some(Ok(record)) => {
                    let now = *received_us.get_or_insert_with(|| self.inlet.now_us());
                    self.take(&record, now);
                }
                Some(Err(error)) => {
                    if let Some(end) = self.failed(&error) {
                        return Some(end);
                    }
                    break;
                }
            }
            wait = Duration::ZERO;
            if self.parcels.is_full() || self.assignment.in_flight() >= self.settings.max_in_flight {
                break;
            }
        }
        if received_us.is_some() {
            self.reached();
        }
        if self.parcels.try_send().is_err() {
            self.lanes_gone(client);
        }
        None
    }

    fn take(&mut self, record: &BorrowedMessage<'_>, received_us: i64) {
        if self.intake == Intake::Shut {
            return;
        }
        let kafka_topic = record.topic();
        let Some(received) = self.assignment.receive(kafka_topic, record.partition(), record.offset()) else { return };
        let marks = if received.again { Marks::REDELIVERED } else { Marks::default() };
        // A tombstone (no payload at all) is an empty message.
        let payload = record.payload().unwrap_or(&[]);
        // A record without a logical topic keeps the Kafka topic's name: its bytes reach a decoder or the dead letters.
        let found = self.logical.find(record);
        let topic = found.as_deref().unwrap_or(kafka_topic.as_bytes());
        let lane_by = &self.settings.lane_by;
        let Some(route) = self.routes.find(topic, &self.inlet, |name| lane_by.partition(name)) else {
            let name = String::from_utf8_lossy(topic);
            return self.parcels.push_unnamed(&name, received_us, marks, payload, received.token);
        };
        let (messages, row) = self.parcels.push(route, received_us, marks, payload, received.token);
        if let Some(key) = record.key() {
            messages.properties.push(row, KEY_PROPERTY, key);
        }
        if let Some(headers) = record.headers() {
            let mut left = MAX_HEADER_BYTES;
            for header in headers.iter().take(MAX_HEADERS) {
                let value = header.value.unwrap_or(&[]);
                let Some(rest) = left.checked_sub(header.key.len() + value.len()) else { break };
                left = rest;
                messages.properties.push(row, header.key, value);
            }
        }
    }

    /// Carries settlements to the low-water marks and those to the client, which commits them; starts and ends rewinds.
    fn settle(&mut self, client: &Client) {
        if self.settlements.any() {
            self.settlements.take(&mut self.settled);
            for settlement in self.settled.drain(..) {
                self.assignment.settle(settlement.outcome, &settlement.tokens);
            }
            let moved = self.assignment.advance();
            if !moved.is_empty()
                && let Err(error) = positions(&moved).and_then(|list| client.store_offsets(&list))
            {
                tracing::debug!(source = %self.inlet.source(), %error, "offsets were not stored: those partitions have left us");
            }
            let now = Instant::now();
            for (from, wait) in self.assignment.rewind(now) {
                tracing::warn!(
                    source = %self.inlet.source(), topic = from.topic, partition = from.partition, offset = from.offset,
                    "records were given back by the lanes; reading again from this offset in {wait:?}"
                );
                if let Err(error) = client.pause(&client::list(&[(from.topic, from.partition)])) {
                    tracing::debug!(%error, "a partition to be rewound was not paused; its records are left until then");
                }
            }
        }
        if self.intake == Intake::Open {
            self.rewind_due(client);
        }
    }

    fn rewind_due(&mut self, client: &Client) {
        let now = Instant::now();
        for to in self.assignment.due(now) {
            match client.seek(&to.topic, to.partition, Offset::Offset(to.offset), SEEK_TIMEOUT) {
                Ok(()) if self.flow == Flow::Paused => {}
                Ok(()) => {
                    if let Err(error) = client.resume(&client::list(&[(to.topic.clone(), to.partition)])) {
                        tracing::warn!(topic = to.topic, partition = to.partition, %error, "a partition was not resumed");
                    }
                }
                Err(error) => {
                    tracing::warn!(topic = to.topic, partition = to.partition, %error, "reading again failed; trying again");
                    self.assignment.rewind_again(&to, now);
                }
            }
        }
    }

    /// Whether more may be read; resumes what was paused when there is room again.
    fn has_room(&mut self, client: &Client) -> bool {
        let (in_flight, most) = (self.assignment.in_flight(), self.settings.max_in_flight.max(1));
        let room = match self.flow {
            // What was paused stays so until half is settled: resuming costs a fetch.
            Flow::Paused => self.intake == Intake::Open && self.parcels.is_empty() && in_flight <= most / 2,
            Flow::Reading | Flow::Held(_) => !self.parcels.is_full() && in_flight < most,
        };
        if room {
            if self.flow == Flow::Paused {
                let readable: Vec<_> = self.assignment.readable().map(|(t, p)| (t.to_owned(), p)).collect();
                if let Err(error) = client.resume(&client::list(&readable)) {
                    tracing::warn!(source = %self.inlet.source(), %error, "partitions were not resumed; trying again");
                    return false;
                }
            }
            self.flow = Flow::Reading;
        }
        room
    }

    /// Waits for room in the lanes or for settlements.
    fn wait(&mut self, client: &Client) -> Option<End> {
        let since = match self.flow {
            Flow::Held(since) => since,
            Flow::Reading => {
                let now = Instant::now();
                self.flow = Flow::Held(now);
                now
            }
            Flow::Paused => {
                // Nothing comes from paused partitions, but callbacks do, and the group wants to see us poll.
                match client.poll(Duration::ZERO) {
                    Some(Ok(record)) => self.take(&record, self.inlet.now_us()),
                    Some(Err(error)) => {
                        if let Some(end) = self.failed(&error) {
                            return Some(end);
                        }
                    }
                    None => {}
                }
                Instant::now()
            }
        };
        if since.elapsed() >= PATIENCE {
            self.pause(client);
        }
        if self.room_or_news(ROOM_WAIT).is_err() {
            self.lanes_gone(client);
        }
        None
    }

    /// Waits until parcels are sent, something settles, the phase moves or the time is up.
    fn room_or_news(&mut self, most: Duration) -> Result<(), InletClosed> {
        let Self { parcels, settlements, phase, intake, .. } = self;
        let next = if *intake == Intake::Open { Phase::Draining } else { Phase::Closed };
        let waiting = async {
            tokio::select! {
                sent = parcels.send(), if !parcels.is_empty() => sent,
                () = settlements.news() => Ok(()),
                () = phase::reaches(phase, next) => Ok(()),
                () = tokio::time::sleep(most) => Ok(()),
            }
        };
        self.runtime.block_on(waiting)
    }

    fn pause(&mut self, client: &Client) {
        match client.pause(&client::list(&self.assignment.all())) {
            Ok(()) => self.flow = Flow::Paused,
            Err(error) => tracing::warn!(source = %self.inlet.source(), %error, "partitions were not paused; trying again"),
        }
    }

    /// Takes no more from now on.
    fn shut(&mut self, client: &Client) {
        if self.intake == Intake::Open {
            self.intake = Intake::Shut;
            self.pause(client);
        }
    }

    /// There are no lanes any more: what is in the parcels is read again by whoever comes next.
    fn lanes_gone(&mut self, client: &Client) {
        self.parcels = parcels(&self.inlet, &self.settlements);
        self.shut(client);
    }

    fn rebalance(&mut self, client: &Client, rebalance: &Rebalance) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                for (topic, partition) in partitions {
                    self.assignment.assign(topic, *partition);
                }
                tracing::info!(source = %self.inlet.source(), ?partitions, "partitions were assigned to us");
            }
            Rebalance::Revoke(partitions) => {
                if !client.assignment_lost() {
                    self.hand_over(client, partitions);
                }
                for (topic, partition) in partitions {
                    self.assignment.revoke(topic, *partition);
                }
                tracing::info!(source = %self.inlet.source(), ?partitions, "partitions were taken from us");
            }
        }
        if let Err(error) = client::carry_out(client, rebalance) {
            tracing::warn!(source = %self.inlet.source(), %error, "a rebalance was not carried out; the group will repeat it");
        }
        if let Rebalance::Assign(partitions) = rebalance {
            self.reached();
            if self.flow == Flow::Paused
                && let Err(error) = client.pause(&client::list(partitions))
            {
                tracing::debug!(%error, "new partitions were not paused; a few records more are read");
            }
        }
    }

    /// Lets what is in flight of partitions we lose end, as far as time allows, and commits how far it came: the rest is
    /// repeated to their next owner.
    fn hand_over(&mut self, client: &Client, partitions: &[(String, i32)]) {
        let until = Instant::now() + REVOKE_WAIT;
        while self.assignment.in_flight_of(partitions) > 0 && phase::now(&self.phase) < Phase::Closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    source = %self.inlet.source(), records = self.assignment.in_flight_of(partitions),
                    "records of partitions taken from us are still in flight after {REVOKE_WAIT:?}; their next owner gets them again"
                );
                break;
            }
            if self.room_or_news(left.min(ROOM_WAIT)).is_err() {
                self.lanes_gone(client);
                break;
            }
            self.settle(client);
        }
        let marks = self.assignment.low_water(partitions);
        if marks.is_empty() {
            return;
        }
        if let Err(error) = positions(&marks).and_then(|list| client.commit(&list, CommitMode::Sync)) {
            tracing::warn!(
                source = %self.inlet.source(), %error,
                "offsets of partitions taken from us were not committed; their next owner repeats some records"
            );
        }
    }

    /// The end: what is settled is committed. What remains in flight is read again by whoever comes next.
    fn finish(&mut self, client: &Client) {
        let before = client.context().commits();
        match client.commit_consumer_state(CommitMode::Async) {
            Ok(()) => {
                let until = Instant::now() + COMMIT_TIMEOUT;
                while client.context().commits() == before && Instant::now() < until {
                    // Records that still come are not ours to count any more.
                    client.poll(ROOM_WAIT);
                }
            }
            Err(KafkaError::ConsumerCommit(rdkafka::types::RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => tracing::warn!(source = %self.inlet.source(), %error, "the last offsets were not committed"),
        }
    }

    fn failed(&mut self, error: &KafkaError) -> Option<End> {
        match client::meaning(error) {
            Meaning::Passing => {
                tracing::debug!(source = %self.inlet.source(), %error, "librdkafka reports");
                None
            }
            Meaning::Down(advice) => {
                self.reach = Reach::Down(Instant::now() + PROBE_EVERY);
                self.down(&client::describe(error), advice);
                None
            }
            Meaning::Fatal => Some(End::Broken(client::describe(error))),
        }
    }

    /// Says that nothing comes, why, and what to do.
    pub(super) fn down(&self, what: &str, advice: &str) {
        let why = format!("Kafka at {}: {what}; {advice}", self.settings.brokers);
        if self.inlet.health().down(why.clone()) {
            tracing::warn!(source = %self.inlet.source(), "{why}; trying again");
        }
    }

    fn reached(&mut self) {
        if self.reach != Reach::Up {
            self.reach = Reach::Up;
            self.inlet.health().up();
        }
    }

    /// librdkafka tells when brokers go, not when they come back: ask, while they are gone.
    fn probe(&mut self, client: &Client) {
        let Reach::Down(due) = self.reach else { return };
        if Instant::now() < due {
            return;
        }
        let topic = self.settings.topics.iter().find(|topic| !topic.starts_with('^'));
        let answer = client.fetch_metadata(topic.map(String::as_str), PROBE_TIMEOUT);
        if answer.is_ok_and(|metadata| topic.is_none() || metadata.topics().iter().all(|t| t.error().is_none())) {
            self.reached();
        } else {
            self.reach = Reach::Down(Instant::now() + PROBE_EVERY);
        }
    }
}

fn parcels(inlet: &Inlet, settlements: &Arc<Settlements<Token>>) -> Parcels<Token> {
    let to = settlements.clone();
    // Tokens say by themselves which assignment they belong to.
    inlet.parcels(move |tokens| to.ack(0, tokens))
}

fn positions(of: &[Position]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for position in of {
        list.add_partition_offset(&position.topic, position.partition, Offset::Offset(position.offset))?;
    }
    Ok(list)
}
