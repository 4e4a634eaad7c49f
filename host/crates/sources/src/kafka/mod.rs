//! Kafka, as a member of a consumer group, over librdkafka.
//!
//! Guarantees: an offset is committed only when every record of its partition before it was settled; what is not settled
//! when the source stops, or a partition moves to another member, is read again. A
//! [`tidegate_model::Outcome::Returned`] makes the partition be read again from its low-water mark, after a wait that grows;
//! records already settled behind it come again with it.
//!
//! With `exactly_once` how far records are stored stands in the database, beside the points (`consumer/exact.rs`): it is asked whenever a partition is
//! assigned, and each record is told with its position. A partition keeps to one lane then (`logs.rs`).
//!
//! With a journal what the rules have had is not given to them again (`consumer/journal.rs`); a partition keeps to one lane there as well.
//!
//! Offsets are stored with the client as they settle, and librdkafka commits them every second, on a rebalance and at
//! the end.

mod assignment;
mod client;
mod consumer;
mod headers;
mod lag;
mod logs;
mod offsets;
mod range;
mod records;
mod time_from;
mod together;
mod topic_from;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use range::{Bound, KafkaLogs, KafkaRange, RangeError, RangeProgress, Stretch, sole_topic};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer as _;
use tidegate_config::KafkaSource as Settings;
use tidegate_model::{Health, Inlet, Phase, PhaseWatch, Source, SourceError, StateStore, Stored};
pub(crate) use together::partition_of_key;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backoff::Backoff;
use crate::phase;
use client::{Client, Context, Member};
use consumer::{Consumer, End};

/// How long the end may take, commit and all: with no broker to hear of it, librdkafka would wait for minutes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the topics of a Kafka cluster in a consumer group.
#[derive(Debug)]
pub struct KafkaSource {
    settings: Settings,
    witnesses: Witnesses,
}

/// Who knows what became of records, where that is not for the group alone to say.
#[derive(Clone, Debug, Default)]
struct Witnesses {
    /// How far they are stored.
    stored: Option<Arc<dyn Stored>>,
    /// Which of them the rules have had.
    state: Option<Arc<dyn StateStore>>,
}

impl KafkaSource {
    /// A source that does nothing until it is run.
    pub fn new(settings: Settings) -> Self {
        Self { settings, witnesses: Witnesses::default() }
    }

    /// The same, with offsets that a sink stores with the points: `stored` knows how far it is.
    #[must_use]
    pub fn stored_by(mut self, stored: Arc<dyn Stored>) -> Self {
        self.witnesses.stored = Some(stored);
        self
    }

    /// The same, with a journal: what `state` has is given to the rules once.
    #[must_use]
    pub fn journaled(mut self, state: Arc<dyn StateStore>) -> Self {
        self.witnesses.state = Some(state);
        self
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn run(self: Box<Self>, inlet: Inlet, phase: PhaseWatch) -> Result<(), SourceError> {
        let (ended, end) = oneshot::channel();
        let runtime = Handle::current();
        let name = inlet.source().clone();
        let (settings, witnesses) = (Arc::new(self.settings), self.witnesses);
        let mut closed = phase.clone();
        tidegate_telemetry::thread(&format!("kafka-{name}"), move || {
            // Nobody waits for the answer when the host has dropped the source.
            let _gone = ended.send(consume(settings, witnesses, inlet, phase, runtime)).is_err();
        })
        .map_err(|error| SourceError(format!("source {name}: its thread cannot be started: {error}")))?;
        let overdue = async {
            phase::reaches(&mut closed, Phase::Closed).await;
            tokio::time::sleep(LEAVE_TIMEOUT).await;
        };
        tokio::select! {
            end = end => end.map_err(|_| SourceError(format!("source {name}: its thread ended without a word")))?,
            () = overdue => {
                tracing::warn!(source = %name, "the group could not be left in {LEAVE_TIMEOUT:?}; it will find out by itself");
                Ok(())
            }
        }
    }
}

/// Runs one client after the other, should one break, until the phase is closed.
fn consume(
    settings: Arc<Settings>,
    witnesses: Witnesses,
    inlet: Inlet,
    closed: PhaseWatch,
    runtime: Handle,
) -> Result<(), SourceError> {
    let (name, health) = (inlet.source().clone(), inlet.health().clone());
    let mut phase = closed.clone();
    let new = || Consumer::new(settings.clone(), witnesses.clone(), inlet.clone(), closed.clone(), runtime.clone());
    let mut consumer = new();
    let mut backoff = Backoff::default();
    loop {
        let client =
            connect(&settings, health.clone()).map_err(|why| SourceError(format!("source {name}: {why}")))?;
        backoff.holds();
        // Whatever ends it, the client has to be left: librdkafka would wait for its rebalances, on this thread and in silence, as a member of the
        // group that reads nothing.
        let end = tidegate_telemetry::caught(&name, || consumer.run(&client));
        client::leave(client);
        // Of partitions that are nobody's or another's by now.
        health.behind(Vec::new());
        health.leaves_unread(Vec::new());
        match end {
            Ok(End::Closed) => return Ok(()),
            Ok(End::Broken(breach)) => {
                consumer.down(&breach.what, breach.advice);
                consumer.forget();
            }
            Err(panic) => {
                let advice = "this is a mistake in Tidegate: please report it with the lines of the log";
                consumer.down(&format!("reading ended by a panic: {panic}"), advice);
                // Nobody knows in what state the old one is; what it has in flight is read again.
                consumer = new();
            }
        }
        wait(&runtime, &mut phase, backoff.failed());
    }
}

/// A client that is subscribed; no broker need be there yet.
fn connect(settings: &Settings, health: Arc<Health>) -> Result<Member, String> {
    let client =
        Client::from_config_and_context(&client::config(settings), Context::new(health)).map_err(|error| {
            format!("librdkafka refuses the configuration: {}; correct it under `client`", client::describe(&error))
        })?;
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    client.subscribe(&topics).map_err(|error| {
        format!(
            "the topics {topics:?} cannot be subscribed to: {}; correct them under `topics`",
            client::describe(&error)
        )
    })?;
    Member::new(client).ok_or_else(|| "librdkafka has made no member of a group".to_owned())
}

fn wait(runtime: &Handle, phase: &mut PhaseWatch, most: Duration) {
    runtime.block_on(async {
        tokio::select! {
            () = tokio::time::sleep(most) => {}
            () = phase::reaches(phase, Phase::Closed) => {}
        }
    });
}
