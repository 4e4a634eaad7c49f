//! The consumer's loop, on a thread of its own: librdkafka's calls block, and its callbacks run in the thread that polls.
//!
//! The loop reads all that is at hand before it sends parcels. When lanes are full, or as much is in flight as may be, it
//! first waits a moment without polling, since pausing makes librdkafka throw away what it has fetched; if that does
//! not help, partitions are paused and polling goes on, so that the group does not take us for dead.

pub(super) mod exact;
mod handover;
mod held;
mod journal;
mod latest;
mod reach;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_config::{Journal, KafkaSource as Settings};
use tidegate_model::{Inlet, InletClosed, Parcels, Phase, PhaseWatch, StateStore, Stored};
use tokio::runtime::Handle;

#[cfg(test)]
pub(super) use self::handover::REVOKE_WAIT;
use self::held::Held;
use self::reach::Reach;
use super::Witnesses;
use super::assignment::{Assignment, Position, Token};
use super::client::{self, Client, Member};
use super::lag::Ends;
use super::logs::Logs;
use super::records::Records;
use crate::phase;
use crate::settlements::{Settlement, Settlements};

/// How long to wait for room at a time.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// How long to wait for room before partitions are paused.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How long seeking may take: it is answered by librdkafka itself, not by a broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum End {
    /// The host is done with us, and offsets are committed.
    Closed,
    /// The client is broken for good; a new one may work.
    Broken(Breach),
}

/// Why a client is given up.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) what: String,
    /// What to do, if it comes again.
    pub(super) advice: &'static str,
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

/// All the loop knows.
pub(super) struct Consumer {
    settings: Arc<Settings>,
    inlet: Inlet,
    phase: PhaseWatch,
    runtime: Handle,
    records: Records,
    /// Knows how far records are stored, where that is stored with the points.
    stored: Option<Arc<dyn Stored>>,
    /// With a journal: knows which records the rules have had.
    state: Option<Arc<dyn StateStore>>,
    /// Those of the cluster, once it is known, with one of the two.
    logs: Option<Logs>,
    broken: Option<Breach>,
    /// With `start = "latest"`: partitions were read before, so that a topic that is new to the group was made since.
    has_begun: bool,
    assignment: Assignment,
    held: Held,
    parcels: Parcels<Token>,
    settlements: Arc<Settlements<Token>>,
    settled: Vec<Settlement<Token>>,
    intake: Intake,
    flow: Flow,
    reach: Reach,
    /// When to ask next where partitions end.
    look_at: Instant,
}

impl Consumer {
    pub(super) fn new(
        settings: Arc<Settings>,
        Witnesses { stored, state }: Witnesses,
        inlet: Inlet,
        phase: PhaseWatch,
        runtime: Handle,
    ) -> Self {
        let settlements: Arc<Settlements<Token>> = Arc::default();
        let parcels = parcels(&inlet, &settings, &settlements);
        Self {
            records: Records::new(&settings),
            settings,
            stored,
            state,
            logs: None,
            broken: None,
            has_begun: false,
            inlet,
            phase,
            runtime,
            assignment: Assignment::default(),
            held: Held::default(),
            parcels,
            settlements,
            settled: Vec::new(),
            intake: Intake::Open,
            flow: Flow::Reading,
            reach: Reach::Unknown,
            look_at: Instant::now(),
        }
    }

    /// Reads until the phase is [`Phase::Closed`], or the client is broken. The client must be subscribed.
    pub(super) fn run(&mut self, client: &Member) -> End {
        loop {
            let phase = phase::now(&self.phase);
            self.settle(client);
            if phase == Phase::Closed {
                self.finish(client);
                return End::Closed;
            }
            if phase == Phase::Draining {
                self.shut(client);
                if self.parcels.is_empty() {
                    self.parcels.shut();
                }
            }
            if let Some(end) = self.hear(client, Duration::ZERO) {
                return end;
            }
            while let Some(rebalance) = client.context().next_rebalance() {
                self.rebalance(client, &rebalance);
            }
            if let Some(breach) = self.broken.take() {
                return End::Broken(breach);
            }
            self.probe(client);
            self.ask_of_held(client);
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
        self.held = Held::default();
        self.flow = Flow::Reading;
        // The next has to show that it reaches the cluster.
        self.reach = Reach::Unknown;
    }

    /// Carries settlements to the low-water marks and those to the client, which commits them; starts and ends rewinds.
    fn settle(&mut self, client: &Client) {
        if self.state.is_some() {
            self.note_commits(client);
        }
        if self.settlements.any() || self.assignment.has_passed() {
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
                self.ask_anew();
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
            if self.flow == Flow::Paused {
                client.context().they_end(Ends::default());
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
                self.look_ahead(client);
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
            Err(error) => {
                tracing::warn!(source = %self.inlet.source(), %error, "partitions were not paused; trying again")
            }
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
        self.parcels = parcels(&self.inlet, &self.settings, &self.settlements);
        self.shut(client);
    }
}

fn parcels(inlet: &Inlet, settings: &Settings, settlements: &Arc<Settlements<Token>>) -> Parcels<Token> {
    let to = settlements.clone();
    // Tokens say by themselves which assignment they belong to.
    let parcels = inlet.parcels(move |tokens| to.ack(0, tokens));
    match settings.journal {
        Journal::Off => parcels,
        Journal::On => {
            let enough = settings.max_in_flight / (4 * inlet.lanes().max(1));
            parcels.journaled(move |tokens, messages| journal::journaled(tokens, messages, enough))
        }
    }
}

fn positions(of: &[Position]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for position in of {
        list.add_partition_offset(&position.topic, position.partition, Offset::Offset(position.offset))?;
    }
    Ok(list)
}
