//! Limits on how fast messages may come: a bucket of tokens for a source as a whole, and one for each topic prefix.
//!
//! A bucket is a "theoretical arrival time", one number: the generic cell rate algorithm (ITU-T I.371, annex A). Limits are applied to a
//! parcel as it is handed over, in one pass over its rows, so a source without limits pays nothing and one with them no lock a row.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::{Books, Marks, Messages};

/// Limits of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all its messages together.
    pub source: Option<Limit>,
    /// For the messages of each topic prefix.
    pub prefix: Option<PrefixLimit>,
}

/// A rate, and what becomes of messages beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Messages a second, over time; at least one.
    pub per_second: u32,
    /// Messages that may come at once after a pause; at least one.
    pub burst: u32,
    /// What becomes of the others.
    pub excess: Excess,
}

/// A limit for each distinct beginning of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// How many levels of a topic make its prefix.
    pub levels: usize,
    /// The rate of each.
    pub limit: Limit,
    /// How many prefixes have a bucket of their own; those that come later share one.
    pub max_prefixes: usize,
}

/// What becomes of messages beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// They wait, and all behind them: the source is held back.
    Hold,
    /// They go to the dead letters.
    DeadLetter,
    /// They are dropped, acknowledged and counted.
    Drop,
}

/// The buckets of a source, shared by its connections.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    began: Instant,
    source: Bucket,
    /// The last is for all prefixes beyond the bound.
    prefixes: Vec<Bucket>,
    names: HashMap<Box<str>, u32>,
    /// By topic id, the topic's bucket in `prefixes`; [`UNKNOWN`] until it is first seen.
    of_topic: Vec<u32>,
}

const UNKNOWN: u32 = u32::MAX;

/// How far a parcel may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All of it.
    All,
    /// So many rows now, and the next at that time.
    Until(usize, Instant),
}

/// When the next message is due if they all came at the limit's rate: nanoseconds since the limiter began.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(u64);

impl Bucket {
    /// Takes a token: what the bucket is then; or when there will be one.
    fn take(self, limit: Limit, now: u64) -> Result<Bucket, u64> {
        let interval = 1_000_000_000 / u64::from(limit.per_second.max(1));
        let most = interval * u64::from(limit.burst.max(1));
        let next = self.0.max(now) + interval;
        if next <= now + most { Ok(Bucket(next)) } else { Err(next - most) }
    }
}

impl Limiter {
    /// None where nothing is limited.
    pub fn new(limits: Limits, now: Instant) -> Option<Self> {
        if limits == Limits::default() {
            return None;
        }
        let buckets = limits.prefix.map_or(0, |prefix| prefix.max_prefixes + 1);
        Some(Self {
            limits,
            began: now,
            source: Bucket::default(),
            prefixes: vec![Bucket::default(); buckets],
            names: HashMap::new(),
            of_topic: Vec::new(),
        })
    }

    /// Takes a token for each row, in order, up to the first that has to wait. Rows that are to go to the dead letters or to be dropped are
    /// marked so, and take no token of the source's.
    pub fn pass(&mut self, now: Instant, books: &Books, messages: &mut Messages) -> Passage {
        let now_ns = now.saturating_duration_since(self.began).as_nanos() as u64;
        for row in 0..messages.len() {
            if messages.marks[row] & (Marks::EXCESS.0 | Marks::DROPPED.0) != 0 {
                continue;
            }
            let wait = match self.row(now_ns, books, messages, row) {
                Ok(()) => continue,
                Err((wait, Excess::Hold)) => wait,
                Err((_, excess)) => {
                    messages.marks[row] |= if excess == Excess::Drop { Marks::DROPPED.0 } else { Marks::EXCESS.0 };
                    continue;
                }
            };
            return Passage::Until(row, self.began + Duration::from_nanos(wait));
        }
        Passage::All
    }

    fn row(&mut self, now: u64, books: &Books, messages: &Messages, row: usize) -> Result<(), (u64, Excess)> {
        let prefix = self.limits.prefix.map(|prefix| (self.place(prefix, books, messages, row), prefix.limit));
        let of_prefix = match prefix {
            Some((at, limit)) => {
                let taken = self.prefixes[at].take(limit, now).map_err(|wait| (wait, limit.excess))?;
                Some((at, taken))
            }
            None => None,
        };
        if let Some(limit) = self.limits.source {
            self.source = self.source.take(limit, now).map_err(|wait| (wait, limit.excess))?;
        }
        if let Some((at, taken)) = of_prefix {
            self.prefixes[at] = taken;
        }
        Ok(())
    }

