//! A rule's state as it was last saved on a lane: what a new instance begins with after a fault, and a successor is given.
//!
//! A successor is made ready on another thread, from a copy. A copy is the book itself, shared: what is saved while somebody reads it is kept
//! beside it, and goes into it once it is the lane's alone again. So a lane that keeps the state of a hundred thousand series never
//! stands still to copy them; nor does it to sort in what it saves meanwhile ([`Changes`]).
//!
//! Where state outlives the process, it also gathers what the store has yet to be told.

use std::sync::{Arc, Weak};

use tidegate_model::{SavedState, StateBook};

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
    unstored: Option<Changes>,
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

impl LastSaved {
    /// Begins with `state`; `unstored` is how the store's differs from it, if there is a store.
    pub fn new(state: StateBook, unstored: Option<SavedState>) -> Self {
        let unstored = unstored.map(|differs| {
            let mut changes = Changes::default();
            changes.take(Arc::new(differs));
            changes
        });
        Self { base: Arc::new(state), over: Changes::default(), since_copy: None, awaited: Weak::new(), unstored }
    }

    /// Takes over what has changed.
    pub fn take(&mut self, changed: SavedState) {
        if self.awaited.strong_count() == 0 {
            self.copied();
        }
        let changed = Arc::new(changed);
        for changes in self.since_copy.iter_mut().chain(&mut self.unstored) {
            changes.take(changed.clone());
        }
        if let Some(unstored) = self.unstored.as_mut().filter(|_| self.since_copy.is_none())
            && unstored.late_bytes > MOST_LATE_BYTES
        {
            unstored.entered();
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
        if let Some(unstored) = &mut self.unstored {
            unstored.take(Arc::new(changed));
        }
        (self.base, self.since_copy) = (Arc::new(next), None);
    }

    /// What follows it, of a successor of another version: `state` and what of it the store has otherwise, in its form, to which comes `rest`. Nothing
    /// is copied, and what this one has is for somebody else to give back.
    pub fn in_another_form(&mut self, mut state: StateBook, mut differs: StateBook, rest: SavedState) -> Self {
        state.take(rest.clone());
        let unstored = self.unstored.take().map(|untold| {
            // What the store was not told in the old form it is told in the new one; what is gone it was not told of either.
            let untold = untold.into_book();
            let gone_series = untold.gone_series().filter(|id| !state.has_series(*id)).collect();
            let gone_partitions = untold.gone_partitions().filter(|id| !state.has_partition(*id)).collect();
            differs.take(rest);
            differs.take(SavedState {
                removed_series: gone_series,
                removed_partitions: gone_partitions,
                ..SavedState::default()
            });
            Changes::of(differs)
        });
        Self { base: Arc::new(state), over: Changes::default(), since_copy: None, awaited: Weak::new(), unstored }
    }

    /// The copy has served its purpose.
    pub fn copied(&mut self) {
        self.since_copy = None;
    }

    /// What the store has not been told, once.
    pub fn unstored(&mut self) -> Option<SavedState> {
        let unstored = self.unstored.as_mut().filter(|unstored| !unstored.is_empty())?;
        Some(std::mem::take(unstored).into_book().into_saved())
    }

    /// The store has lost what it was told.
    pub fn store_all(&mut self) {
        self.fold();
        let all = StateBook::default().succeeded_by(&self.base);
        if let Some(unstored) = &mut self.unstored {
            unstored.take(Arc::new(all));
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_engine::thread_cpu;
    use tidegate_model::{Cell, SeriesId};

    use super::*;

    fn saved(cells: impl IntoIterator<Item = (u32, u8)>) -> SavedState {
        let series = cells.into_iter().map(|(id, byte)| (SeriesId(id), Cell::from([byte]))).collect();
        SavedState { series, ..SavedState::default() }
    }

    fn cells(book: &StateBook) -> Vec<(u32, u8)> {
        let mut cells: Vec<_> = book.series().map(|(id, cell)| (id.0, cell[0])).collect();
        cells.sort_unstable();
        cells
    }

    /// Guarantees: a copy stays as it was when it was given; with what changed since it is what is kept now, whether or not the copy is still read.
    #[test]
    fn a_copy_and_what_changed_since() {
        let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
        kept.take(saved([(1, 1), (2, 2)]));
        let (copy, _awaits) = kept.copy();
        kept.take(SavedState { removed_series: vec![SeriesId(1)], ..saved([(3, 3)]) });
        assert_eq!(cells(&copy), [(1, 1), (2, 2)]);
        let since = kept.since_copy().cloned().unwrap_or_default();
        assert_eq!((cells(&since), since.gone_series().collect::<Vec<_>>()), (vec![(3, 3)], vec![SeriesId(1)]));
        assert_eq!(cells(kept.whole()), [(2, 2), (3, 3)], "while the copy is read");
        drop(copy);
        kept.take(saved([(4, 4)]));
        assert_eq!(cells(kept.whole()), [(2, 2), (3, 3), (4, 4)]);
        let changed = |kept: &mut LastSaved| kept.changed().map(|changed| cells(&changed.into_book()));
        assert_eq!(changed(&mut kept), Some(vec![(3, 3), (4, 4)]), "once");
        assert_eq!(changed(&mut kept), Some(vec![]));
        kept.take(saved([(4, 4)]));
        assert_eq!(kept.since_copy().map(cells), Some(vec![(4, 4)]));
        kept.whole();
        assert_eq!(kept.bytes(), 3);
        kept.copied();
        assert!(kept.since_copy().is_none() && kept.changed().is_none());
    }

    /// Guarantees: however many saves come while a successor is made ready, few wait to be entered, and the last word on each cell is what counts,
    /// for all who read it, whether or not the copy is read meanwhile.
    #[test]
    fn many_saves_after_a_copy() {
        for reads in [true, false] {
            let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
            kept.take(saved((0..100).map(|id| (id, 0))));
            kept.unstored();
            let (copy, _awaits) = kept.copy();
            let copy = Some(copy).filter(|_| reads);
            for round in 1..=50 {
                kept.take(SavedState {
                    removed_series: vec![SeriesId(99 - u32::from(round))],
                    ..saved([(7, round), (200, round)])
                });
                let late = [&kept.over, kept.since_copy.as_ref().unwrap(), kept.unstored.as_ref().unwrap()];
                assert!(late.iter().all(|changes| changes.late.len() <= MOST_LATE), "round {round}");
            }
            let expected: Vec<_> =
                (0..49).map(|id| (id, if id == 7 { 50 } else { 0 })).chain([(99, 0), (200, 50)]).collect();
            let mut store = StateBook::default();
            store.take(saved((0..100).map(|id| (id, 0))));
            store.take(kept.unstored().unwrap_or_default());
            let mut next = StateBook::default();
            next.take(saved((0..100).map(|id| (id, 0))));
            next.take(kept.changed().map(|changed| changed.into_book().into_saved()).unwrap_or_default());
            assert_eq!(
                (cells(&store), cells(&next), cells(kept.whole())),
                (expected.clone(), expected.clone(), expected)
            );
            drop(copy);
        }
    }

    /// Guarantees: large saves of the same cells are not kept one beside the other for the store, also where they came while a successor was made ready; and
    /// where that comes to nothing, nothing is gathered for it any more.
    #[test]
    fn large_saves_wait_once() {
        let wide = |byte: u8| SavedState {
            series: vec![(SeriesId(1), Cell::from(vec![byte; MOST_LATE_BYTES / 2]))],
            ..SavedState::default()
        };
        let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
        let waits = |kept: &LastSaved| kept.unstored.as_ref().unwrap().bytes();
        for round in 0..8 {
            kept.take(wide(round));
            assert!(waits(&kept) <= MOST_LATE_BYTES + MOST_LATE_BYTES / 2, "round {round}: {}", waits(&kept));
        }
        let (copy, awaits) = kept.copy();
        drop(copy);
        (8..12).for_each(|round| kept.take(wide(round)));
        assert_eq!(kept.since_copy.as_ref().unwrap().bytes(), 4 * MOST_LATE_BYTES / 2);
        drop(awaits);
        kept.take(wide(12));
        assert_eq!((waits(&kept), kept.bytes()), (MOST_LATE_BYTES / 2, MOST_LATE_BYTES / 2));
        assert!(kept.since_copy().is_none());
        assert_eq!(kept.unstored().unwrap().series, wide(12).series);
    }

    /// Guarantees: to copy the state of 100,000 series, and to save a few of them while the copy is read, takes no time that grows with them.
    #[test]
    fn a_copy_costs_nothing() {
        let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
        kept.take(saved((0..100_000).map(|id| (id, 1))));
        let began = thread_cpu();
        let mut copies = Vec::new();
        for round in 0..1_000 {
            copies.push(kept.copy());
            kept.take(saved([(round, 2)]));
            copies.clear();
            kept.take(saved([(round, 3)]));
        }
        // Each would take some milliseconds if cells were copied.
        let each = (thread_cpu() - began) / 1_000;
        assert!(each.as_micros() < 1_000, "{each:?} each");
        assert_eq!(cells(kept.whole())[..2], [(0, 3), (1, 3)]);
    }

    /// Guarantees: how large it would be is told before it is taken over, and exactly where that decides: what is replaced or removed makes room,
    /// whether or not a copy is read.
    #[test]
    fn what_would_be_too_much() {
        let wide = |id: u32, len: usize| (SeriesId(id), Cell::from(vec![0; len]));
        let saved = |series: Vec<_>| SavedState { series, ..SavedState::default() };
        let mut kept = LastSaved::new(StateBook::default(), None);
        kept.take(saved(vec![wide(1, 60), wide(2, 30)]));
        let (copy, _awaits) = kept.copy();
        kept.take(saved(vec![wide(1, 50)]));
        for _ in 0..2 {
            assert!(!kept.would_exceed(&saved(vec![wide(1, 50), wide(2, 50)]), 100));
            assert!(kept.would_exceed(&saved(vec![wide(1, 50), wide(2, 51)]), 100));
            assert!(kept.would_exceed(&saved(vec![wide(3, 21)]), 100));
            let moved = SavedState { removed_series: vec![SeriesId(1), SeriesId(1)], ..saved(vec![wide(3, 70)]) };
            assert!(!kept.would_exceed(&moved, 100) && kept.would_exceed(&moved, 99));
            kept.whole();
        }
        assert_eq!((copy.bytes(), kept.bytes()), (90, 80));
    }

    /// Guarantees: where a successor's form takes the place of the old one, the store is told all of it, with what changed at the very last, and that what
    /// is gone is gone, also where it was not told so in the old form yet.
    #[test]
    fn in_another_form() {
        let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
        kept.take(saved([(1, 1), (2, 1), (3, 1), (4, 1)]));
        let mut store = StateBook::default();
        store.take(kept.unstored().unwrap());
        let (given, _awaits) = kept.copy();
        kept.take(SavedState { removed_series: vec![SeriesId(4)], ..saved([(1, 2), (5, 2)]) });
        // What was given was saved otherwise, but for one that the successor does not keep.
        let (mut state, mut differs) = (StateBook::default(), StateBook::of_changes());
        state.take(saved([(1, 101), (2, 101), (4, 101)]));
        differs.take(given.succeeded_by(&state));
        drop(given);
        let rest =
            SavedState { removed_series: vec![SeriesId(4), SeriesId(1), SeriesId(5)], ..saved([(1, 102), (5, 102)]) };
        let mut next = kept.in_another_form(state, differs, rest);
        let due = [(1, 102), (2, 101), (5, 102)];
        assert_eq!((cells(next.whole()), next.bytes()), (due.to_vec(), 3));
        store.take(next.unstored().unwrap());
        assert_eq!(cells(&store), due);
        assert!(next.unstored().is_none() && kept.unstored().is_none());
    }

    /// Guarantees: the store is told each change once, a successor's form as a whole, and everything when it has lost it.
    #[test]
    fn what_the_store_is_told() {
        let mut kept = LastSaved::new(StateBook::default(), Some(saved([(9, 9)])));
        let mut store = StateBook::default();
        let mut tell = |kept: &mut LastSaved| {
            let told = kept.unstored();
            let any = told.is_some();
            store.take(told.unwrap_or_default());
            (any, cells(&store))
        };
        assert_eq!(tell(&mut kept), (true, vec![(9, 9)]), "how it differed from the first");
        kept.take(saved([(1, 1), (2, 2)]));
        kept.take(SavedState { removed_series: vec![SeriesId(9)], ..saved([(1, 3)]) });
        assert_eq!(tell(&mut kept), (true, vec![(1, 3), (2, 2)]));
        assert!(!tell(&mut kept).0);
        let mut next = StateBook::default();
        next.take(saved([(2, 7)]));
        kept.becomes(next);
        assert_eq!(tell(&mut kept), (true, vec![(2, 7)]));
        kept.store_all();
        assert_eq!(
            cells(&{
                let mut anew = StateBook::default();
                anew.take(kept.unstored().unwrap_or_default());
                anew
            }),
            [(2, 7)]
        );
        assert!(LastSaved::new(StateBook::default(), None).unstored().is_none());
    }
}
