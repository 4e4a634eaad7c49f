//! Offsets that are stored with the points: where to begin with a partition, and what is told of each record.
//!
//! The database decides, not the group. Where it has less than the group has committed (it was restored from a backup, say) records are read
//! again from there; where it has more, the records between are read too, for what else comes of them, and the database
//! leaves them out. Where it cannot be asked, nothing is read: nothing could be stored either.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use tidegate_model::Stored;

use super::Consumer;
use crate::kafka::client::{self, Client};
use crate::kafka::logs::Logs;

/// How long the brokers may take to answer a question about offsets.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a partition is to be read from; none to leave it to the group.
pub(in crate::kafka) type Begin = Option<i64>;

impl Consumer {
    /// Where to begin with partitions that were assigned. An error is for people: then nothing may be read.
    pub(super) fn begin(
        &mut self,
        client: &Client,
        stored: &dyn Stored,
        partitions: &[(String, i32)],
    ) -> Result<Vec<Begin>, String> {
        let Some(cluster) = client.client().fetch_cluster_id(ANSWER_TIMEOUT) else {
            return Err("the brokers do not say which cluster they are, and offsets are stored by that".to_owned());
        };
        let group = &self.settings.group;
        if !self.logs.as_ref().is_some_and(|logs| logs.are_of(&cluster)) {
            self.logs = Some(Logs::new(&cluster, group, self.inlet.lanes()));
        }
        let known = self.runtime.block_on(stored.next_offsets(&cluster, group));
        let known = known.map_err(|error| format!("which offsets are stored cannot be asked: {error}"))?;
        let committed = client
            .committed_offsets(client::list(partitions), ANSWER_TIMEOUT)
            .map_err(|error| format!("which offsets the group has committed cannot be asked: {error}"))?;
        let mut begin = Vec::with_capacity(partitions.len());
        for (topic, number) in partitions {
            let is = |(t, n, _): &&(String, i32, i64)| t == topic && n == number;
            let in_database = known.iter().find(is).map(|(_, _, offset)| *offset);
            let in_group = committed.find_partition(topic, *number).and_then(|found| match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            if let Some(offset) = in_database.filter(|offset| in_group.is_none_or(|group| *offset > group)) {
                self.is_there(client, topic, *number, offset)?;
            }
            if let (Some(stored), Some(committed)) = (in_database, in_group)
                && stored < committed
            {
                tracing::warn!(
                    source = %self.inlet.source(), topic, partition = number, stored, committed,
                    "the database has less of this partition than the group has committed: it is read again from there"
                );
            }
            begin.push(from(in_database, in_group));
        }
        Ok(begin)
    }

    /// A topic that was deleted and made anew counts from 0 again, and what the database takes for stored is not.
    fn is_there(&self, client: &Client, topic: &str, partition: i32, offset: i64) -> Result<(), String> {
        match client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT) {
            Ok((_, end)) if end < offset => Err(format!(
                "partition {partition} of {topic} ends at {end}, and the database has stored it up to {offset}: the topic was made \
                 anew, or lost records; delete its row in source_positions, and it is read from its beginning"
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("where partition {partition} of {topic} ends cannot be asked: {error}")),
        }
    }
}

/// The lesser of the two; where the database knows nothing, it is left to the group.
fn from(in_database: Option<i64>, in_group: Option<i64>) -> Begin {
    in_database.map(|stored| in_group.map_or(stored, |committed| stored.min(committed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: nothing that one of the two has not is passed by, and where nothing is stored the group decides as ever.
    #[test]
    fn where_to_begin() {
        assert_eq!(from(None, None), None);
        assert_eq!(from(None, Some(7)), None);
        assert_eq!(from(Some(5), None), Some(5));
        assert_eq!(from(Some(5), Some(7)), Some(5));
        assert_eq!(from(Some(9), Some(7)), Some(7));
    }
}
