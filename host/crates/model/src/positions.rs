//! Where messages stand in the logs they came from, for a sink that keeps that beside the points, in the same transaction.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::SinkError;

/// One partition of a log: offsets are counted in it, for one group of readers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    /// The cluster's own id: names of groups and topics are the same in many clusters.
    pub cluster: Arc<str>,
    /// The group of readers.
    pub group: Arc<str>,
    /// The topic.
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
}

/// Where a message stands in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its offset.
    pub offset: i64,
    /// Up to where the log must be stored before it: one past the message that was read before it, or where reading began. 0 where nothing was
    /// known of what is stored. Whoever stores the message and has less must not: what is between would be passed by.
    pub after: i64,
}

/// Positions of messages: sparse, ascending by row.
///
/// Whoever gives them promises that the messages of one log come one after the other, by the same lane: when a message is stored, all
/// before it are.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    row: Vec<u32>,
    /// Index into `logs`.
    log: Vec<u32>,
    position: Vec<Position>,
    logs: Vec<Arc<Log>>,
}

impl Positions {
    /// Adds that of `row`, which must be after the last row added.
    pub fn push(&mut self, row: u32, log: &Arc<Log>, position: Position) {
        // A parcel is of few partitions, and mostly of the one that the last message was of.
        let known = self.logs.iter().rposition(|known| Arc::ptr_eq(known, log) || known == log);
        let index = known.unwrap_or_else(|| {
            self.logs.push(log.clone());
            self.logs.len() - 1
        });
        self.row.push(row);
        self.log.push(index as u32);
        self.position.push(position);
    }

    /// Whether no message has any.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// The logs, each once.
    pub fn logs(&self) -> &[Arc<Log>] {
        &self.logs
    }

    /// The position of `row`: an index into [`Self::logs`], and where it stands there.
    pub fn of(&self, row: u32) -> Option<(u32, Position)> {
        // Where all messages have one, it stands at its own row.
        let at = match self.row.get(row as usize) {
            Some(&here) if here == row => row as usize,
            _ => self.row.binary_search(&row).ok()?,
        };
        Some((self.log[at], self.position[at]))
    }

    /// All of them, in order: the row, an index into [`Self::logs`], and where it stands there.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, Position)> + '_ {
        self.row.iter().zip(&self.log).zip(&self.position).map(|((&row, &log), &position)| (row, log, position))
    }

    pub(crate) fn append(&mut self, other: &Positions, row_offset: u32) {
        for (at, &row) in other.row.iter().enumerate() {
            self.push(row + row_offset, &other.logs[other.log[at] as usize], other.position[at]);
        }
    }

    /// Gives `new` in `to` the position that `row` has here.
    pub(crate) fn copy(&self, row: u32, to: &mut Positions, new: u32) {
        if let Some((log, position)) = self.of(row) {
            to.push(new, &self.logs[log as usize], position);
        }
    }
}

/// Knows how far a sink has stored the logs of a group.
#[async_trait]
pub trait Stored: Send + Sync + Debug {
    /// The next offset of each partition of which something is stored, by topic and partition.
    async fn next_offsets(&self, cluster: &str, group: &str) -> Result<Vec<(String, i32, i64)>, SinkError>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Marks, Messages, TopicId};

    fn log(partition: i32) -> Arc<Log> {
        Arc::new(Log { cluster: "c".into(), group: "g".into(), topic: "t".into(), partition })
    }

    fn found(messages: &Messages) -> Vec<Option<(i32, i64)>> {
        let positions = &messages.positions;
        let of = |row| positions.of(row).map(|(log, at)| (positions.logs()[log as usize].partition, at.offset));
        (0..messages.len() as u32).map(of).collect()
    }

    /// Guarantees: a message keeps its position however batches are put together, gathered and split, also beside messages that have none.
    #[test]
    fn they_stay_with_their_messages() {
        let batch = |rows: &[Option<(i32, i64)>]| {
            let mut messages = Messages::default();
            for position in rows {
                let row = messages.push(TopicId::default(), 0, Marks::default(), b"");
                if let Some((partition, offset)) = position {
                    messages.positions.push(row, &log(*partition), Position { offset: *offset, after: 0 });
                }
            }
            messages
        };
        let (first, second) = ([None, Some((0, 5)), Some((1, 7))], [Some((1, 8)), None, Some((0, 6))]);
        let mut all = batch(&first);
        all.append(&batch(&second));
        let both = [&first[..], &second[..]].concat();
        assert_eq!(found(&all), both);
        assert_eq!(all.positions.logs().len(), 2);
        assert_eq!(found(&all.gather(&[1, 4, 5])), [both[1], both[4], both[5]]);
        let start = all.split_to(2);
        assert_eq!((found(&start), found(&all)), (both[..2].to_vec(), both[2..].to_vec()));
    }
}