    /// The bucket of a row's prefix.
    fn place(&mut self, prefix: PrefixLimit, books: &Books, messages: &Messages, row: usize) -> usize {
        let shared = prefix.max_prefixes;
        if messages.unnamed.binary_search_by_key(&(row as u32), |(row, _)| *row).is_ok() {
            return shared;
        }
        let topic = messages.topic[row];
        if self.of_topic.len() <= topic.index() {
            self.of_topic.resize(topic.index() + 1, UNKNOWN);
        }
        if self.of_topic[topic.index()] == UNKNOWN {
            let name = first_levels(books.topic_name(topic), prefix.levels);
            let next = self.names.len();
            let place = match self.names.get(name) {
                Some(&place) => place,
                None if next < prefix.max_prefixes => *self.names.entry(name.into()).or_insert(next as u32),
                None => shared as u32,
            };
            self.of_topic[topic.index()] = place;
        }
        self.of_topic[topic.index()] as usize
    }
}

/// The first `levels` levels of a topic; all of it, where it has no more.
fn first_levels(topic: &str, levels: usize) -> &str {
    let end = topic.match_indices('/').nth(levels.saturating_sub(1)).map_or(topic.len(), |(at, _)| at);
    &topic[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn books(topics: &[&str]) -> Books {
        let books = Books::new(100);
        for topic in topics {
            books.intern_topic(topic, topic).unwrap();
        }
        books
    }

    fn messages(topics: &[u32]) -> Messages {
        let mut messages = Messages::default();
        for &topic in topics {
            messages.push(crate::TopicId(topic), 0, Marks::default(), b"");
        }
        messages
    }

    fn limit(per_second: u32, burst: u32, excess: Excess) -> Limit {
        Limit { per_second, burst, excess }
    }

    /// Guarantees: a burst passes at once, what is held passes at the rate, and a pause fills the bucket to the brim, not beyond.
    #[test]
    fn held_at_the_rate() {
        let (books, began) = (books(&["a"]), Instant::now());
        let limits = Limits { source: Some(limit(10, 3, Excess::Hold)), prefix: None };
        let mut limiter = Limiter::new(limits, began).unwrap();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut pass = |ms: u64| limiter.pass(at(ms), &books, &mut messages(&[0; 5]));
        assert_eq!(pass(0), Passage::Until(3, at(100)));
        assert_eq!(pass(99), Passage::Until(0, at(100)));
        assert_eq!(pass(100), Passage::Until(1, at(200)));
        assert_eq!(pass(10_000), Passage::Until(3, at(10_100)));
    }

    /// Guarantees: a prefix has its own bucket, those beyond the bound share one, and what is over is marked and takes nothing of the
    /// source's.
    #[test]
    fn prefixes_apart() {
        let (books, began) = (books(&["site/a/x", "site/a/y", "site/b/x", "site/c/x", "site/d/x"]), Instant::now());
        let prefix = PrefixLimit { levels: 2, limit: limit(1, 2, Excess::DeadLetter), max_prefixes: 2 };
        let limits = Limits { source: Some(limit(1, 6, Excess::Drop)), prefix: Some(prefix) };
        let mut limiter = Limiter::new(limits, began).unwrap();
        let mut messages = messages(&[0, 1, 0, 2, 2, 2, 3, 4, 3]);
        assert_eq!(limiter.pass(began, &books, &mut messages), Passage::All);
        let over = Marks::EXCESS.0;
        assert_eq!(messages.marks, [0, 0, over, 0, 0, over, 0, 0, over]);
        assert_eq!(limiter.pass(began + Duration::from_secs(1), &books, &mut messages), Passage::All);
        assert_eq!(messages.marks[0..2], [0, over]);
    }

    /// Guarantees: the source's own excess is dropped where that is configured; prefixes are cut at whole levels.
    #[test]
    fn dropped() {
        let (books, began) = (books(&["a"]), Instant::now());
        let limits = Limits { source: Some(limit(1, 1, Excess::Drop)), prefix: None };
        let mut messages = messages(&[0, 0]);
        assert_eq!(Limiter::new(limits, began).unwrap().pass(began, &books, &mut messages), Passage::All);
        assert_eq!(messages.marks, [0, Marks::DROPPED.0]);
        assert!(Limiter::new(Limits::default(), began).is_none());
        assert_eq!([1, 2, 3, 4].map(|levels| first_levels("a/bc/d", levels)), ["a", "a/bc", "a/bc/d", "a/bc/d"]);
    }
}
