//! What is left of a rule's state when some of it is to be forgotten. It is set apart beside the lane, as a successor's state is: to go through the cells
//! of a hundred thousand series takes milliseconds.

use std::sync::Arc;

use tidegate_engine::Instance;
use tidegate_model::{Books, PartitionId, SavedState, SeriesId, StateBook};

use crate::lane::{Awaits, Reset};

/// State without what is to be forgotten of it.
pub(crate) struct Remainder {
    of: Reset,
    books: Arc<Books>,
    /// What is left.
    pub state: StateBook,
    /// What goes.
    forgotten: StateBook,
    /// All that went, for the store.
    pub gone: SavedState,
}

/// What is to go on without the state of `of`.
pub(crate) struct Remade {
    pub of: Reset,
    /// None where there is nothing to forget.
    pub next: Option<(Instance, Remainder)>,
    /// What changed meanwhile is gathered while this is held: until it is in.
    pub _awaits: Arc<Awaits>,
}

impl Remainder {
    /// Of a copy of the state.
    pub fn new(of: Reset, copy: &StateBook, books: &Arc<Books>) -> Self {
        let mut rest = Self {
            of,
            books: books.clone(),
            state: StateBook::default(),
            forgotten: StateBook::default(),
            gone: SavedState::default(),
        };
        rest.take(StateBook::default().succeeded_by(copy));
        rest
    }

    /// Takes over what has changed; gives what of that is left.
    pub fn take(&mut self, changed: SavedState) -> SavedState {
        let SavedState { series, partitions, removed_series, removed_partitions } = changed;
        let (series, its_series) = parted(series, |(id, _)| self.has(*id));
        let (removed_series, its_removed_series) = parted(removed_series, |id| self.has(*id));
        let (partitions, its_partitions) = parted(partitions, |(id, _)| self.has_partition(*id));
        let (removed_partitions, its_removed_partitions) = parted(removed_partitions, |id| self.has_partition(*id));
        let new = its_series.iter().map(|(id, _)| *id).filter(|id| !self.forgotten.has_series(*id));
        self.gone.removed_series.extend(new);
        let new = its_partitions.iter().map(|(id, _)| *id).filter(|id| !self.forgotten.has_partition(*id));
        self.gone.removed_partitions.extend(new);
        self.forgotten.take(SavedState {
            series: its_series,
            partitions: its_partitions,
            removed_series: its_removed_series,
            removed_partitions: its_removed_partitions,
        });
        let left = SavedState { series, partitions, removed_series, removed_partitions };
        self.state.take(left.clone());
        left
    }

    /// The same of another state.
    pub fn of_another(&self, state: &StateBook) -> Self {
        Self::new(self.of, state, &self.books)
    }

    /// How many cells are forgotten.
    pub fn cells_gone(&self) -> usize {
        self.forgotten.len()
    }

    fn has(&self, id: SeriesId) -> bool {
        match self.of {
            Reset::Everything => true,
            Reset::Series(only) => id == only,
            Reset::Partition(only) => self.books.series(id).is_some_and(|series| series.partition == only),
        }
    }

    fn has_partition(&self, id: PartitionId) -> bool {
        match self.of {
            Reset::Everything => true,
            Reset::Series(_) => false,
            Reset::Partition(only) => id == only,
        }
    }
}

/// What stays, and what goes.
fn parted<T>(all: Vec<T>, goes: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
    let (go, stay) = all.into_iter().partition(goes);
    (stay, go)
}
