//! A rule's state as it was last saved on a lane: what a new instance begins with after a fault, and a successor is given.
//!
//! A successor is made ready on another thread, from a copy. A copy is the book itself, shared: what is saved while somebody reads it is kept
//! beside it, and goes into it once it is the lane's alone again. So a lane that keeps the state of a hundred thousand series never
//! stands still to copy them; nor does it to sort in what it saves meanwhile ([`Changes`]).
//!
//! Where state outlives the process, it also gathers what the store has yet to be told.

use std::sync::{Arc, Weak};

use tidegate_model::{SavedState, StateBook};

use crate::lane::own_form::Form;

/// So many saves are kept as they came before they are entered into a book.
const MOST_LATE: usize = 8;
/// And so many bytes, for the store, while nobody is made ready: each save may be all the cells.
const MOST_LATE_BYTES: usize = 1 << 20;

/// State as last saved.
#[derive(Debug)]
pub(crate) struct LastSaved {
    base: Arc<StateBook>,
    /// What was saved while somebody else had `base` too, or was being made ready to follow.
    over: Changes,
    /// What was saved since [`Self::copy`], for as long as somebody waits for it.
    since_copy: Option<Changes>,
    awaited: Weak<Awaits>,
    /// What the store has not been told; none without a store.
    unstored: Option<Untold>,
}

/// What the store has not been told.
#[derive(Debug, Default)]
struct Untold {
    /// First these, one after the other: all of a state in another form, or what was forgotten. They come ready made, and are not sorted in here, on
    /// the lane.
    first: Vec<SavedState>,
    then: Changes,
}

/// Of whoever was given a copy, and has a use for what changes after it: a successor that comes to nothing must leave nothing to be gathered for it.
#[derive(Debug)]
pub(crate) struct Awaits;

/// What was saved since some moment. The last saves wait as they came: while a successor is made ready a lane stands still for each of them, and
/// to enter its cells into a book, which is a look into a table for each, can be done when nobody waits, or by who asked.
#[derive(Debug)]
pub(crate) struct Changes {
    book: StateBook,
    late: Vec<Arc<SavedState>>,
    late_bytes: usize,
}

impl Default for Changes {
    fn default() -> Self {
        Self { book: StateBook::of_changes(), late: Vec::new(), late_bytes: 0 }
    }
}

impl Changes {
    fn take(&mut self, saved: Arc<SavedState>) {
        self.late_bytes += saved.bytes();
        self.late.push(saved);
        if self.late.len() > MOST_LATE {
            self.entered();
        }
    }

    /// All of it in one book.
    fn entered(&mut self) -> &StateBook {
        for saved in self.late.drain(..) {
            self.book.take(Arc::unwrap_or_clone(saved));
        }
        self.late_bytes = 0;
        &self.book
    }

    /// What a book of changes says.
    fn of(book: StateBook) -> Self {
        Self { book, ..Self::default() }
    }

    /// The same, as the book itself.
    pub fn into_book(mut self) -> StateBook {
        self.entered();
        self.book
    }

    fn is_empty(&self) -> bool {
        self.book.is_empty() && self.late.iter().all(|saved| saved.is_empty())
    }

    /// Bytes of all cells, at most: what was saved twice of late is counted twice.
    fn bytes(&self) -> usize {
        self.book.bytes() + self.late_bytes
    }
}

impl Untold {
    /// What it says is gone, but for what `state` has.
    fn gone_but(&self, state: &StateBook) -> SavedState {
        let late = self.first.iter().chain(self.then.late.iter().map(|saved| &**saved));
        let (mut series, mut partitions): (Vec<_>, Vec<_>) =
            (self.then.book.gone_series().collect(), self.then.book.gone_partitions().collect());
        for saved in late {
            series.extend_from_slice(&saved.removed_series);
            partitions.extend_from_slice(&saved.removed_partitions);
        }
        series.retain(|id| !state.has_series(*id));
        partitions.retain(|id| !state.has_partition(*id));
        SavedState { removed_series: series, removed_partitions: partitions, ..SavedState::default() }
    }
}

impl Untold {
    /// These are gone, after all there is to tell yet.
    fn take_gone(&mut self, gone: SavedState) {
        if self.first.len() > MOST_LATE {
            let mut all = StateBook::of_changes();
            self.first.drain(..).for_each(|saved| all.take(saved));
            self.first.push(all.into_saved());
        }
        let before = std::mem::take(&mut self.then).into_book().into_saved();
        self.first.extend([before, gone].into_iter().filter(|saved| !saved.is_empty()));
    }
}

impl LastSaved {
    /// Begins with `state`; `unstored` is how the store's differs from it, if there is a store.
    pub fn new(state: StateBook, unstored: Option<SavedState>) -> Self {
        let unstored = unstored.map(|differs| {
            let mut untold = Untold::default();
            untold.then.take(Arc::new(differs));
            untold
        });
        Self { base: Arc::new(state), over: Changes::default(), since_copy: None, awaited: Weak::new(), unstored }
    }

