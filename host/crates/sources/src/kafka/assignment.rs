//! The partitions this consumer holds, and what is in flight of each.
//!
//! Every time a partition is assigned, or rewound after something of it was given back, it becomes a new *incarnation*:
//! tokens name the incarnation they were given by, and settlements of older ones are ignored, since their records are
//! delivered again, here or to another member of the group. No I/O.

use std::time::{Duration, Instant};

use tidegate_model::{OffsetMark, Outcome};

use super::offsets::{Sequence, Window};
use crate::backoff::Backoff;

/// What must be known of a record to settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    incarnation: u32,
    sequence: Sequence,
}

/// Where a record stands, as librdkafka names it: topics by the address of its own object, which is compared and never followed. As long as
/// a partition is held, that object stays where it is, and no other topic has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) topic: usize,
    pub(super) partition: i32,
}

/// A record, as far as its settlement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) token: Token,
    /// Whether this consumer had it before.
    pub(super) again: bool,
    /// Up to where its partition must be stored before it, where that is known.
    pub(super) after: i64,
}

/// Whether the rules had a record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    New,
    /// They had, and it counts as settled.
    Had,
    /// It is read for another reason than a crash: nothing that was kept of its partition holds any more.
    Doubtful,
}

/// An offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

#[derive(Debug)]
struct Partition {
    topic: String,
    number: i32,
    incarnation: u32,
    window: Window,
    /// One past the highest offset received.
    seen: i64,
    /// One past what was received last of this incarnation, or how far it was stored when that began: 0 if that is not known.
    reached: i64,
    /// With a journal: what the rules have had of it, until something comes that they have not.
    had: Option<OffsetMark>,
    /// The same: what the group is known to have committed, if that is asked.
    committed: Option<i64>,
    /// The low-water mark last given out to be stored.
    stored: Option<i64>,
    returned: bool,
    rewind: Option<Rewind>,
    backoff: Backoff,
}

/// Its records are left until it is read from there.
#[derive(Clone, Copy, Debug)]
struct Rewind {
    from: i64,
    /// None while it is not known from where.
    due: Option<Instant>,
}

/// All partitions held.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    partitions: Vec<Partition>,
    next_incarnation: u32,
    /// Whose record came last: they come in runs of one partition, and its name is compared once a run.
    run: Option<(Spot, usize)>,
    in_flight: usize,
    /// Something was settled as it came.
    passed: bool,
}

impl Assignment {
    /// The group gave us a partition.
    pub(super) fn assign(&mut self, topic: &str, number: i32) {
        self.revoke(topic, number);
        let incarnation = self.new_incarnation();
        self.partitions.push(Partition {
            topic: topic.to_owned(),
            number,
            incarnation,
            window: Window::default(),
            seen: i64::MIN,
            reached: 0,
            had: None,
            committed: None,
            stored: None,
            returned: false,
            rewind: None,
            backoff: Backoff::default(),
        });
    }

