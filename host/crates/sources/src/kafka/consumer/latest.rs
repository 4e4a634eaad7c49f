//! `start = "latest"`: where a group begins that has committed nothing yet.
//!
//! The end of a partition is asked for once, when the group first has it, and committed before anything is read. Were it left to librdkafka, each start
//! before the first commit would begin at the end anew, and what came in between, or was in flight when the host died, would never be read. A partition
//! that is added to a topic, and a topic that appears while this host runs, are read from their beginning: what was produced until they were found is
//! not of a time before the group.
//!
//! Everything else is librdkafka's: it goes on where the group has committed, and where that is not there any more with the oldest there is.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_config::KafkaStart;

use super::exact::{edge, offset_in};
use super::{Breach, Consumer};
use crate::kafka::client::{self, Client};

/// How long the brokers may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Consumer {
    /// Where to begin with what was assigned, where the group says how far it is; empty to leave it to librdkafka. What cannot be known ends this
    /// client.
    pub(super) fn begin_by_group(&mut self, client: &Client, partitions: &[(String, i32)]) -> Vec<Offset> {
        if self.settings.start == KafkaStart::Earliest {
            return Vec::new();
        }
        match self.begin_at_ends(client, partitions) {
            Ok(begin) => {
                self.has_begun = true;
                begin
            }
            Err(what) => {
                let advice =
                    "with start = \"latest\" the brokers have to say where partitions end, and the group to take it";
                self.broken = Some(Breach { what, advice });
                Vec::new()
            }
        }
    }

    fn begin_at_ends(&self, client: &Client, partitions: &[(String, i32)]) -> Result<Vec<Offset>, String> {
        let committed = committed(client, partitions)?;
        let new = |(topic, number): &&(String, i32)| offset_in(&committed, topic, *number).is_none();
        let new: Vec<(String, i32)> = partitions.iter().filter(new).cloned().collect();
        let mut known = BTreeMap::new();
        for (topic, _) in &new {
            if !known.contains_key(topic) {
                known.insert(topic.clone(), self.has_begun || has_committed(client, topic)?);
            }
        }
        let (late, first): (Vec<_>, Vec<_>) = new.into_iter().partition(|(topic, _)| known[topic]);
        let mut untold = TopicPartitionList::new();
        for (of, which) in [(late, Offset::Beginning), (first, Offset::End)] {
            if of.is_empty() {
                continue;
            }
            let found = edge(client, &of, which, ANSWER_TIMEOUT)?;
            for (topic, number) in &of {
                let Some(from) = offset_in(&found, topic, *number) else {
                    return Err(format!(
                        "the brokers do not say where partition {number} of {topic} begins and ends"
                    ));
                };
                untold
                    .add_partition_offset(topic, *number, Offset::Offset(from))
                    .map_err(|error| format!("partition {number} of {topic} cannot begin at {from}: {error}"))?;
            }
        }
        if untold.count() > 0 {
            self.tell_group(client, &untold)?;
        }
        let begin = |(topic, number): &(String, i32)| {
            let from = offset_in(&committed, topic, *number).or_else(|| offset_in(&untold, topic, *number));
            from.map_or(Offset::Invalid, Offset::Offset)
        };
        Ok(partitions.iter().map(begin).collect())
    }
}

/// Whether the group has committed anything of a topic.
fn has_committed(client: &Client, topic: &str) -> Result<bool, String> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT);
    let metadata = metadata
        .map_err(|error| format!("how many partitions {topic} has cannot be asked: {}", client::describe(&error)))?;
    let all = metadata.topics().iter().flat_map(|topic| topic.partitions().iter().map(|it| (topic.name(), it.id())));
    let all: Vec<(String, i32)> = all.map(|(topic, number)| (topic.to_owned(), number)).collect();
    let committed = committed(client, &all)?;
    Ok(all.iter().any(|(topic, number)| offset_in(&committed, topic, *number).is_some()))
}

fn committed(client: &Client, partitions: &[(String, i32)]) -> Result<TopicPartitionList, String> {
    let committed = client.committed_offsets(client::list(partitions), ANSWER_TIMEOUT);
    committed.map_err(|error| format!("which offsets the group has committed cannot be asked: {error}"))
}
