//! With a journal: what the rules have had of each partition, and what becomes of it when it comes again.

use tidegate_model::OffsetMark;

use super::Assignment;

/// Whether the rules had a record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum Recall {
    New,
    /// They had, and it counts as settled.
    Had,
    /// It is read for another reason than a crash: nothing that was kept of its partition holds any more.
    Doubtful,
}

impl Assignment {
    /// With a journal: what the rules have had of a partition that was just assigned.
    pub(in crate::kafka) fn recall(&mut self, topic: &str, number: i32, had: Option<OffsetMark>) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].had = had;
            self.partitions[at].committed = Some(0);
        }
    }

    /// With a journal: the group has committed up to this offset.
    pub(in crate::kafka) fn committed(&mut self, topic: &str, number: i32, offset: i64) {
        if let Some(at) = self.find(topic, number)
            && let Some(committed) = &mut self.partitions[at].committed
        {
            *committed = offset.max(*committed);
        }
    }

    /// A record came: whether the rules had it before. Then it is settled already, and [`Self::receive`] is not to hear of it.
    pub(in crate::kafka) fn had_before(&mut self, topic: &str, number: i32, offset: i64) -> Recall {
        let Some(at) = self.find(topic, number) else { return Recall::New };
        let partition = &mut self.partitions[at];
        let Some(had) = partition.had.filter(|_| partition.rewind.is_none()) else { return Recall::New };
        if (had.from..=had.upto).contains(&offset) {
            partition.seen = partition.seen.max(offset + 1);
            let sequence = partition.window.receive(offset);
            partition.window.settle(sequence);
            self.in_flight += 1;
            self.passed = true;
            return Recall::Had;
        }
        partition.had = None;
        if offset < had.from { Recall::Doubtful } else { Recall::New }
    }

    /// Whether something was settled as it came, since this was last asked: then marks may have moved.
    pub(in crate::kafka) fn has_passed(&mut self) -> bool {
        std::mem::take(&mut self.passed)
    }
}
