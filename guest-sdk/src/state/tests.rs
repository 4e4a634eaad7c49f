#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn save(table: &mut BySeries<u64>, everything: bool, max_bytes: u32) -> Saved {
    State::by_series(table).save(everything, 1, max_bytes)
}

/// Guarantees: only what was changed through `DerefMut` is saved, once.
#[test]
fn saves_what_changed_once() {
    let mut table = BySeries::<u64>::default();
    **table.of(7) = 70;
    **table.of(3) = 30;
    assert_eq!(**table.of(5), 0, "reading makes no entry to save");
    assert_eq!(save(&mut table, false, 1 << 20).by_series.id, [7, 3], "in the order in which they were lent");
    assert_eq!(save(&mut table, false, 1 << 20).by_series.id, [0; 0]);
    *table.of(3).unmarked() = 31;
    assert_eq!(save(&mut table, false, 1 << 20).by_series.id, [0; 0]);
    assert_eq!(save(&mut table, true, 1 << 20).by_series.id, [3, 7]);
}

/// Guarantees: whichever way an entry was lent, a change of it is saved, once; and of a large table that was restored nothing is looked at but what
/// was lent since.
#[test]
fn saves_look_at_what_was_lent() {
    let mut table = BySeries::<u64>::default();
    (0..1_000).for_each(|id| **table.of(id) = 1);
    let all = save(&mut table, true, 1 << 20);
    assert!(table.lent.is_empty());
    let mut table = BySeries::<u64>::default();
    State::by_series(&mut table).restore(1, &all).unwrap();
    assert!(table.lent.is_empty() && table.walk.is_none());
    **table.of(32) = 2;
    assert!(table.lent().get(999).is_none(), "not lent yet");
    (0..3).for_each(|_| {
        table.of(999);
    });
    **table.lent().get(999).unwrap() = 2;
    table.of(7);
    assert!(table.lent().get(1_000).is_none());
    assert_eq!(table.lent, [32, 999, 7]);
    assert_eq!(save(&mut table, false, 1 << 20).by_series.id, [32, 999]);
    assert!(table.lent.is_empty() && table.lent().get(999).is_none());
    table.iter_mut().filter(|(id, _)| id % 500 == 7).for_each(|(_, entry)| **entry = 3);
    assert_eq!(save(&mut table, false, 1 << 20).by_series.id, [7, 507]);
    assert!(table.walk.is_none());
}

/// Guarantees: a save of everything that is not asked for to its end loses no change: what it would have given comes with the changes.
#[test]
fn everything_that_was_left_unfinished() {
    let mut table = BySeries::<u64>::default();
    (0..100).for_each(|id| **table.of(id) = 1);
    let part = save(&mut table, true, 100);
    assert!(part.more && part.by_series.id.len() < 20);
    let rest = save(&mut table, false, 1 << 20);
    assert_eq!([part.by_series.id, rest.by_series.id].concat(), (0..100).collect::<Vec<_>>());
}

/// Guarantees: one that is removed and set again, over and over between two saves, is listed and saved once.
#[test]
fn removed_and_set_again() {
    let mut table = BySeries::<u64>::default();
    for round in 0..10 {
        **table.of(3) = round;
        table.remove(3);
    }
    **table.of(3) = 10;
    assert_eq!(table.lent, [3]);
    let saved = save(&mut table, false, 1 << 20);
    assert_eq!((saved.by_series.id, saved.removed_series.len()), (vec![3], 0));
}

/// Guarantees: what was changed all over, by one and the other way, is saved whole in parts, also what changes between them.
#[test]
fn changes_in_parts() {
    let (mut old, mut new) = (BySeries::<u64>::default(), BySeries::<u64>::default());
    (0..100).for_each(|id| **old.of(id) = 1);
    old.iter_mut().for_each(|(id, entry)| **entry = id.into());
    let mut parts = 0;
    loop {
        let part = save(&mut old, false, 100);
        State::by_series(&mut new).restore(1, &part).unwrap();
        parts += 1;
        if !part.more {
            break;
        }
        if parts < 20 {
            **old.of(parts) += 1_000;
            **old.of(99 - parts) += 1_000;
        }
    }
    assert!(parts > 8);
    (0..100).for_each(|id| assert_eq!(old.get(id), new.get(id), "id {id}"));
}

