//! The partitions whose offsets are stored with the points: each keeps one lane for as long as the process lives.
//!
//! What is stored says "all before this offset is stored too", so the records of a partition must not overtake each other: they all go by
//! one lane, whatever their topics, and whether or not the partition was away for a while.

use std::sync::Arc;

use tidegate_model::Log;

/// Those met so far. Grows with the partitions of the cluster, and no further.
#[derive(Debug)]
pub(super) struct Logs {
    cluster: Arc<str>,
    group: Arc<str>,
    lanes: usize,
    known: Vec<Arc<Log>>,
    /// Records come in runs of one partition.
    last: usize,
}

impl Logs {
    /// None yet, for so many lanes.
    pub(super) fn new(cluster: &str, group: &str, lanes: usize) -> Self {
        Self { cluster: cluster.into(), group: group.into(), lanes: lanes.max(1), known: Vec::new(), last: 0 }
    }

    /// Whether they are of this cluster.
    pub(super) fn are_of(&self, cluster: &str) -> bool {
        *self.cluster == *cluster
    }

    /// The log of a partition, and its lane.
    #[inline]
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> (&Arc<Log>, usize) {
        let is = |log: &Arc<Log>| log.partition == partition && log.topic == topic;
        if !self.known.get(self.last).is_some_and(is) {
            self.last = self.known.iter().position(is).unwrap_or_else(|| {
                let (cluster, group) = (self.cluster.clone(), self.group.clone());
                self.known.push(Arc::new(Log { cluster, group, topic: topic.to_owned(), partition }));
                self.known.len() - 1
            });
        }
        (&self.known[self.last], self.last % self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: partitions are spread over the lanes, and each always gives the same log and lane.
    #[test]
    fn one_lane_for_each() {
        let mut logs = Logs::new("c", "g", 2);
        let first = logs.find("a", 0).0.clone();
        let lanes = [("a", 1), ("b", 0), ("a", 0), ("b", 0)].map(|(topic, partition)| logs.find(topic, partition).1);
        assert_eq!(lanes, [1, 0, 0, 0]);
        assert!(Arc::ptr_eq(&first, logs.find("a", 0).0));
    }
}
