//! Offsets that are stored with the points: where to begin with a partition, and what is told of each record.
//!
//! The database decides, not the group. Where it has less than the group has committed (it was restored from a backup, say) records are read
//! again from there; where it has more, the records between are read too, for what else comes of them, and the database
//! leaves them out. Where it cannot be asked, nothing is read: nothing could be stored either.
//!
//! Where the group has no offset, it is given the one that reading begins at, before anything is read: else a host that died after the
//! database's first COMMIT and before the group's would leave no trace of where it began, and the next would begin behind what
//! dead letters and other sinks never got.
//!
//! librdkafka never chooses where to go on (`auto.offset.reset` is `error`): offsets of a topic that was made anew, or whose end was lost with a
//! broker, are below what is stored, and would be taken for stored. Then that partition is held (`held.rs`) until a person has said which it is,
//! and the others are read. And whenever records are given back, the database is asked anew: it may have lost what it had.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use tidegate_config::KafkaStart;
use tidegate_model::Stored;

use super::{Breach, Consumer, Intake};
use crate::kafka::client::{self, Client};
use crate::kafka::logs::Logs;

/// How long the group may take to have the offset that reading begins at.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before it is asked again whether it has.
const COMMIT_POLL: Duration = Duration::from_millis(50);

/// Where to begin with a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    At(i64),
    /// Nowhere: what is stored cannot be of this log, and why is for people.
    Nowhere(String),
}

/// Where a partition is, as the brokers and the database have it.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The oldest record there is.
    first: i64,
    /// One past the newest.
    end: i64,
    in_database: Option<i64>,
    in_group: Option<i64>,
}

/// What is odd about where a partition begins: told, and no hindrance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    Nothing,
    /// The database has less than the group has committed.
    Behind,
    /// Records were deleted before they were stored.
    Deleted,
    /// The group's offset is not in the log, and nothing is stored.
    GroupAstray,
    /// The group knows nothing of what the database has.
    GroupUnaware,
}

impl Consumer {
    /// Where to begin with partitions that are ours, one for each; every answer of the brokers may take so long. An error is for people: then
    /// nothing may be read.
    pub(super) fn begin(
        &mut self,
        client: &Client,
        stored: &dyn Stored,
        partitions: &[(String, i32)],
        patience: Duration,
    ) -> Result<Vec<Beginning>, String> {
        let Some(cluster) = client.client().fetch_cluster_id(patience) else {
            return Err("the brokers do not say which cluster they are, and offsets are stored by that".to_owned());
        };
        let group = &self.settings.group;
        if !self.logs.as_ref().is_some_and(|logs| logs.are_of(&cluster)) {
            self.logs = Some(Logs::new(&cluster, group, self.inlet.lanes()));
        }
        // It has limits of its own, for each of its servers.
        let stored = self.runtime.block_on(stored.next_offsets(&cluster, group));
        let stored = stored.map_err(|error| format!("which offsets are stored cannot be asked: {error}"))?;
        self.begin_after(client, &stored, partitions, patience)
    }

    /// The same, where the database has said what is stored.
    pub(super) fn begin_after(
        &mut self,
        client: &Client,
        stored: &[(String, i32, i64)],
        partitions: &[(String, i32)],
        patience: Duration,
    ) -> Result<Vec<Beginning>, String> {
        let committed = client
            .committed_offsets(client::list(partitions), patience)
            .map_err(|error| format!("which offsets the group has committed cannot be asked: {error}"))?;
        let firsts = edge(client, partitions, Offset::Beginning, patience)?;
        let ends = edge(client, partitions, Offset::End, patience)?;
        let mut begin = Vec::with_capacity(partitions.len());
        let mut untold = TopicPartitionList::new();
        for (topic, number) in partitions {
            let is = |(t, n, _): &&(String, i32, i64)| t == topic && n == number;
            let (Some(first), Some(end)) = (offset_in(&firsts, topic, *number), offset_in(&ends, topic, *number))
            else {
                return Err(format!("the brokers do not say where partition {number} of {topic} begins and ends"));
            };
            let in_database = stored.iter().find(is).map(|(_, _, offset)| *offset);
            let in_group = offset_in(&committed, topic, *number);
            let known = Known { first, end, in_database, in_group };
            let Some((from, odd)) = from(known, self.settings.start) else {
                begin.push(Beginning::Nowhere(format!(
                    "partition {number} of {topic} ends at {end}, and the database has stored it up to {}: it is not read until somebody says \
                     why; if the topic was made anew, delete the row of the partition in source_positions; if its last records were lost, set \
                     next_offset there to {end}",
                    in_database.unwrap_or_default()
                )));
                continue;
            };
            self.tell(odd, (topic, *number), known);
            self.assignment.stands_at(topic, *number, in_database.unwrap_or(0));
            if in_group.is_none() || odd == Odd::GroupAstray {
                untold
                    .add_partition_offset(topic, *number, Offset::Offset(from))
                    .map_err(|error| format!("partition {number} of {topic} cannot begin at {from}: {error}"))?;
            }
            begin.push(Beginning::At(from));
        }
        if untold.count() > 0 {
            self.tell_group(client, &untold)?;
        }
        Ok(begin)
    }

