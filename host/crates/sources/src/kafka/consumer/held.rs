//! Partitions that are ours and not read, since nobody knows where to begin with them (`exact.rs`); the others are read.
//!
//! Such a partition stays assigned, paused, and its records are left. Now and then it is asked whether somebody has said where it begins: in the
//! database, since that is where it stands. It goes on then, without a word to the others.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use tidegate_model::{SinkError, Unread};
use tokio::sync::oneshot;

use super::exact::Beginning;
use super::reach::Reach;
use super::{Consumer, Intake};
use crate::kafka::client::{self, Client};

/// How often it is asked, and how long each answer of the brokers may take: meanwhile nothing else is read. For the database's answer nobody waits.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Those that are held.
#[derive(Debug, Default)]
pub(super) struct Held {
    partitions: Vec<Unread>,
    ask_at: Option<Instant>,
    /// What the database was asked, of those that are held now, and has not answered.
    asked: Option<oneshot::Receiver<Answer>>,
}

/// How far partitions are stored.
type Answer = Result<Vec<(String, i32, i64)>, SinkError>;

impl Held {
    /// The group took it from us.
    pub(super) fn revoke(&mut self, topic: &str, partition: i32) {
        self.partitions.retain(|held| held.topic != topic || held.partition != partition);
        // Whoever has it meanwhile may store more of it: should it come back, an answer of before says too little.
        self.asked = None;
    }

    fn names(&self) -> Vec<(String, i32)> {
        self.partitions.iter().map(|held| (held.topic.clone(), held.partition)).collect()
    }
}

impl Consumer {
    fn ask_database(&mut self) {
        if self.held.ask_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let (Some(stored), Some(logs)) = (self.stored.clone(), &self.logs) else { return };
        let (cluster, group) = (logs.cluster(), self.settings.group.clone());
        let (answer, asked) = oneshot::channel();
        self.held.asked = Some(asked);
        let _runtime = self.runtime.enter();
        // It has limits of its own, for each of its servers.
        tidegate_telemetry::spawn("kafka-held", async move {
            // Nobody hears it where the partitions have left us.
            let _unheard = answer.send(stored.next_offsets(&cluster, &group).await).is_err();
        });
    }

    /// Holds those of the partitions that begin nowhere; gives where librdkafka is to begin with all of them. Those are put to their ends: where
    /// there is nothing to be fetched before they are paused, and no offset that a broker would refuse.
    pub(super) fn hold(&mut self, partitions: &[(String, i32)], begin: Vec<Beginning>) -> Vec<Offset> {
        let mut offsets = Vec::with_capacity(begin.len());
        for ((topic, partition), begin) in partitions.iter().zip(begin) {
            offsets.push(match begin {
                Beginning::At(offset) => Offset::Offset(offset),
                Beginning::Nowhere(reason) => {
                    tracing::error!(source = %self.inlet.source(), topic, partition, "{reason}");
                    self.assignment.hold(topic, *partition);
                    self.held.revoke(topic, *partition);
                    self.held.partitions.push(Unread { topic: topic.clone(), partition: *partition, reason });
                    Offset::End
                }
            });
        }
        self.held.ask_at = Some(Instant::now() + ASK_EVERY);
        offsets
    }

    /// After an assignment was carried out: what is held is paused, and told.
    pub(super) fn keep_held(&mut self, client: &Client) {
        if !self.held.partitions.is_empty()
            && let Err(error) = client.pause(&client::list(&self.held.names()))
        {
            tracing::debug!(%error, "partitions that are held were not paused; their records are left");
        }
        self.tell_held();
        match self.held.partitions.first() {
            Some(held) if self.assignment.readable().next().is_none() => {
                // Nothing comes at all, so this is how the source is.
                let why = held.reason.clone();
                self.reach = Reach::Unknown;
                self.down(&why, "no other partition is read by this host");
            }
            _ => self.heard(),
        }
    }

    pub(super) fn tell_held(&self) {
        self.inlet.health().leaves_unread(self.held.partitions.clone());
    }

    /// Asks now and then where to begin with what is held, and reads it from there. The database is asked beside the loop: it may be silent for
    /// long, and the other partitions are read.
    pub(super) fn ask_of_held(&mut self, client: &Client) {
        if self.held.partitions.is_empty() || self.intake == Intake::Shut {
            return;
        }
        let answer = match self.held.asked.as_mut().map(oneshot::Receiver::try_recv) {
            None => return self.ask_database(),
            Some(Err(oneshot::error::TryRecvError::Empty)) => return,
            Some(Err(oneshot::error::TryRecvError::Closed)) => Err("the question was given up".to_owned()),
            Some(Ok(answer)) => answer.map_err(|error| error.to_string()),
        };
        let names = self.held.names();
        let begin = answer.and_then(|stored| self.begin_after(client, &stored, &names, ASK_TIMEOUT));
        let now = Instant::now();
        self.held.asked = None;
        self.held.ask_at = Some(now + ASK_EVERY);
        let begin = match begin {
            Ok(begin) => begin,
            Err(error) => {
                tracing::debug!(source = %self.inlet.source(), error, "where partitions begin that are held is not known for now");
                return;
            }
        };
        for ((topic, partition), begin) in names.iter().zip(begin) {
            match begin {
                Beginning::At(from) => {
                    tracing::info!(source = %self.inlet.source(), topic, partition, from, "a partition that was held is read from here");
                    self.assignment.read_from(topic, *partition, from, now);
                    self.held.revoke(topic, *partition);
                    self.heard();
                }
                Beginning::Nowhere(reason) => {
                    let same = |held: &&mut Unread| held.topic == *topic && held.partition == *partition;
                    if let Some(held) = self.held.partitions.iter_mut().find(same) {
                        held.reason = reason;
                    }
                }
            }
        }
        self.tell_held();
    }
}