    /// So far a partition is stored that was just assigned.
    pub(super) fn stands_at(&mut self, topic: &str, number: i32, stored: i64) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].reached = stored;
        }
    }

    /// Its records are left until [`Self::read_from`] says from where they are to be read.
    pub(super) fn hold(&mut self, topic: &str, number: i32) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].rewind = Some(Rewind { from: 0, due: None });
        }
    }

    /// A partition that was held is to be read from there: [`Self::due`] names it.
    pub(super) fn read_from(&mut self, topic: &str, number: i32, from: i64, now: Instant) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].rewind = Some(Rewind { from, due: Some(now) });
        }
    }

    /// With a journal: what the rules have had of a partition that was just assigned.
    pub(super) fn recall(&mut self, topic: &str, number: i32, had: Option<OffsetMark>) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].had = had;
            self.partitions[at].committed = Some(0);
        }
    }

    /// With a journal: the group has committed up to this offset.
    pub(super) fn committed(&mut self, topic: &str, number: i32, offset: i64) {
        if let Some(at) = self.find(topic, number)
            && let Some(committed) = &mut self.partitions[at].committed
        {
            *committed = offset.max(*committed);
        }
    }

    /// A record came: whether the rules had it before. Then it is settled already, and [`Self::receive`] is not to hear of it.
    pub(super) fn had_before(&mut self, topic: &str, number: i32, offset: i64) -> Recall {
        let Some(at) = self.find(topic, number) else { return Recall::New };
        let partition = &mut self.partitions[at];
        let Some(had) = partition.had.filter(|_| partition.rewind.is_none()) else { return Recall::New };
        if (had.from..=had.upto).contains(&offset) {
            partition.seen = partition.seen.max(offset + 1);
            let sequence = partition.window.receive(offset);
            partition.window.settle(sequence);
            self.in_flight += 1;
            self.passed = true;
            return Recall::Had;
        }
        partition.had = None;
        if offset < had.from { Recall::Doubtful } else { Recall::New }
    }

    /// Whether something was settled as it came, since this was last asked: then marks may have moved.
    pub(super) fn has_passed(&mut self) -> bool {
        std::mem::take(&mut self.passed)
    }

    /// The group took it from us.
    pub(super) fn revoke(&mut self, topic: &str, number: i32) {
        if let Some(at) = self.find(topic, number) {
            self.in_flight -= self.partitions.swap_remove(at).window.len();
            self.run = None;
        }
    }

    /// A record came. None if its partition is not ours, or will be read again from before it: leave it. `topic` gives the name of the topic
    /// that `spot` has, and is asked once a run.
    #[inline]
    pub(super) fn receive_at<'t>(
        &mut self,
        spot: Spot,
        offset: i64,
        topic: impl FnOnce() -> &'t str,
    ) -> Option<Received> {
        let at = match self.run {
            Some((run, at)) if run == spot => at,
            _ => {
                let at = self.find(topic(), spot.partition)?;
                self.run = Some((spot, at));
                at
            }
        };
        self.enter(at, offset)
    }

    /// The same by name.
    pub(super) fn receive(&mut self, topic: &str, number: i32, offset: i64) -> Option<Received> {
        let at = self.find(topic, number)?;
        self.enter(at, offset)
    }

    #[inline]
    fn enter(&mut self, at: usize, offset: i64) -> Option<Received> {
        let partition = self.partitions.get_mut(at)?;
        if partition.rewind.is_some() {
            return None;
        }
        let again = offset < partition.seen;
        partition.seen = partition.seen.max(offset + 1);
        // With a journal nobody stores offsets, and what is asked is from where on records may come again.
        let after = partition.committed.unwrap_or(partition.reached);
        partition.reached = partition.reached.max(offset + 1);
        self.in_flight += 1;
        let token = Token { incarnation: partition.incarnation, sequence: partition.window.receive(offset) };
        Some(Received { token, again, after })
    }

    /// Records ended. Call [`Self::advance`] after all that is known was told.
    pub(super) fn settle(&mut self, outcome: Outcome, tokens: &[Token]) {
        let mut at = 0;
        for token in tokens {
            if self.partitions.get(at).is_none_or(|p| p.incarnation != token.incarnation) {
                match self.partitions.iter().position(|p| p.incarnation == token.incarnation) {
                    Some(found) => at = found,
                    None => continue,
                }
            }
            match outcome {
                Outcome::Settled => self.partitions[at].window.settle(token.sequence),
                Outcome::Returned => self.partitions[at].returned = true,
            }
        }
    }

    /// Moves the low-water marks; gives those that moved, to be stored.
    pub(super) fn advance(&mut self) -> Vec<Position> {
        let mut moved = Vec::new();
        for partition in &mut self.partitions {
            let passed = partition.window.advance();
            self.in_flight -= passed;
            let mark = partition.window.low_water();
            if let (Some(offset), true) = (mark, mark != partition.stored) {
                partition.stored = mark;
                partition.backoff.holds();
                moved.push(Position { topic: partition.topic.clone(), partition: partition.number, offset });
            }
        }
        moved
    }

    /// Makes ready to read again what was given back: forgets what is in flight of those partitions, and gives from where
    /// each will be read, with how long to wait before. Until [`Self::due`] names them, their records are left.
    pub(super) fn rewind(&mut self, now: Instant) -> Vec<(Position, Duration)> {
        let mut rewound = Vec::new();
        for at in 0..self.partitions.len() {
            if !std::mem::take(&mut self.partitions[at].returned) {
                continue;
            }
            let incarnation = self.new_incarnation();
            let partition = &mut self.partitions[at];
            self.in_flight -= partition.window.len();
            partition.incarnation = incarnation;
            if let Some(from) = partition.window.rewind() {
                let wait = partition.backoff.failed();
                partition.rewind = Some(Rewind { from, due: Some(now + wait) });
                let position = Position { topic: partition.topic.clone(), partition: partition.number, offset: from };
                rewound.push((position, wait));
            }
        }
        rewound
    }

    /// The rewinds whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Position> {
        let mut due = Vec::new();
        for partition in &mut self.partitions {
            if let Some(rewind) = partition.rewind.take_if(|rewind| rewind.due.is_some_and(|due| due <= now)) {
                due.push(Position {
                    topic: partition.topic.clone(),
                    partition: partition.number,
                    offset: rewind.from,
                });
            }
        }
        due
    }

    /// A rewind did not succeed: it is due again.
    pub(super) fn rewind_again(&mut self, position: &Position, now: Instant) {
        if let Some(at) = self.find(&position.topic, position.partition) {
            let partition = &mut self.partitions[at];
            let due = Some(now + partition.backoff.failed());
            partition.rewind = Some(Rewind { from: position.offset, due });
        }
    }

    /// The low-water marks of these partitions, where there are any.
    pub(super) fn low_water(&self, of: &[(String, i32)]) -> Vec<Position> {
        of.iter()
            .filter_map(|(topic, number)| {
                let offset = self.partitions[self.find(topic, *number)?].window.low_water()?;
                Some(Position { topic: topic.clone(), partition: *number, offset })
            })
            .collect()
    }

    /// Records of these partitions that are in flight.
    pub(super) fn in_flight_of(&self, of: &[(String, i32)]) -> usize {
        of.iter().filter_map(|(t, n)| self.find(t, *n)).map(|at| self.partitions[at].window.len()).sum()
    }

    /// Records received that no low-water mark has passed.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// All partitions that are not held, and not waiting for a rewind.
    pub(super) fn readable(&self) -> impl Iterator<Item = (&str, i32)> + '_ {
        self.partitions.iter().filter(|p| p.rewind.is_none()).map(|p| (p.topic.as_str(), p.number))
    }

    /// All partitions.
    pub(super) fn all(&self) -> Vec<(String, i32)> {
        self.partitions.iter().map(|p| (p.topic.clone(), p.number)).collect()
    }

    fn find(&self, topic: &str, number: i32) -> Option<usize> {
        self.partitions.iter().position(|p| p.number == number && p.topic == topic)
    }

    fn new_incarnation(&mut self) -> u32 {
        self.next_incarnation = self.next_incarnation.wrapping_add(1);
        self.next_incarnation
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
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
}
