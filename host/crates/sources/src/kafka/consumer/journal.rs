//! With a journal: which records the rules have had, by offset.
//!
//! Each partition keeps to one lane (`logs.rs`), so its records are in the state up to one of them. Where records are read again after a crash,
//! those up to there are done with: the state is only on disk once all sinks have confirmed. But records are read again for other reasons too: a
//! topic was made anew, or somebody has set the group back. That shows by where reading begins: a crash repeats nothing of what the group had committed
//! when the state was written (`from`). What comes from before that is given to the rules, and so is all that follows it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use tidegate_model::{Journaled, Log, Messages, OffsetMark, StateStore, Taken};

use super::Consumer;
use crate::kafka::assignment::{Recall, Token};
use crate::kafka::client::{self, Client};
use crate::kafka::logs::Logs;

/// How long the brokers may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Consumer {
    /// Learns what the rules have had of partitions that were assigned. An error ends this client: without knowing, nothing may be read.
    pub(super) fn recall(
        &mut self,
        client: &Client,
        state: &Arc<dyn StateStore>,
        partitions: &[(String, i32)],
    ) -> Result<(), String> {
        let Some(cluster) = client.client().fetch_cluster_id(ANSWER_TIMEOUT) else {
            return Err(
                "the brokers do not say which cluster they are, and what rules have had is kept by that".to_owned()
            );
        };
        let (group, lanes) = (&self.settings.group, self.inlet.lanes());
        if !self.logs.as_ref().is_some_and(|logs| logs.are_of(&cluster)) {
            self.logs = Some(Logs::new(&cluster, group, lanes));
        }
        let committed = client
            .committed_offsets(client::list(partitions), ANSWER_TIMEOUT)
            .map_err(|error| format!("which offsets the group has committed cannot be asked: {error}"))?;
        for (topic, number) in partitions {
            let Some(logs) = &mut self.logs else { continue };
            let log = logs.find(topic, *number, |name| self.inlet.lane_of(name)).log.clone();
            let mark = state.offsets(&stream(&log)).map_err(|error| error.to_string())?;
            self.assignment.recall(topic, *number, mark);
            if let Some(Offset::Offset(offset)) = committed.find_partition(topic, *number).map(|it| it.offset()) {
                self.assignment.committed(topic, *number, offset);
            }
        }
        Ok(())
    }

    /// Whether the rules had a record that came: then it is done with.
    pub(super) fn had_before(&mut self, (topic, partition): (&str, i32), offset: i64) -> bool {
        match self.assignment.had_before(topic, partition, offset) {
            Recall::New => false,
            Recall::Had => {
                self.inlet.ledger().repeat(1);
                true
            }
            Recall::Doubtful => {
                tracing::warn!(
                    source = %self.inlet.source(), topic, partition, offset,
                    "this partition is read from before what its group had committed: it was made anew, or somebody has set the group back;                      its records go to the rules, also those that these have had"
                );
                false
            }
        }
    }

    /// Notes what the group has committed since it was last asked.
    pub(super) fn note_commits(&mut self, client: &Client) {
        for ((topic, partition), offset) in client.context().committed() {
            self.assignment.committed(&topic, partition, offset);
        }
    }
}

/// The records of a parcel, by partition, and how many of them make a lane write its state. Positions are for the lane alone: no sink asked for them.
pub(super) fn journaled(_: &[Token], messages: &mut Messages, enough: usize) -> Option<Box<Journaled>> {
    let positions = std::mem::take(&mut messages.positions);
    let mut marks = vec![None; positions.logs().len()];
    for (_, log, at) in positions.iter() {
        marks[log as usize] = Some(OffsetMark { from: at.after, upto: at.offset });
    }
    let streams =
        positions.logs().iter().zip(marks).filter_map(|(log, mark)| Some((stream(log), Taken::Offsets(mark?))));
    let streams: Vec<_> = streams.collect();
    (!streams.is_empty()).then(|| Box::new(Journaled { streams, enough }))
}

fn stream(log: &Log) -> Arc<str> {
    let Log { cluster, group, topic, partition } = log;
    format!("kafka/{cluster}/{group}/{topic}/{partition}").into()
}
