//! Partitions whose records are left for a while, to be read again from some offset: what was given back, and what is held.

use std::time::{Duration, Instant};

use super::{Assignment, Position};

/// Its records are left until it is read from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewind {
    pub(super) from: i64,
    /// None while it is not known from where.
    pub(super) due: Option<Instant>,
}

impl Assignment {
    /// Its records are left until [`Self::read_from`] says from where they are to be read.
    pub(in crate::kafka) fn hold(&mut self, topic: &str, number: i32) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].rewind = Some(Rewind { from: 0, due: None });
        }
    }

    /// A partition that was held is to be read from there: [`Self::due`] names it.
    pub(in crate::kafka) fn read_from(&mut self, topic: &str, number: i32, from: i64, now: Instant) {
        if let Some(at) = self.find(topic, number) {
            self.partitions[at].rewind = Some(Rewind { from, due: Some(now) });
        }
    }

    /// Makes ready to read again what was given back: forgets what is in flight of those partitions, and gives from where
    /// each will be read, with how long to wait before. Until [`Self::due`] names them, their records are left.
    pub(in crate::kafka) fn rewind(&mut self, now: Instant) -> Vec<(Position, Duration)> {
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
    pub(in crate::kafka) fn due(&mut self, now: Instant) -> Vec<Position> {
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
    pub(in crate::kafka) fn rewind_again(&mut self, position: &Position, now: Instant) {
        if let Some(at) = self.find(&position.topic, position.partition) {
            let partition = &mut self.partitions[at];
            let due = Some(now + partition.backoff.failed());
            partition.rewind = Some(Rewind { from: position.offset, due });
        }
    }
}
