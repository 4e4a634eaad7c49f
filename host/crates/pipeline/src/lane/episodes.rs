//! When failing again and again is enough: for one partition, or for the whole rule.
//!
//! A poison row, set apart from its batch, is one *episode* of its partition. Five within a minute, and the rule is not called for that
//! partition any more: a device that sends poison costs nobody else anything. A rule that fails all over is ill itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tidegate_model::PartitionId;

const WINDOW: Duration = Duration::from_secs(60);
/// Episodes of one partition within [`WINDOW`] that are enough.
const A_PARTITION: usize = 5;
/// So many partitions quarantined within [`WINDOW`], and the rule is: as many over months are bad devices.
const PARTITIONS: usize = 10;
/// The most partitions that are quarantined at once. Devices come and go for years: who has been left alone for longest is tried again.
const MAX_QUARANTINED: usize = 1_000;
/// Episodes within [`WINDOW`], of [`PARTITIONS`] different ones, that are enough for the rule.
const A_RULE: usize = 100;

/// What an episode leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Noted,
    /// The partition is quarantined from now on.
    Partition,
    /// The rule is.
    Rule,
}

/// The episodes of one rule on one lane, and the partitions it is not called for.
#[derive(Debug, Default)]
pub(crate) struct Episodes {
    /// The last ones, the oldest first; at most [`A_RULE`].
    recent: VecDeque<(Instant, PartitionId)>,
    /// Each with when it was; at most [`MAX_QUARANTINED`] between two entries.
    quarantined: HashMap<PartitionId, Instant>,
}

impl Episodes {
    /// Enters an episode.
    pub fn enter(&mut self, partition: PartitionId, now: Instant) -> Verdict {
        while self.recent.front().is_some_and(|(then, _)| now.duration_since(*then) >= WINDOW)
            || self.recent.len() >= A_RULE
        {
            self.recent.pop_front();
        }
        self.recent.push_back((now, partition));
        let mut by_partition: HashMap<PartitionId, usize> = HashMap::new();
        for (_, partition) in &self.recent {
            *by_partition.entry(*partition).or_default() += 1;
        }
        if self.recent.len() >= A_RULE && by_partition.len() >= PARTITIONS {
            return Verdict::Rule;
        }
        if by_partition.get(&partition).is_some_and(|&episodes| episodes >= A_PARTITION)
            && !self.quarantined.contains_key(&partition)
        {
            self.quarantined.insert(partition, now);
            let of_late = self.quarantined.values().filter(|&&then| now.duration_since(then) < WINDOW).count();
            return if of_late >= PARTITIONS { Verdict::Rule } else { Verdict::Partition };
        }
        Verdict::Noted
    }

    /// The partition that has been quarantined for longest, where there are more than may be: the rule is called for it again.
    pub fn let_one_go(&mut self) -> Option<PartitionId> {
        if self.quarantined.len() <= MAX_QUARANTINED {
            return None;
        }
        let (&oldest, _) = self.quarantined.iter().min_by_key(|(_, then)| **then)?;
        self.quarantined.remove(&oldest);
        Some(oldest)
    }

    /// Whether the rule is not called for some partition.
    pub fn any_quarantined(&self) -> bool {
        !self.quarantined.is_empty()
    }

    /// Whether the rule is not called for this one.
    pub fn is_quarantined(&self, partition: PartitionId) -> bool {
        self.quarantined.contains_key(&partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(entries: impl IntoIterator<Item = (u64, u32)>) -> (Vec<Verdict>, Episodes) {
        let (mut episodes, start) = (Episodes::default(), Instant::now());
        let enter = |(second, partition)| episodes.enter(PartitionId(partition), start + Duration::from_secs(second));
        (entries.into_iter().map(enter).collect(), episodes)
    }

    /// Guarantees: five in a minute, and not four; five in more than a minute are no matter; others stay as they are.
    #[test]
    fn five_in_a_minute() {
        let (verdicts, episodes) = run((0..5).map(|second| (second, 7)));
        assert_eq!(verdicts[3..], [Verdict::Noted, Verdict::Partition]);
        assert!(episodes.is_quarantined(PartitionId(7)) && !episodes.is_quarantined(PartitionId(8)));
        let (verdicts, episodes) = run((0..40).map(|at| (at * 15, 7)));
        assert!(verdicts.iter().all(|&verdict| verdict == Verdict::Noted) && !episodes.any_quarantined());
    }

    /// Guarantees: a few bad devices are set apart one by one, the tenth makes it the rule's own fault; and so do many that
    /// fail once each.
    #[test]
    fn all_over() {
        let (verdicts, _) = run((0..50).map(|at| (0, at / 5)));
        let at = |verdict| verdicts.iter().filter(|&&v| v == verdict).count();
        assert_eq!((at(Verdict::Partition), at(Verdict::Rule), verdicts[49]), (9, 1, Verdict::Rule));
        // The same ten, one every ten seconds: never more than six in a minute.
        let (verdicts, episodes) = run((0..50).map(|at| (u64::from(at / 5) * 10, at / 5)));
        assert!(verdicts.iter().all(|&verdict| verdict != Verdict::Rule) && episodes.quarantined.len() == 10);
        let (verdicts, _) = run((0..100).map(|at| (at / 2, at as u32)));
        assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Rule), Some(99));
    }

    /// Guarantees: however many partitions are quarantined over time, so many are at once; the oldest goes, and can come again.
    #[test]
    fn quarantine_is_bounded() {
        let (mut episodes, start) = (Episodes::default(), Instant::now());
        let quarantine = |episodes: &mut Episodes, partition: u32, minute: u64| {
            let now = start + Duration::from_secs(minute * 60);
            let last = (0..A_PARTITION).map(|_| episodes.enter(PartitionId(partition), now)).last();
            assert_eq!(last, Some(Verdict::Partition));
            episodes.let_one_go()
        };
        let most = MAX_QUARANTINED as u32;
        for partition in 0..most {
            assert_eq!(quarantine(&mut episodes, partition, partition.into()), None);
        }
        for partition in most..most + 10 {
            let gone = PartitionId(partition - most);
            assert_eq!(quarantine(&mut episodes, partition, partition.into()), Some(gone));
            assert!(!episodes.is_quarantined(gone) && episodes.is_quarantined(PartitionId(partition)));
        }
        assert_eq!(episodes.quarantined.len(), MAX_QUARANTINED);
        assert_eq!(quarantine(&mut episodes, 0, (most + 10).into()), Some(PartitionId(10)));
    }
}
