//! What stands against a generation, and under how many names a rule counts.

use super::*;

/// Guarantees: what is said of a generation ends with it and with nothing else: neither does a release take what stands against the
/// one it is for, nor does a late word on an old one stand against the new.
#[test]
fn a_quarantine_is_of_its_generation() {
    let stats = RuleStats::default();
    stats.quarantine(3, "three");
    stats.quarantine_partition(3, "a", "three");
    stats.release(3);
    assert!(stats.is_quarantined(3) && stats.quarantined_partitions() == 1, "it is of the one that serves");
    stats.release(4);
    assert_eq!((stats.quarantined(), stats.quarantined_partitions()), (None, 0));
    assert!(!stats.is_quarantined(4));
    stats.quarantine(4, "four");
    stats.quarantine(3, "three, late");
    stats.quarantine_partition(3, "a", "three, late");
    stats.quarantine_partition(4, "b", "four");
    stats.let_partition_go(3, "b");
    assert!(stats.shuns("b") && !stats.shuns("a"), "it is another generation that lets it go");
    stats.let_partition_go(4, "b");
    assert_eq!((stats.quarantined().as_deref(), stats.is_quarantined(4)), (Some("four"), true));
    assert_eq!(stats.quarantined_partitions(), 0);
    stats.release(4);
    assert_eq!(stats.quarantined().as_deref(), Some("four"));
}

/// Guarantees: a rule counts under as many names as it may, and gauges under as many; those it has go on, and one that is no name takes no place.
#[test]
fn metric_names_are_bounded() {
    let stats = RuleStats::default();
    let named = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), 1)).collect();
    stats.take_counts(named(&["Not one", "", "a", "b", "c"]), vec![("a".to_owned(), 1.0)], 2);
    stats.take_counts(named(&["c", "b", "a"]), vec![("b".to_owned(), 2.0), ("c".to_owned(), 3.0)], 2);
    let totals = stats.totals();
    assert_eq!(totals.counts, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 2)]));
    assert_eq!(totals.gauges, BTreeMap::from([("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]));
}
