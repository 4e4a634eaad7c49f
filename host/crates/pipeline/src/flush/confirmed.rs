//! Records of the spool that the sink has confirmed while older ones stand before them.
//!
//! A spool is removed from its oldest record on, so these stay in it until their turn comes, and are then not given to the sink. What is known of
//! them is in memory: after a crash they are given once more, which is at least once.

use std::collections::VecDeque;

use tidegate_model::RecordId;

/// More runs of records are not remembered: what comes then is written twice.
const MOST: usize = 1_024;

/// Runs of records, ascending, each from its first to its last.
#[derive(Debug, Default)]
pub(super) struct Confirmed(VecDeque<(RecordId, RecordId)>);

impl Confirmed {
    /// The sink has confirmed these; they were appended after all that it had confirmed before.
    pub fn add(&mut self, first: RecordId, through: RecordId) {
        let runs = self.0.len();
        match self.0.back_mut() {
            Some((_, end)) if end.0 + 1 == first.0 => *end = through,
            _ if runs < MOST => self.0.push_back((first, through)),
            _ => {}
        }
    }

    pub fn has(&self, id: RecordId) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, through)| id <= *through)
    }

    /// All records up to this one are gone.
    pub fn removed(&mut self, through: RecordId) {
        while self.0.front().is_some_and(|(_, end)| *end <= through) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what was confirmed is known until it is gone, nothing else is, runs that meet are one, and there is a bound.
    #[test]
    fn runs() {
        let mut confirmed = Confirmed::default();
        for (first, through) in [(5, 6), (7, 7), (10, 12)] {
            confirmed.add(RecordId(first), RecordId(through));
        }
        assert_eq!(confirmed.0.len(), 2);
        let known = |confirmed: &Confirmed| (0..20).filter(|&id| confirmed.has(RecordId(id))).collect::<Vec<_>>();
        assert_eq!(known(&confirmed), [5, 6, 7, 10, 11, 12]);
        confirmed.removed(RecordId(6));
        assert_eq!(known(&confirmed), [5, 6, 7, 10, 11, 12], "not gone as a whole");
        confirmed.removed(RecordId(9));
        assert_eq!(known(&confirmed), [10, 11, 12]);
        for id in 0..2 * MOST as u64 {
            confirmed.add(RecordId(100 + 2 * id), RecordId(100 + 2 * id));
        }
        assert_eq!(confirmed.0.len(), MOST);
    }
}