/// Guarantees: parts of any size restore to the same state, with changes made between the parts.
#[test]
fn parts_restore_to_the_same() {
    for max_bytes in [0, 1, 25, 100, 1 << 20] {
        let mut old = BySeries::<u64>::default();
        for id in 0..100 {
            **old.of(id * 3) = u64::from(id) << (id % 40);
        }
        let mut new = BySeries::<u64>::default();
        let mut parts = 0;
        loop {
            let part = save(&mut old, true, max_bytes);
            State::by_series(&mut new).restore(1, &part).unwrap();
            **old.of(parts * 3) += 1;
            parts += 1;
            if !part.more {
                break;
            }
        }
        loop {
            let rest = save(&mut old, false, max_bytes);
            State::by_series(&mut new).restore(1, &rest).unwrap();
            if !rest.more {
                break;
            }
        }
        for id in 0..300 {
            assert_eq!(old.get(id), new.get(id), "id {id} with parts of {max_bytes} bytes");
        }
        assert!(max_bytes > 1 << 10 || parts > 10);
    }
}

/// Guarantees: what is removed is told, and what came back since is told as a value.
#[test]
fn removals_are_told() {
    let mut table = BySeries::<u64>::default();
    **table.of(1) = 1;
    **table.of(2) = 2;
    save(&mut table, false, 1 << 20);
    table.remove(1);
    table.remove(2);
    table.remove(9);
    **table.of(2) = 22;
    let saved = save(&mut table, false, 1 << 20);
    assert_eq!((saved.removed_series, saved.by_series.id), (vec![1], vec![2]));
}

/// Guarantees: what was removed more than once between two saves, since it came back in between, is told once.
#[test]
fn a_removal_is_told_once() {
    let mut table = BySeries::<u64>::default();
    for id in [2, 1, 2, 1] {
        **table.of(id) = 1;
        table.remove(id);
    }
    assert_eq!(save(&mut table, false, 1 << 20).removed_series, [1, 2]);
}

/// Guarantees: all of two tables, each of several parts, comes once and comes to an end; one that was given up begins anew.
#[test]
fn everything_of_two_tables() {
    let (mut series, mut partitions) = (BySeries::<u64>::default(), ByPartition::<u64>::default());
    (0..100).for_each(|id| (**series.of(id), **partitions.of(id)) = (1, 1));
    let mut save =
        |everything: bool| State::by_series(&mut series).and_by_partition(&mut partitions).save(everything, 1, 100);
    while save(true).by_partition.id.is_empty() {}
    assert!(save(false).more, "it was given up");
    let (mut of_series, mut of_partitions) = (Vec::new(), Vec::new());
    for part in 1.. {
        assert!(part < 100, "it does not end");
        let saved = save(true);
        of_series.extend(saved.by_series.id);
        of_partitions.extend(saved.by_partition.id);
        if !saved.more {
            break;
        }
    }
    let all: Vec<u32> = (0..100).collect();
    assert_eq!((of_series, of_partitions), (all.clone(), all));
}

/// Guarantees: another layout and damaged bytes are refused with a sentence, not misread.
#[test]
fn foreign_state_is_refused() {
    let mut table = BySeries::<u64>::default();
    **table.of(1) = 300;
    let mut part = save(&mut table, true, 1 << 20);
    let mut new = BySeries::<u64>::default();
    let why = State::by_series(&mut new).restore(2, &part).unwrap_err();
    assert!(why.contains("layout 1") && why.contains("layout 2"), "{why}");
    part.by_series.ends[0] -= 1;
    assert!(State::by_series(&mut new).restore(1, &part).is_err());
    part.by_series.ends[0] = 99;
    assert!(State::by_series(&mut new).restore(1, &part).is_err());
    assert!(State::none().restore(1, &part).is_err());
}
