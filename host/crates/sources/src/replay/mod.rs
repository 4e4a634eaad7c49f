//! Dead letters that are wanted back among the messages: by an operator, or since a rule is called again for what was parked.
//!
//! Each goes the way it went before: on its topic, with its bytes, properties and time of receipt, on the lane where the topic's other
//! messages are, under the name of the source it once came from, and marked [`Marks::REPLAYED`]. When it is settled its letter is
//! removed: what fails again has become a new letter by then. What is given back, and what the host did not come to before it
//! ended, is still asked for and comes again: at least once.
//!
//! The source looks once a second. It keeps at most [`MOST_IN_FLIGHT`] letters in flight, beside what live sources send.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_config::{LaneBy, RecordsBy, SourceSettings};
use tidegate_model::{
    DeadLetter, Inlet, Marks, Outcome, Parcels, Phase, PhaseWatch, Properties, Replays, Source, SourceError,
};

use crate::backoff::Backoff;
use crate::settlements::{Settlement, Settlements};
use crate::{kafka, mqtt, phase};

/// How often it looks for new wishes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most letters in flight.
const MOST_IN_FLIGHT: usize = 1_000;
/// The most letters taken at a time.
const MOST_AT_ONCE: usize = 256;

/// Puts dead letters back.
#[derive(Debug)]
pub struct ReplaySource {
    replays: Arc<dyn Replays>,
    /// The host's sources by name: they say which topics stay together.
    sources: BTreeMap<String, SourceSettings>,
}

impl ReplaySource {
    /// Puts back what `replays` gives, as if by these sources.
    pub fn new(replays: Arc<dyn Replays>, sources: BTreeMap<String, SourceSettings>) -> Self {
        Self { replays, sources }
    }
}

#[async_trait]
impl Source for ReplaySource {
    async fn run(self: Box<Self>, inlet: Inlet, phase: PhaseWatch) -> Result<(), SourceError> {
        inlet.health().up();
        let Self { replays, sources } = *self;
        let replay = Replay {
            replays,
            sources,
            inlet,
            phase,
            settlements: Arc::default(),
            in_flight: BTreeSet::new(),
            done: Vec::new(),
            backoff: Backoff::default(),
            look_at: Instant::now(),
        };
        replay.run().await;
        Ok(())
    }
}

/// The source at work.
struct Replay {
    replays: Arc<dyn Replays>,
    sources: BTreeMap<String, SourceSettings>,
    inlet: Inlet,
    phase: PhaseWatch,
    settlements: Arc<Settlements<i64>>,
    in_flight: BTreeSet<i64>,
    /// Settled, and not yet removed from the file.
    done: Vec<i64>,
    backoff: Backoff,
    look_at: Instant,
}

impl Replay {
    async fn run(mut self) {
        loop {
            self.settle();
            self.remove().await;
            match phase::now(&self.phase) {
                Phase::Running if Instant::now() >= self.look_at => self.look().await,
                Phase::Running | Phase::Draining => {}
                Phase::Closed => return,
            }
            let next = match phase::now(&self.phase) {
                Phase::Running => Phase::Draining,
                Phase::Draining | Phase::Closed => Phase::Closed,
            };
            tokio::select! {
                () = self.settlements.news() => {}
                () = phase::reaches(&mut self.phase, next) => {}
                () = tokio::time::sleep_until(self.look_at.into()), if next == Phase::Draining => {}
            }
        }
    }

    /// Sees what became of letters in flight.
    fn settle(&mut self) {
        let mut settled = Vec::new();
        self.settlements.take(&mut settled);
        for Settlement { outcome, tokens, .. } in settled {
            match outcome {
                Outcome::Settled => self.done.extend(tokens),
                Outcome::Returned => {
                    // Still asked for: it comes again.
                    self.look_at = Instant::now() + self.backoff.failed();
                    self.in_flight.retain(|id| !tokens.contains(id));
                }
            }
        }
    }

    /// Removes settled letters from the file. Until that has worked they count as in flight, so that they are not replayed twice.
    async fn remove(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let (replays, ids) = (self.replays.clone(), self.done.clone());
        if self.ask("removed", move || replays.settled(&ids)).await.is_some() {
            for id in self.done.drain(..) {
                self.in_flight.remove(&id);
            }
            // More may wait for the room.
            self.look_at = Instant::now();
        }
    }

