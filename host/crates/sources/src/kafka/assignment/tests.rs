//! Partitions that come, go, are read again and are held; and what the rules have had of them.

use std::time::Instant;

use super::*;

fn position(partition: i32, offset: i64) -> Position {
    Position { topic: "t".into(), partition, offset }
}

/// Guarantees: partitions are marked apart, and only what moved is given out, once.
#[test]
fn each_partition_by_itself() {
    let mut held = Assignment::default();
    held.assign("t", 0);
    held.assign("t", 1);
    let a = held.receive("t", 0, 5).unwrap().token;
    let b = held.receive("t", 1, 9).unwrap().token;
    let c = held.receive("t", 0, 6).unwrap().token;
    assert_eq!(held.in_flight(), 3);
    held.settle(Outcome::Settled, &[c, b]);
    assert_eq!(held.advance(), [position(1, 10)]);
    held.settle(Outcome::Settled, &[a]);
    assert_eq!(held.advance(), [position(0, 7)]);
    assert!(held.advance().is_empty());
    assert_eq!(held.in_flight(), 0);
}

/// Guarantees: a partition that left and came back is not moved by what was settled for its earlier life.
#[test]
fn late_settlements_of_an_older_assignment_mean_nothing() {
    let mut held = Assignment::default();
    held.assign("t", 0);
    let old = held.receive("t", 0, 5).unwrap().token;
    held.revoke("t", 0);
    assert!(held.receive("t", 0, 6).is_none());
    held.assign("t", 0);
    held.receive("t", 0, 5).unwrap();
    held.settle(Outcome::Settled, &[old]);
    assert!(held.advance().is_empty());
    assert_eq!(held.in_flight(), 1);
}

/// Guarantees: records are told apart by topic and by partition, whichever way they are named, also after a partition between them has left.
#[test]
fn runs_of_records() {
    let mut held = Assignment::default();
    for (topic, number) in [("a", 0), ("b", 0), ("a", 1)] {
        held.assign(topic, number);
    }
    let spot = |topic, partition| Spot { topic, partition };
    let mut come = |topic: &str, at, number, offset| held.receive_at(spot(at, number), offset, || topic).unwrap();
    let of_b = [come("b", 7, 0, 4), come("b", 7, 0, 5)].map(|received| received.token);
    let of_a = [come("a", 8, 0, 4), come("a", 8, 1, 9), come("a", 8, 1, 10)].map(|received| received.token);
    held.revoke("a", 0);
    let last = held.receive_at(spot(8, 1), 11, || "a").unwrap().token;
    assert!(held.receive_at(spot(8, 0), 5, || "a").is_none());
    held.settle(Outcome::Settled, &of_b);
    held.settle(Outcome::Settled, &of_a);
    held.settle(Outcome::Settled, &[last]);
    let mut moved = held.advance();
    moved.sort_by(|a, b| a.topic.cmp(&b.topic));
    let of = |topic: &str, partition, offset| Position { topic: topic.into(), partition, offset };
    assert_eq!(moved, [of("a", 1, 12), of("b", 0, 6)]);
}

/// Guarantees: each record says how far its partition must be stored before it: as far as it was when reading began, then up to the record
/// before; what lies in gaps of the log is no record, and what is read a second time lowers nothing.
#[test]
fn what_must_be_stored_before() {
    let mut held = Assignment::default();
    held.assign("t", 0);
    held.assign("t", 1);
    held.stands_at("t", 0, 7);
    let mut after = |number, offset| held.receive("t", number, offset).unwrap().after;
    assert_eq!([after(0, 5), after(0, 6), after(0, 9), after(0, 10)], [7, 7, 7, 10]);
    assert_eq!([after(1, 5), after(1, 6)], [0, 6]);
}

/// Guarantees: of a partition that is held no record is taken, and it is not among those to be read, until it is said from where it is read.
#[test]
fn a_held_partition() {
    let mut held = Assignment::default();
    held.assign("t", 0);
    held.assign("t", 1);
    held.hold("t", 1);
    let now = Instant::now();
    assert!(held.receive("t", 1, 9).is_none() && held.receive("t", 0, 9).is_some());
    assert_eq!(held.readable().collect::<Vec<_>>(), [("t", 0)]);
    assert!(held.due(now).is_empty());
    held.read_from("t", 1, 4, now);
    assert!(held.receive("t", 1, 9).is_none(), "it is not read from there yet");
    assert_eq!(held.due(now), [position(1, 4)]);
    assert!(held.receive("t", 1, 4).is_some());
    assert_eq!(held.readable().count(), 2);
}

/// Guarantees: something given back is read again from the oldest open record, with all behind it, and marked as
/// repeated.
#[test]
fn returned_is_read_again() {
    let mut held = Assignment::default();
    held.assign("t", 0);
    let tokens: Vec<_> = (0..4).map(|offset| held.receive("t", 0, offset).unwrap().token).collect();
    held.settle(Outcome::Settled, &[tokens[0], tokens[3]]);
    held.settle(Outcome::Returned, &[tokens[1]]);
    assert_eq!(held.advance(), [position(0, 1)]);
    let now = Instant::now();
    let (from, wait) = held.rewind(now).pop().unwrap();
    assert_eq!(from, position(0, 1));
    assert!(held.receive("t", 0, 4).is_none(), "what comes before the rewind is left");
    assert_eq!(held.due(now + wait), [position(0, 1)]);
    held.settle(Outcome::Settled, &tokens[2..3]);
    assert!(held.advance().is_empty());
    let again = held.receive("t", 0, 1).unwrap();
    assert!(again.again);
    held.settle(Outcome::Settled, &[again.token]);
    assert_eq!(held.advance(), [position(0, 2)]);
    assert_eq!(held.in_flight(), 0);
}

/// Guarantees: with a journal, what the rules have had is settled as it comes, and the mark moves over it; the first record behind it is new. Where
/// reading begins before what was committed, nothing of what was kept holds.
#[test]
fn what_the_rules_have_had() {
    let mut held = Assignment::default();
    let assign = |held: &mut Assignment| {
        held.assign("t", 0);
        held.recall("t", 0, Some(OffsetMark { from: 5, upto: 8 }));
    };
    assign(&mut held);
    assert_eq!([5, 7, 8].map(|offset| held.had_before("t", 0, offset)), [Recall::Had; 3]);
    assert_eq!((held.has_passed(), held.has_passed(), held.in_flight()), (true, false, 3));
    assert_eq!((held.advance(), held.in_flight()), (vec![position(0, 9)], 0));
    assert_eq!(held.had_before("t", 0, 9), Recall::New);
    held.committed("t", 0, 9);
    held.committed("t", 0, 6);
    assert_eq!(held.receive("t", 0, 9).unwrap().after, 9, "what may come again begins where it was committed");

    assign(&mut held);
    assert_eq!(held.had_before("t", 0, 0), Recall::Doubtful);
    assert_eq!([0, 6, 8].map(|offset| held.had_before("t", 0, offset)), [Recall::New; 3]);
}
