use tidegate_model::{Cell, SeriesId};

use super::*;
use crate::lane::guest;
use crate::lane::last_saved::LastSaved;

/// Guarantees: an instance that is tried has a part of the state only where the partitions of the batch say which part: for a decoder that keeps
/// state of series, which another partition's topic may have named first, they do not, nor for a rule of the node.
#[test]
fn whose_cells_the_partitions_tell() {
    let (mut of_series, mut of_partitions) = (StateBook::default(), StateBook::default());
    let cell = Cell::from([1]);
    of_series.take(SavedState { series: vec![(SeriesId(1), cell.clone())], ..SavedState::default() });
    of_partitions.take(SavedState { partitions: vec![(PartitionId(1), cell)], ..SavedState::default() });
    let (messages, points) = (Messages::default(), Points::default());
    for (scope, decoder, processor) in [
        (Scope::Series, [false, false], [true, true]),
        (Scope::Partition, [false, true], [true, true]),
        (Scope::Node, [false, false], [false, false]),
    ] {
        let of = |batch| [&of_series, &of_partitions].map(|all| say_all(batch, scope, all));
        assert_eq!(of(Tried::Messages(&messages)), decoder, "{scope:?}");
        assert_eq!(of(Tried::Points(&points)), processor, "{scope:?}");
    }
}

/// Guarantees: a rule that fails on whole batches and on no part of them is quarantined for the time that the parts take, as any that a lane stands
/// still for too long for, and what it said last is told; a batch that is set right soon costs nothing.
#[test]
fn failing_has_a_share() {
    let rule = guest::rule(&[("process", "(if (i32.gt_u (local.get $rows) (i32.const 1)) (then unreachable))")]);
    let books = Arc::new(Books::new(9));
    let series = books.intern_series("a", PartitionId(0), tidegate_model::Description::default()).unwrap();
    let mut batch = Points::default();
    (0..2).for_each(|n| batch.push(series, n, 1.0, 192));
    let instance = rule.instantiate(&books).unwrap();
    let mut slot = Slot::new(instance, LastSaved::new(StateBook::default(), None), books, 0);
    let fails = |slot: &mut Slot| {
        let mut patience = Patience::default();
        let fault = slot.process(0, &batch, &mut None).unwrap().unwrap_err();
        assert_eq!(slot.failed_on(Tried::Points(&batch), &fault, None, &mut patience), Poison::Within);
        slot.done_with(&patience);
        rule.stats.quarantined()
    };
    assert!((0..20).all(|_| fails(&mut slot).is_none()));
    // As much as several batches take whose parts go on for long.
    slot.toll.enter(Duration::from_secs(15), Instant::now(), &rule.limits);
    let reason = fails(&mut slot).unwrap();
    assert!(reason.contains("too much of a lane's time") && reason.contains("unreachable"), "{reason}");
}
