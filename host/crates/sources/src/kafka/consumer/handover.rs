//! Taking partitions on, handing them over, and the end.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tidegate_model::Phase;

use super::{Breach, Consumer, End, Flow, ROOM_WAIT, positions};
use crate::kafka::assignment::Position;
use crate::kafka::client::{self, Client, Member, Rebalance};
use crate::phase;

/// How long what is in flight of a revoked partition may take; the whole group waits meanwhile.
pub(crate) const REVOKE_WAIT: Duration = Duration::from_secs(5);
/// How long the brokers may take to answer a question about offsets.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last commit of partitions that move may take: as long as what is in flight of them.
const HAND_OVER_TIMEOUT: Duration = REVOKE_WAIT;
/// How long the last commit of all may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(2);

impl Consumer {
    pub(super) fn rebalance(&mut self, client: &Member, rebalance: &Rebalance) {
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
                    self.held.revoke(topic, *partition);
                }
                self.tell_held();
                tracing::info!(source = %self.inlet.source(), ?partitions, "partitions were taken from us");
            }
        }
        let begin = self.begin_with(client, rebalance);
        client.gather(&self.assignment.all());
        if let Err(error) = client::carry_out(client, rebalance, &begin) {
            tracing::warn!(source = %self.inlet.source(), %error, "a rebalance was not carried out; the group will repeat it");
        }
        client.gather(&self.assignment.all());
        if let Rebalance::Assign(partitions) = rebalance
            && self.broken.is_none()
        {
            if self.flow == Flow::Paused
                && let Err(error) = client.pause(&client::list(partitions))
            {
                tracing::debug!(%error, "new partitions were not paused; a few records more are read");
            }
            self.keep_held(client);
        }
    }

    /// Where to begin with what was assigned; empty to leave it to the group. What cannot be known ends this client.
    fn begin_with(&mut self, client: &Client, rebalance: &Rebalance) -> Vec<Offset> {
        let Rebalance::Assign(partitions) = rebalance else { return Vec::new() };
        if partitions.is_empty() {
            return Vec::new();
        }
        if let Some(state) = self.state.clone()
            && let Err(what) = self.recall(client, &state, partitions)
        {
            let advice = "with `journal` the brokers and the disk of data_dir have to answer";
            self.broken = Some(Breach { what, advice });
            return Vec::new();
        }
        let Some(stored) = self.stored.clone() else { return self.begin_by_group(client, partitions) };
        match self.begin(client, &*stored, partitions, ANSWER_TIMEOUT) {
            Ok(begin) => self.hold(partitions, begin),
            Err(what) => {
                let advice = "exactly once needs the brokers and the database to answer";
                self.broken = Some(Breach { what, advice });
                Vec::new()
            }
        }
    }

    /// Lets what is in flight of partitions we lose end, as far as time allows, and commits how far it came: the rest is
    /// repeated to their next owner.
    fn hand_over(&mut self, client: &Member, partitions: &[(String, i32)]) {
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
        if let Err(why) = self.commit_in_time(client, &marks) {
            tracing::warn!(
                source = %self.inlet.source(), why,
                "offsets of partitions taken from us were not committed; their next owner repeats some records"
            );
        }
    }

    /// Commits, and waits for the answer, but not for long. librdkafka's own commit that waits does so for as long as the group has no coordinator
    /// that answers, and the group would wait for us, or take us for dead.
    fn commit_in_time(&mut self, client: &Member, marks: &[Position]) -> Result<(), String> {
        let send = || positions(marks).and_then(|list| client.commit(&list, CommitMode::Async));
        let mut refused = client.context().refused();
        send().map_err(|error| error.to_string())?;
        let until = Instant::now() + HAND_OVER_TIMEOUT;
        while !client.context().has_committed(marks) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("the group has not taken them for {HAND_OVER_TIMEOUT:?}"));
            }
            // This one, or one that was sent every second: a group that is about to change may refuse, and take the next.
            if client.context().refused() != refused {
                refused = client.context().refused();
                send().map_err(|error| error.to_string())?;
            }
            if let Some(End::Broken(breach)) = self.hear(client, left.min(ROOM_WAIT)) {
                let why = breach.what.clone();
                self.broken = Some(breach);
                return Err(why);
            }
        }
        Ok(())
    }

    /// The end: what is settled is committed. What remains in flight is read again by whoever comes next.
    pub(super) fn finish(&mut self, client: &Client) {
        let before = client.context().commits();
        match client.commit_consumer_state(CommitMode::Async) {
            Ok(()) => {
                let until = Instant::now() + COMMIT_TIMEOUT;
                while client.context().commits() == before && Instant::now() < until {
                    // Records that still come are not ours to count any more.
                    client.poll(ROOM_WAIT);
                }
            }
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                tracing::warn!(source = %self.inlet.source(), %error, "the last offsets were not committed")
            }
        }
    }
}
