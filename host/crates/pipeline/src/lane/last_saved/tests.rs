//! What is kept, what a successor is given of it, and what the store is told.
#![allow(clippy::unwrap_used, reason = "tests")]

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
        kept.unstored().for_each(drop);
        let (copy, _awaits) = kept.copy();
        let copy = Some(copy).filter(|_| reads);
        for round in 1..=50 {
            kept.take(SavedState {
                removed_series: vec![SeriesId(99 - u32::from(round))],
                ..saved([(7, round), (200, round)])
            });
            let late = [&kept.over, kept.since_copy.as_ref().unwrap(), &kept.unstored.as_ref().unwrap().then];
            assert!(late.iter().all(|changes| changes.late.len() <= MOST_LATE), "round {round}");
        }
        let expected: Vec<_> =
            (0..49).map(|id| (id, if id == 7 { 50 } else { 0 })).chain([(99, 0), (200, 50)]).collect();
        let mut store = StateBook::default();
        store.take(saved((0..100).map(|id| (id, 0))));
        kept.unstored().for_each(|told| store.take(told));
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
    let waits = |kept: &LastSaved| kept.unstored.as_ref().unwrap().then.bytes();
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
    assert_eq!(kept.unstored().next().unwrap().series, wide(12).series);
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
    kept.unstored().for_each(|told| store.take(told));
    let (given, _awaits) = kept.copy();
    kept.take(SavedState { removed_series: vec![SeriesId(4)], ..saved([(1, 2), (5, 2)]) });
    // What was given was saved otherwise, but for one that the successor does not keep.
    let mut form = Form::of(&given, saved([(1, 101), (2, 101), (4, 101)]));
    drop(given);
    // In two rounds, the second of them when the lane stands still.
    form.take(SavedState { removed_series: vec![SeriesId(4), SeriesId(1)], ..saved([(1, 102)]) });
    let rest = SavedState { removed_series: vec![SeriesId(5)], ..saved([(5, 102)]) };
    let (mut next, untold) = kept.in_another_form(form, rest);
    let due = [(1, 102), (2, 101), (5, 102)];
    assert_eq!((cells(next.whole()), next.bytes(), untold), (due.to_vec(), 3, None));

    // Of one more before the store was told of the first, too.
    next.take(SavedState { removed_series: vec![SeriesId(2)], ..SavedState::default() });
    let (given, _awaits) = next.copy();
    let form = Form::of(&given, saved([(1, 201)]));
    let (mut last, _) = next.in_another_form(form, SavedState::default());
    last.unstored().for_each(|told| store.take(told));
    assert_eq!((cells(&store), cells(last.whole())), (vec![(1, 201)], vec![(1, 201)]));
    assert_eq!(last.unstored().count(), 0);
}

/// Guarantees: where there is no store, what one would be told of another form is handed back: to let go of it takes as long as it has cells.
#[test]
fn in_another_form_without_a_store() {
    let mut kept = LastSaved::new(StateBook::default(), None);
    kept.take(saved([(1, 1), (2, 1)]));
    let (given, _awaits) = kept.copy();
    let (mut next, untold) = kept.in_another_form(Form::of(&given, saved([(1, 9)])), SavedState::default());
    assert_eq!((untold.unwrap().series.len(), next.unstored().count()), (1, 0));
}

/// Guarantees: the store is told each change once, a successor's form as a whole, and everything when it has lost it.
#[test]
fn what_the_store_is_told() {
    let mut kept = LastSaved::new(StateBook::default(), Some(saved([(9, 9)])));
    let mut store = StateBook::default();
    let mut tell = |kept: &mut LastSaved| {
        let told: Vec<_> = kept.unstored().collect();
        let any = !told.is_empty();
        told.into_iter().for_each(|told| store.take(told));
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
            kept.unstored().for_each(|told| anew.take(told));
            anew
        }),
        [(2, 7)]
    );
    assert!(LastSaved::new(StateBook::default(), None).unstored().next().is_none());
}

/// Guarantees: what is forgotten is forgotten in the store too, whatever it was not told of it before, and however often that is; and what waits to be told
/// is in few parts.
#[test]
fn what_is_forgotten() {
    let mut kept = LastSaved::new(StateBook::default(), Some(SavedState::default()));
    let mut store = StateBook::default();
    kept.take(saved([(1, 1), (2, 1)]));
    kept.unstored().for_each(|told| store.take(told));
    for round in 0..100 {
        kept.take(saved([(1, round), (2, round), (3, round)]));
        let mut rest = StateBook::default();
        rest.take(saved([(2, round)]));
        let gone = SavedState { removed_series: vec![SeriesId(1), SeriesId(3)], ..SavedState::default() };
        let before = kept.forget(rest, gone);
        assert_eq!(cells(&before.base).len(), 3);
        assert_eq!((cells(kept.whole()), kept.bytes()), (vec![(2, round)], 1));
    }
    kept.take(saved([(3, 7)]));
    let told: Vec<_> = kept.unstored().collect();
    assert!(told.len() <= MOST_LATE + 3, "{} parts", told.len());
    told.into_iter().for_each(|told| store.take(told));
    assert_eq!(cells(&store), [(2, 99), (3, 7)]);
    let mut unkept = LastSaved::new(StateBook::default(), None);
    unkept.forget(StateBook::default(), saved([(1, 1)]));
    assert_eq!(unkept.unstored().count(), 0);
}