    /// Looks for letters that are asked for, and puts them among the messages.
    async fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        let most = MOST_AT_ONCE.min(MOST_IN_FLIGHT.saturating_sub(self.in_flight.len()));
        if most == 0 {
            return;
        }
        let (replays, except) = (self.replays.clone(), self.in_flight.clone());
        let Some(letters) = self.ask("read", move || replays.requested(&except, most)).await else { return };
        if letters.is_empty() {
            return;
        }
        tracing::info!(letters = letters.len(), "replaying dead letters, as was asked for");
        self.look_at = Instant::now();
        self.backoff.holds();
        for (source, mut parcels) in self.parcels(letters) {
            tokio::select! {
                sent = parcels.send() => {
                    if sent.is_err() {
                        return;
                    }
                }
                // What was not sent is given up with the parcels, and asked for again at the next start.
                () = phase::reaches(&mut self.phase, Phase::Draining) => {
                    tracing::info!(source = &*source, "the host ends; letters not replayed yet wait for its next start");
                    return;
                }
            }
        }
    }

    /// The letters as messages, by the source each came from.
    fn parcels(&mut self, letters: Vec<(i64, DeadLetter)>) -> BTreeMap<Arc<str>, Parcels<i64>> {
        let mut by_source: BTreeMap<Arc<str>, Parcels<i64>> = BTreeMap::new();
        for (id, letter) in letters {
            self.in_flight.insert(id);
            let inlet = &self.inlet;
            let parcels = by_source.entry(letter.source.clone()).or_insert_with_key(|source| {
                let settlements = self.settlements.clone();
                inlet.on_behalf_of(source.clone()).parcels(move |ids| settlements.ack(0, ids))
            });
            // What was too much then is asked for now; what was cut off stays so.
            let marks = Marks(letter.marks & !(Marks::EXCESS.0 | Marks::DROPPED.0)).with(Marks::REPLAYED);
            let partition = partition(self.sources.get(&*letter.source), &letter);
            let (messages, row) = match inlet.topic(&letter.topic, &partition) {
                Ok(route) => parcels.push(route, letter.received_us, marks, &letter.payload, id),
                Err(_full) => parcels.push_unnamed(&letter.topic, letter.received_us, marks, &letter.payload, id),
            };
            for (key, value) in &letter.properties {
                messages.properties.push(row, key, value);
            }
        }
        by_source
    }

    /// Asks the file, off the runtime's threads; `None`, and said once, if it fails.
    async fn ask<T: Send + 'static>(
        &mut self,
        what: &str,
        question: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Option<T> {
        let why = match tokio::task::spawn_blocking(question).await {
            Ok(Ok(answer)) => {
                self.inlet.health().up();
                return Some(answer);
            }
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        self.look_at = Instant::now() + self.backoff.failed().max(LOOK_EVERY);
        if self.inlet.health().down(why.clone()) {
            tracing::warn!("letters to be replayed cannot be {what}: {why}; trying again");
        }
        None
    }
}

/// What `topic` stays together with, as the source it came by would have it.
fn partition<'a>(source: Option<&SourceSettings>, letter: &'a DeadLetter) -> Cow<'a, str> {
    let topic = &*letter.topic;
    match source {
        Some(SourceSettings::Mqtt(settings)) => mqtt::lane_by(settings, topic).partition(topic),
        Some(SourceSettings::Kafka(settings)) => match &settings.lane_by {
            RecordsBy::Topics(by) => by.partition(topic),
            RecordsBy::Key => {
                let key =
                    letter.properties.iter().find(|(name, value)| **name == *Properties::KEY && !value.is_empty());
                key.map_or(Cow::Borrowed(topic), |(_, key)| kafka::partition_of_key(key).into())
            }
            // A letter does not say of which it was: a topic that this process has met goes where it belongs. One that it has not, as when letters are put back
            // at a start before the group has given out its partitions, is by itself from then on, and its live records are strays until the next start.
            RecordsBy::Partition => Cow::Borrowed(topic),
        },
        None => LaneBy::Topic.partition(topic),
    }
}
