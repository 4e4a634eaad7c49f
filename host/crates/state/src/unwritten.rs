//! What waits for the disk: the last word on each cell and each alert, however often it changed. So it is bounded by what the rules keep,
//! even while the disk is full.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tidegate_model::{Alert, Cell, PartitionId, SavedState, SeriesId, StateChange, Taken, Transition};

/// A cell and the version that saved it; none if it is gone.
pub(crate) type Word = Option<(Arc<str>, Cell)>;

/// The words on alerts that may wait of one rule: more than may stand, so that dropping those that are cleared makes room.
const MOST_ALERTS: usize = 250_000;

/// Whether all that was told is there to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    All,
    /// A rule's alerts on disk are dropped with the next write: those that stand have to be told again.
    NotAll,
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pub rules: HashMap<Arc<str>, RuleWords>,
    /// By stream. Its source has no more in flight than it may, so this has a bound too.
    pub taken: HashMap<Arc<str>, Taken>,
}

/// What waits of one rule.
#[derive(Debug, Default)]
pub(crate) struct RuleWords {
    /// First of all, the state that is kept of it goes.
    pub forgotten: bool,
    /// First of all, its alerts go: so many changed that which were cleared is not known any more.
    pub alerts_dropped: bool,
    pub series: HashMap<SeriesId, Word>,
    pub partitions: HashMap<PartitionId, Word>,
    /// By topic and key; none if it is cleared.
    pub alerts: HashMap<(Arc<str>, Arc<str>), Option<Alert>>,
    /// Those of them that were raised before the rule was forgotten.
    pub void: HashSet<(Arc<str>, Arc<str>)>,
}

impl Unwritten {
    /// Takes what a lane has told.
    pub fn take(&mut self, changes: Vec<StateChange>) -> Took {
        let mut took = Took::All;
        for change in changes {
            match change {
                StateChange::Saved { rule, version, cells } => {
                    self.rules.entry(rule).or_default().saved(&version.into(), cells);
                }
                StateChange::Alert(alert) => {
                    let words = self.rules.entry(alert.rule.clone()).or_default();
                    let key = (alert.topic.clone(), alert.key.clone());
                    words.void.remove(&key);
                    let stands = alert.transition == Transition::Raised;
                    words.alerts.insert(key, stands.then_some(alert));
                    if words.alerts.len() > MOST_ALERTS {
                        words.alerts.retain(|_, alert| alert.is_some());
                        words.alerts_dropped = true;
                        took = Took::NotAll;
                    }
                }
                StateChange::Forgotten { rule } => {
                    let words = self.rules.entry(rule).or_default();
                    words.series.clear();
                    words.partitions.clear();
                    let raised = words.alerts.iter().filter(|(_, alert)| alert.is_some());
                    words.void.extend(raised.map(|(key, _)| key.clone()));
                    words.forgotten = true;
                }
                StateChange::Taken { stream, taken } => match self.taken.get_mut(&stream) {
                    Some(known) => known.append(taken),
                    None => drop(self.taken.insert(stream, taken)),
                },
            }
        }
        took
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.taken.is_empty()
    }
}

impl RuleWords {
    fn saved(&mut self, version: &Arc<str>, cells: SavedState) {
        let SavedState { series, partitions, removed_series, removed_partitions } = cells;
        self.series.extend(removed_series.into_iter().map(|id| (id, None)));
        self.partitions.extend(removed_partitions.into_iter().map(|id| (id, None)));
        self.series.extend(series.into_iter().map(|(id, cell)| (id, Some((version.clone(), cell)))));
        self.partitions.extend(partitions.into_iter().map(|(id, cell)| (id, Some((version.clone(), cell)))));
    }
}
