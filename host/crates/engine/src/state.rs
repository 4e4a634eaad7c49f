//! The state of a rule outside of it: what an instance saved, by this process's ids.

use hashbrown::{HashMap, HashSet};
use tidegate_model::{PartitionId, SeriesId};

/// What an instance saved in one go: all its state, or what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// Of series.
    pub series: Vec<(SeriesId, Box<[u8]>)>,
    /// Of partitions.
    pub partitions: Vec<(PartitionId, Box<[u8]>)>,
    /// Series whose state is gone.
    pub removed_series: Vec<SeriesId>,
    /// Partitions whose state is gone.
    pub removed_partitions: Vec<PartitionId>,
}

/// Which cells `save` is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// All there are.
    All,
    /// Those that changed since the last save.
    Changed,
}

/// State of a rule on a lane, kept up by what its instance saves: all of it, or what changed since a moment.
#[derive(Clone, Debug, Default)]
pub struct StateBook {
    series: HashMap<SeriesId, Box<[u8]>>,
    partitions: HashMap<PartitionId, Box<[u8]>>,
    bytes: usize,
    gone: Option<Gone>,
}

/// Ids whose state is gone.
#[derive(Clone, Debug, Default)]
struct Gone {
    series: HashSet<SeriesId>,
    partitions: HashSet<PartitionId>,
}

impl StateBook {
    /// An empty one that remembers which ids lose their state, for who has that state still.
    pub fn of_changes() -> Self {
        Self { gone: Some(Gone::default()), ..Self::default() }
    }

    /// Takes over what has changed.
    pub fn take(&mut self, changed: SavedState) {
        let SavedState { series, partitions, removed_series, removed_partitions } = changed;
        if let Some(gone) = &mut self.gone {
            gone.series.extend(&removed_series);
            gone.partitions.extend(&removed_partitions);
            for (id, _) in &series {
                gone.series.remove(id);
            }
            for (id, _) in &partitions {
                gone.partitions.remove(id);
            }
        }
        for id in removed_series {
            self.bytes -= self.series.remove(&id).map_or(0, |old| old.len());
        }
        for id in removed_partitions {
            self.bytes -= self.partitions.remove(&id).map_or(0, |old| old.len());
        }
        for (id, cell) in series {
            self.bytes += cell.len();
            self.bytes -= self.series.insert(id, cell).map_or(0, |old| old.len());
        }
        for (id, cell) in partitions {
            self.bytes += cell.len();
            self.bytes -= self.partitions.insert(id, cell).map_or(0, |old| old.len());
        }
    }

    /// Series that lost their state, in a book of changes.
    pub fn gone_series(&self) -> impl Iterator<Item = SeriesId> {
        self.gone.iter().flat_map(|gone| gone.series.iter().copied())
    }

    /// Partitions that lost their state, in a book of changes.
    pub fn gone_partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.gone.iter().flat_map(|gone| gone.partitions.iter().copied())
    }

    /// The cells of series, in no order.
    pub fn series(&self) -> impl ExactSizeIterator<Item = (SeriesId, &[u8])> {
        self.series.iter().map(|(&id, cell)| (id, &**cell))
    }

    /// The cells of partitions, in no order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = (PartitionId, &[u8])> {
        self.partitions.iter().map(|(&id, cell)| (id, &**cell))
    }

    /// Bytes of all cells.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        let gone = |gone: &Gone| !gone.series.is_empty() || !gone.partitions.is_empty();
        self.series.is_empty() && self.partitions.is_empty() && !self.gone.as_ref().is_some_and(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the book is what the last words on each id were, and knows its size.
    #[test]
    fn the_last_word_counts() {
        let cell = |n: u8, len: usize| vec![n; len].into_boxed_slice();
        let mut book = StateBook::default();
        book.take(SavedState {
            series: vec![(SeriesId(1), cell(1, 4)), (SeriesId(2), cell(2, 4))],
            partitions: vec![(PartitionId(1), cell(3, 10))],
            ..SavedState::default()
        });
        assert_eq!(book.bytes(), 18);
        book.take(SavedState {
            series: vec![(SeriesId(2), cell(9, 1))],
            removed_series: vec![SeriesId(1), SeriesId(7)],
            removed_partitions: vec![PartitionId(1)],
            ..SavedState::default()
        });
        assert_eq!(book.series().collect::<Vec<_>>(), [(SeriesId(2), &[9][..])]);
        assert_eq!((book.partitions().len(), book.bytes(), book.is_empty()), (0, 1, false));
    }

    /// Guarantees: a book of changes says who lost its state, but not of those who have a new one.
    #[test]
    fn a_book_of_changes() {
        let mut changes = StateBook::of_changes();
        changes.take(SavedState { removed_series: vec![SeriesId(1), SeriesId(2)], ..SavedState::default() });
        changes.take(SavedState { series: vec![(SeriesId(2), [7].into())], ..SavedState::default() });
        assert_eq!(changes.gone_series().collect::<Vec<_>>(), [SeriesId(1)]);
        assert!(!changes.is_empty() && StateBook::of_changes().is_empty());
        assert_eq!(StateBook::default().gone_series().count(), 0);
    }
}
