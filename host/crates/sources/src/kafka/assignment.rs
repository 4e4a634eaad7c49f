//! The partitions this consumer holds, and what is in flight of each.
//!
//! Every time a partition is assigned, or rewound after something of it was given back, it becomes a new *incarnation*:
//! tokens name the incarnation they were given by, and settlements of older ones are ignored, since their records are
//! delivered again, here or to another member of the group. No I/O.

mod again;
mod recall;

use tidegate_model::{OffsetMark, Outcome};

use self::again::Rewind;
pub(super) use self::recall::Recall;
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
mod tests;
