//! The partitions whose offsets are stored with the points: each keeps one lane for as long as the process lives.
//!
//! What is stored says "all before this offset is stored too", so the records of a partition must not overtake each other: they all go by
//! one lane, whatever their topics, and whether or not the partition was away for a while. To Tidegate such a partition is one of its own
//! partitions, by name: what rules have stored of its series is given to the lane of that name when the host starts.

use std::sync::Arc;

use tidegate_model::{Full, Log};

/// Those met so far. Grows with the partitions of the cluster, and no further.
#[derive(Debug)]
pub(super) struct Logs {
    cluster: Arc<str>,
    group: Arc<str>,
    lanes: usize,
    known: Vec<Known>,
    /// Records come in runs of one partition.
    last: usize,
}

/// A partition that was met.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) log: Arc<Log>,
    /// What its topics stay together with.
    pub(super) name: String,
    pub(super) lane: usize,
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

    /// The cluster that they are of.
    pub(super) fn cluster(&self) -> Arc<str> {
        self.cluster.clone()
    }

    /// What is known of a partition. `lane_of` gives the lane of a name, and is asked once.
    #[inline]
    pub(super) fn find(
        &mut self,
        topic: &str,
        partition: i32,
        lane_of: impl FnOnce(&str) -> Result<usize, Full>,
    ) -> &Known {
        let is = |known: &Known| known.log.partition == partition && known.log.topic == topic;
        if !self.known.get(self.last).is_some_and(is) {
            self.last = self.known.iter().position(is).unwrap_or_else(|| {
                let (cluster, group) = (self.cluster.clone(), self.group.clone());
                let name = format!("{topic}/{partition}");
                // Where the books are full, nothing is kept under that name either.
                let lane = lane_of(&name).unwrap_or(self.known.len()) % self.lanes;
                let log = Arc::new(Log { cluster, group, topic: topic.to_owned(), partition });
                self.known.push(Known { log, name, lane });
                self.known.len() - 1
            });
        }
        &self.known[self.last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::{Books, Inlet, ParcelLimits, SystemClock};

    /// Guarantees: each partition always gives the same log and lane, also where the books take no more names.
    #[test]
    fn one_lane_for_each() {
        let mut logs = Logs::new("c", "g", 2);
        let full = |_: &str| Err(Full { limit: 0 });
        let first = logs.find("a", 0, full).log.clone();
        let met = [("a", 1), ("b", 0), ("a", 0), ("b", 0)];
        assert_eq!(met.map(|(topic, partition)| logs.find(topic, partition, full).lane), [1, 0, 0, 0]);
        assert!(Arc::ptr_eq(&first, &logs.find("a", 0, full).log));
    }

    /// Guarantees: records go to the lane that the stored state of their partition is given to, in whatever order partitions are met, and a
    /// topic first seen in one belongs to it.
    #[test]
    fn the_lane_of_what_is_stored() {
        let books = Arc::new(Books::new(99));
        let lanes = (0..3).map(|_| tokio::sync::mpsc::channel(1).0).collect();
        let inlet = Inlet::new("s".into(), books.clone(), Arc::new(SystemClock), lanes, ParcelLimits::default());
        // As the state is loaded before anything is read.
        let stored = ["a/2", "a/0", "a/1"].map(|name| books.intern_partition(name).map(|id| id.index() % 3));
        let mut logs = Logs::new("c", "g", inlet.lanes());
        let lanes = [2, 0, 1].map(|partition| Ok(logs.find("a", partition, |name| inlet.lane_of(name)).lane));
        assert_eq!(lanes, stored);
        assert_eq!(
            inlet.topic("x", &logs.find("a", 0, |name| inlet.lane_of(name)).name).map(|(_, lane)| lane),
            lanes[1]
        );
    }
}
