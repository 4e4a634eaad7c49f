//! The state of a rule outside of it: what an instance saved, by this process's ids.
//!
//! Cells are shared, never copied: a lane keeps one, whoever it is handed to has the same bytes.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::{PartitionId, SeriesId};

/// The state of one series or partition, as the rule saved it.
pub type Cell = Arc<[u8]>;

/// What an instance saved in one go: all its state, or what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// Of series.
    pub series: Vec<(SeriesId, Cell)>,
    /// Of partitions.
    pub partitions: Vec<(PartitionId, Cell)>,
    /// Series whose state is gone.
    pub removed_series: Vec<SeriesId>,
    /// Partitions whose state is gone.
    pub removed_partitions: Vec<PartitionId>,
}

impl SavedState {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
            && self.partitions.is_empty()
            && self.removed_series.is_empty()
            && self.removed_partitions.is_empty()
    }

    /// Bytes of all cells.
    pub fn bytes(&self) -> usize {
        let of_series = self.series.iter().map(|(_, cell)| cell.len());
        let of_partitions = self.partitions.iter().map(|(_, cell)| cell.len());
        of_series.chain(of_partitions).sum()
    }
}

/// State of a rule on a lane, kept up by what its instance saves: all of it, or what changed since a moment.
#[derive(Clone, Debug, Default)]
pub struct StateBook {
    series: HashMap<SeriesId, Cell>,
    partitions: HashMap<PartitionId, Cell>,
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
    pub fn series(&self) -> impl ExactSizeIterator<Item = (SeriesId, &Cell)> {
        self.series.iter().map(|(&id, cell)| (id, cell))
    }

    /// The cells of partitions, in no order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = (PartitionId, &Cell)> {
        self.partitions.iter().map(|(&id, cell)| (id, cell))
    }

    /// Whether it has the state of that series.
    pub fn has_series(&self, id: SeriesId) -> bool {
        self.series.contains_key(&id)
    }

    /// Whether it has the state of that partition.
    pub fn has_partition(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    /// What it says, for another book.
    pub fn into_saved(self) -> SavedState {
        let gone = self.gone.unwrap_or_default();
        SavedState {
            series: self.series.into_iter().collect(),
            partitions: self.partitions.into_iter().collect(),
            removed_series: gone.series.into_iter().collect(),
            removed_partitions: gone.partitions.into_iter().collect(),
        }
    }

    /// What must change in this book so that it says what `next` says: all cells of `next`, and whose state is gone.
    pub fn succeeded_by(&self, next: &StateBook) -> SavedState {
        let lost = |id: &SeriesId| !next.series.contains_key(id);
        let lost_partition = |id: &PartitionId| !next.partitions.contains_key(id);
        SavedState {
            series: next.series.iter().map(|(&id, cell)| (id, cell.clone())).collect(),
            partitions: next.partitions.iter().map(|(&id, cell)| (id, cell.clone())).collect(),
            removed_series: self.series.keys().copied().filter(lost).collect(),
            removed_partitions: self.partitions.keys().copied().filter(lost_partition).collect(),
        }
    }

    /// How many cells it has, and how many it says are gone.
    pub fn len(&self) -> usize {
        let gone = self.gone.as_ref().map_or(0, |gone| gone.series.len() + gone.partitions.len());
        self.series.len() + self.partitions.len() + gone
    }

    /// Bytes of all cells.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all cells once this book has taken over what `changes` says.
    pub fn bytes_after(&self, changes: &StateBook) -> usize {
        fn replaced<Id: Copy + Eq + std::hash::Hash>(
            old: &HashMap<Id, Cell>,
            new: &HashMap<Id, Cell>,
            gone: Option<&HashSet<Id>>,
        ) -> usize {
            let ids = new.keys().chain(gone.into_iter().flatten());
            ids.filter_map(|id| old.get(id)).map(|cell| cell.len()).sum()
        }
        let gone = changes.gone.as_ref();
        let series = replaced(&self.series, &changes.series, gone.map(|gone| &gone.series));
        let partitions = replaced(&self.partitions, &changes.partitions, gone.map(|gone| &gone.partitions));
        self.bytes + changes.bytes - series - partitions
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the book is what the last words on each id were, and knows its size.
    #[test]
    fn the_last_word_counts() {
        let cell = |n: u8, len: usize| Cell::from(vec![n; len]);
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
        assert_eq!(book.series().collect::<Vec<_>>(), [(SeriesId(2), &Cell::from([9]))]);
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

    /// Guarantees: a book brought to another's state says the same, and nothing beside it.
    #[test]
    fn brought_to_another() {
        let saved = |ids: &[u32]| SavedState {
            series: ids.iter().map(|&id| (SeriesId(id), Cell::from([id as u8]))).collect(),
            ..SavedState::default()
        };
        let (mut old, mut new) = (StateBook::default(), StateBook::default());
        old.take(saved(&[1, 2, 3]));
        new.take(saved(&[3, 4]));
        old.take(old.succeeded_by(&new));
        let ids = |book: &StateBook| book.series().map(|(id, _)| id.0).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((ids(&old), old.bytes()), (ids(&new), 2));
        let mut changes = StateBook::of_changes();
        changes.take(SavedState { removed_series: vec![SeriesId(9)], ..saved(&[5]) });
        assert_eq!(changes.len(), 2);
        assert_eq!(old.bytes_after(&changes), 3);
        old.take(changes.into_saved());
        assert_eq!((old.len(), old.bytes()), (3, 3));
    }

    /// Guarantees: how large a book would be is said without changing it: what is replaced and what is gone counts once, whatever else is said of
    /// either.
    #[test]
    fn how_large_it_would_be() {
        let cell = |len: usize| Cell::from(vec![0; len]);
        let mut book = StateBook::default();
        book.take(SavedState {
            series: vec![(SeriesId(1), cell(10)), (SeriesId(2), cell(20))],
            partitions: vec![(PartitionId(1), cell(40))],
            ..SavedState::default()
        });
        let changed = SavedState {
            series: vec![(SeriesId(1), cell(1)), (SeriesId(1), cell(2)), (SeriesId(3), cell(5))],
            removed_series: vec![SeriesId(2), SeriesId(9), SeriesId(2)],
            removed_partitions: vec![PartitionId(1), PartitionId(1)],
            ..SavedState::default()
        };
        let mut changes = StateBook::of_changes();
        changes.take(changed.clone());
        let would_be = book.bytes_after(&changes);
        book.take(changed.clone());
        assert_eq!((would_be, book.bytes(), changed.bytes()), (7, 7, 8));
    }
}