    /// Takes over what has changed.
    pub fn take(&mut self, changed: SavedState) {
        if self.awaited.strong_count() == 0 {
            self.copied();
        }
        let changed = Arc::new(changed);
        let unstored = self.unstored.as_mut().map(|untold| &mut untold.then);
        for changes in self.since_copy.iter_mut().chain(unstored) {
            changes.take(changed.clone());
        }
        if let Some(untold) = self.unstored.as_mut().filter(|_| self.since_copy.is_none())
            && untold.then.late_bytes > MOST_LATE_BYTES
        {
            untold.then.entered();
        }
        let due = self.since_copy.is_none() || self.over.late.len() >= MOST_LATE;
        match Arc::get_mut(&mut self.base).filter(|_| due) {
            Some(base) => {
                if !self.over.is_empty() {
                    base.take(std::mem::take(&mut self.over).into_book().into_saved());
                }
                base.take(Arc::unwrap_or_clone(changed));
            }
            None => self.over.take(changed),
        }
    }

    /// Whether its cells have more than `most` bytes once it has taken over `changed`, which it has not yet.
    pub fn would_exceed(&mut self, changed: &SavedState, most: usize) -> bool {
        // At most so many, which is nearly always said with that: only who comes near the limit is counted cell by cell.
        if self.bytes() + changed.bytes() <= most {
            return false;
        }
        let mut changes = self.over.entered().clone();
        changes.take(changed.clone());
        self.base.bytes_after(&changes) > most
    }

    /// All of it, for a successor that is made ready elsewhere; what changes from now on is [`Self::since_copy`], while that one awaits it.
    pub fn copy(&mut self) -> (Arc<StateBook>, Arc<Awaits>) {
        let awaits = Arc::new(Awaits);
        (self.since_copy, self.awaited) = (Some(Changes::default()), Arc::downgrade(&awaits));
        self.fold();
        (self.base.clone(), awaits)
    }

    /// What changed since the last copy was given, but for what [`Self::changed`] gave since.
    pub fn since_copy(&mut self) -> Option<&StateBook> {
        self.since_copy.as_mut().map(Changes::entered)
    }

    /// What changed since the last copy was given, once.
    pub fn changed(&mut self) -> Option<Changes> {
        self.since_copy.as_mut().map(std::mem::take)
    }

    /// All of it.
    pub fn whole(&mut self) -> &StateBook {
        self.fold();
        &self.base
    }

    /// From now on it is `next`: that of a successor, in its own form.
    pub fn becomes(&mut self, next: StateBook) {
        self.fold();
        let changed = self.base.succeeded_by(&next);
        if let Some(untold) = &mut self.unstored {
            untold.then.take(Arc::new(changed));
        }
        (self.base, self.since_copy) = (Arc::new(next), None);
    }

    /// What follows it, of a successor of another version, in its `form`, to which comes `rest`; and what no store is to be told of that. Nothing is
    /// copied, and what this one has is for somebody else to give back.
    pub fn in_another_form(&mut self, mut form: Form, rest: SavedState) -> (Self, Option<SavedState>) {
        form.take(rest);
        let Form { state, differs, mut since } = form;
        let (unstored, untold) = match &self.unstored {
            Some(untold) => {
                // What the store was not told in the old form it is told in the new one; what is gone it was not told of either.
                since.take(untold.gone_but(&state));
                (Some(Untold { first: vec![differs], then: Changes::of(since) }), None)
            }
            None => (None, Some(differs)),
        };
        let next = Self {
            base: Arc::new(state),
            over: Changes::default(),
            since_copy: None,
            awaited: Weak::new(),
            unstored,
        };
        (next, untold)
    }

    /// From now on it is `rest`: what it was without what is `gone`. Gives the one before, for somebody else to give back.
    pub fn forget(&mut self, rest: StateBook, gone: SavedState) -> Self {
        let mut unstored = self.unstored.take();
        if let Some(untold) = &mut unstored {
            untold.take_gone(gone);
        }
        std::mem::replace(self, Self { unstored, ..Self::new(rest, None) })
    }

    /// The copy has served its purpose.
    pub fn copied(&mut self) {
        self.since_copy = None;
    }

    /// What the store has not been told, once; one after the other.
    pub fn unstored(&mut self) -> impl Iterator<Item = SavedState> + use<> {
        let untold = self.unstored.as_mut().map(std::mem::take).unwrap_or_default();
        let then = untold.then.into_book().into_saved();
        untold.first.into_iter().chain([then]).filter(|saved| !saved.is_empty())
    }

    /// The store has lost what it was told.
    pub fn store_all(&mut self) {
        self.fold();
        let all = StateBook::default().succeeded_by(&self.base);
        if let Some(untold) = &mut self.unstored {
            untold.then.take(Arc::new(all));
        }
    }

    /// Bytes of all cells, about: what was saved over another is counted twice while somebody reads the copy.
    pub fn bytes(&self) -> usize {
        self.base.bytes() + self.over.bytes()
    }

    /// Copies all cells only where somebody reads an earlier copy still: that is a second successor before the first is ready.
    fn fold(&mut self) {
        if !self.over.is_empty() {
            let over = std::mem::take(&mut self.over).into_book();
            Arc::make_mut(&mut self.base).take(over.into_saved());
        }
    }
}

#[cfg(test)]
mod tests;