    /// Commits where reading begins, and sees that the group has it. librdkafka's own commit that waits does so for as long as the group has
    /// no coordinator that answers, and the source would neither end nor keep its other partitions.
    pub(super) fn tell_group(&self, client: &Client, begin: &TopicPartitionList) -> Result<(), String> {
        let refused = |error| format!("where reading begins cannot be committed to the group: {error}");
        client.commit(begin, CommitMode::Async).map_err(refused)?;
        let until = Instant::now() + COMMIT_TIMEOUT;
        let names: Vec<_> = begin.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Asked after the commit, by the same way: the first answer has it, unless the commit is repeated.
            let told = client.committed_offsets(client::list(&names), left.max(COMMIT_POLL));
            let has = |told: &TopicPartitionList| {
                let same = |e: &TopicPartitionListElem<'_>| {
                    told.find_partition(e.topic(), e.partition()).is_some_and(|told| told.offset() == e.offset())
                };
                begin.elements().iter().all(same)
            };
            if told.as_ref().is_ok_and(has) {
                return Ok(());
            }
            if Instant::now() + COMMIT_POLL >= until {
                let why = told.err().map(|error| format!(" ({})", client::describe(&error))).unwrap_or_default();
                return Err(format!(
                    "the group has not taken where reading begins for {} s{why}",
                    COMMIT_TIMEOUT.as_secs()
                ));
            }
            self.runtime.block_on(async { tokio::time::sleep(COMMIT_POLL).await });
        }
    }

    fn tell(&self, odd: Odd, (topic, partition): (&str, i32), known: Known) {
        let source = self.inlet.source();
        let Known { first, in_database: stored, in_group: committed, .. } = known;
        match odd {
            Odd::Nothing => {}
            Odd::Behind => tracing::warn!(
                %source, topic, partition, stored, committed,
                "the database has less of this partition than the group has committed: it is read again from there"
            ),
            Odd::Deleted => tracing::error!(
                %source, topic, partition, stored, committed, first,
                "the brokers have deleted records of this partition that were not stored: it is read from the oldest there is"
            ),
            Odd::GroupAstray => tracing::warn!(
                %source, topic, partition, committed, first,
                "nothing of this partition is stored, and what the group has committed is not in it: it is read from `start`"
            ),
            Odd::GroupUnaware => tracing::warn!(
                %source, topic, partition, stored,
                "the database has this partition stored up to here, and the group had committed nothing: if the topic was made anew, stop, \
                 set next_offset of the partition to 0 in source_positions and start again, or its records up to there are taken for stored"
            ),
        }
    }

    /// Records were given back, perhaps since the database has lost what it had: a new client begins where that stands now.
    pub(super) fn ask_anew(&mut self) {
        if self.stored.is_some() && self.intake == Intake::Open {
            let what = "records were given back, and how far they are stored is asked anew".to_owned();
            self.broken = Some(Breach { what, advice: "the sink's state says why" });
        }
    }
}

/// Where partitions begin, or end.
pub(super) fn edge(
    client: &Client,
    partitions: &[(String, i32)],
    which: Offset,
    patience: Duration,
) -> Result<TopicPartitionList, String> {
    let mut asked = client::list(partitions);
    asked
        .set_all_offsets(which)
        .and_then(|()| client.offsets_for_times(asked, patience))
        .map_err(|error| format!("where partitions begin and end cannot be asked: {error}"))
}

pub(super) fn offset_in(answer: &TopicPartitionList, topic: &str, partition: i32) -> Option<i64> {
    match answer.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// The lesser of what database and group have; where nothing is stored the group's, or else as configured. None where what is stored cannot be of
/// this log.
fn from(known: Known, start: KafkaStart) -> Option<(i64, Odd)> {
    let Known { first, end, in_database, in_group } = known;
    match (in_database, in_group) {
        (Some(stored), _) if stored > end => None,
        (Some(stored), _) if stored < first => Some((first, Odd::Deleted)),
        (Some(stored), Some(committed)) if stored < committed => Some((stored, Odd::Behind)),
        (Some(_), Some(committed)) => Some((committed.max(first), Odd::Nothing)),
        (Some(stored), None) if stored > 0 => Some((stored, Odd::GroupUnaware)),
        (Some(stored), None) => Some((stored, Odd::Nothing)),
        (None, Some(committed)) if (first..=end).contains(&committed) => Some((committed, Odd::Nothing)),
        (None, committed) => {
            let at = match start {
                KafkaStart::Earliest => first,
                KafkaStart::Latest => end,
            };
            Some((at, if committed.is_some() { Odd::GroupAstray } else { Odd::Nothing }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: nothing that one of the two has not is passed by; where nothing is stored the group decides, or else what is configured; what
    /// is stored beyond the end is never believed; and what is odd is told.
    #[test]
    fn where_to_begin() {
        let begin = |in_database, in_group, start| {
            let known = Known { first: 3, end: 20, in_database, in_group };
            from(known, start)
        };
        let at = |offset, odd| Some((offset, odd));
        let (early, late) = (KafkaStart::Earliest, KafkaStart::Latest);
        let cases = [
            (None, None, early, at(3, Odd::Nothing)),
            (None, None, late, at(20, Odd::Nothing)),
            (None, Some(7), late, at(7, Odd::Nothing)),
            (None, Some(20), early, at(20, Odd::Nothing)),
            (None, Some(21), early, at(3, Odd::GroupAstray)),
            (None, Some(2), late, at(20, Odd::GroupAstray)),
            (Some(5), None, late, at(5, Odd::GroupUnaware)),
            (Some(5), Some(7), early, at(5, Odd::Behind)),
            (Some(9), Some(7), early, at(7, Odd::Nothing)),
            (Some(9), Some(2), early, at(3, Odd::Nothing)),
            (Some(2), Some(7), early, at(3, Odd::Deleted)),
            (Some(20), Some(20), early, at(20, Odd::Nothing)),
            (Some(21), Some(7), early, None),
            (Some(21), None, early, None),
        ];
        for (in_database, in_group, start, expected) in cases {
            assert_eq!(begin(in_database, in_group, start), expected, "{in_database:?} {in_group:?} {start:?}");
        }
    }
}
