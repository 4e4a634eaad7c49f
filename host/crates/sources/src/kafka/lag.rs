//! How far each partition is behind, from librdkafka's statistics. Where a partition ends it knows from what it fetches, and it fetches nothing
//! while we are held back: then the brokers are asked, since that is when the answer matters.

use std::collections::BTreeMap;

use rdkafka::Offset;
use rdkafka::statistics::{Partition, Statistics};
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_model::Lag;

/// Where partitions end, by topic and number.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<String, BTreeMap<i32, i64>>);

impl Ends {
    /// From the brokers' answer.
    pub(super) fn of(answer: &TopicPartitionList) -> Self {
        let mut ends = Self::default();
        for found in answer.elements() {
            if let Offset::Offset(end) = found.offset() {
                ends.0.entry(found.topic().to_owned()).or_default().insert(found.partition(), end);
            }
        }
        ends
    }

    fn find(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.get(topic)?.get(&partition).copied()
    }
}

/// Of the partitions that this consumer holds and knows the ends of.
pub(super) fn of(statistics: &Statistics, ends: &Ends) -> Vec<Lag> {
    let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values().map(move |p| (topic, p)));
    let lag = |(topic, partition): (&rdkafka::statistics::Topic, &Partition)| {
        let messages = behind(partition, ends.find(&topic.topic, partition.partition))?;
        Some(Lag { topic: topic.topic.clone(), partition: partition.partition, messages })
    };
    partitions.filter_map(lag).collect()
}

/// From what is settled to the end. Where nothing was settled yet since the partition came to us, from what the group has committed, or else
/// from where it is read. `end` is where it ends if that was asked.
fn behind(partition: &Partition, end: Option<i64>) -> Option<u64> {
    // librdkafka keeps a partition without a number for itself, and those that have left us.
    if partition.partition < 0 || matches!(partition.fetch_state.as_str(), "none" | "stopping" | "stopped") {
        return None;
    }
    let known = |offset: &i64| *offset >= 0;
    let fetched = [partition.ls_offset, partition.hi_offset].into_iter().find(known);
    // One of the two is older: a log only grows.
    let end = fetched.max(end)?;
    let from = [partition.stored_offset, partition.committed_offset, partition.app_offset, partition.next_offset];
    u64::try_from(end - from.into_iter().find(known)?).ok().or(Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(end: i64, stored: i64, committed: i64, state: &str) -> Partition {
        Partition {
            partition: 3,
            fetch_state: state.to_owned(),
            ls_offset: end,
            hi_offset: end,
            stored_offset: stored,
            committed_offset: committed,
            app_offset: -1001,
            next_offset: -1001,
            ..Partition::default()
        }
    }

    /// Guarantees: what is settled counts, or else what is committed; nothing is said of a partition that is not ours, or whose end or beginning is
    /// not known; of two ends the later one counts.
    #[test]
    fn what_is_behind() {
        assert_eq!(behind(&partition(100, 90, 40, "active"), None), Some(10));
        assert_eq!(behind(&partition(100, -1001, 40, "active"), None), Some(60));
        assert_eq!(behind(&partition(100, 100, 100, "active"), None), Some(0));
        assert_eq!(behind(&partition(90, 100, 100, "active"), None), Some(0));
        assert_eq!(behind(&partition(-1001, 90, 40, "active"), None), None);
        assert_eq!(behind(&partition(100, -1001, -1001, "active"), None), None);
        assert_eq!(behind(&partition(100, 90, 40, "stopped"), None), None);
        assert_eq!(behind(&partition(100, 90, 40, "active"), Some(120)), Some(30));
        assert_eq!(behind(&partition(100, 90, 40, "active"), Some(80)), Some(10));
        assert_eq!(behind(&partition(-1001, 90, 40, "active"), Some(95)), Some(5));
        assert_eq!(behind(&Partition { partition: -1, ..partition(100, 90, 40, "active") }, None), None);
    }
}
