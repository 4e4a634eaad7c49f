//! What an instance has been given since its state was last saved, so that another one can be brought to where it was.
//!
//! Bounded: when it is full the state is saved, which empties it.

use std::sync::Arc;

use tidegate_engine::{Fault, Instance, Shadow, Voice};
use tidegate_model::{Messages, Points};

/// The most rows kept for one rule on one lane: at a million a second, its state is saved every 20 ms.
const MAX_ROWS: usize = 20_000;
/// The most bytes kept, of payloads and of points: texts are as long as their sender likes.
const MAX_BYTES: usize = 4 << 20;
/// The most calls kept: ticks have no rows.
const MAX_CALLS: usize = 10_000;

/// One call that went well.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    Messages(Arc<Messages>),
    Points(Arc<Points>),
    Tick,
}

impl Given {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        match self {
            Given::Messages(messages) => messages.len(),
            Given::Points(points) => points.len(),
            Given::Tick => 0,
        }
    }
}

/// Calls that went well, in order, each with the time it was told.
#[derive(Debug, Default)]
pub(crate) struct ReplayLog {
    calls: Vec<(i64, Given)>,
    rows: usize,
    bytes: usize,
}

impl ReplayLog {
    /// Notes a call at `now_us`; gives whether the journal is full.
    pub fn note(&mut self, now_us: i64, given: Given) -> bool {
        self.rows += given.rows();
        self.bytes += match &given {
            Given::Messages(messages) => messages.bytes(),
            Given::Points(points) => points.bytes(),
            Given::Tick => 0,
        };
        self.calls.push((now_us, given));
        self.is_full()
    }

    /// The state is saved: nothing noted so far is of use any more.
    pub fn clear(&mut self) {
        self.calls.clear();
        (self.rows, self.bytes) = (0, 0);
    }

    /// Gives all of it to a shadow that was not there.
    pub fn give_to(&self, shadow: &mut Shadow) {
        for (now_us, given) in &self.calls {
            shadow.catch_up(|instance| match given {
                // A decoder raises nothing.
                Given::Messages(messages) => instance.decode(*now_us, messages).map(|_| Vec::new()),
                Given::Points(points) => instance.process(*now_us, points).map(|made| made.alerts),
                Given::Tick => instance.tick(*now_us).map(|made| made.alerts),
            });
        }
    }

    /// Whether there is no room for another call.
    pub fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES || self.calls.len() >= MAX_CALLS
    }

    /// Rows of all calls.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Gives all of it to `instance` again. What comes of it has gone its way before, so nobody sees it now.
    pub fn replay(&self, instance: &mut Instance) -> Result<(), Fault> {
        instance.set_voice(Voice::Withheld);
        for (now_us, given) in &self.calls {
            match given {
                Given::Messages(messages) => drop(instance.decode(*now_us, messages)?),
                Given::Points(points) => drop(instance.process(*now_us, points)?),
                Given::Tick => drop(instance.tick(*now_us)?),
            }
        }
        instance.set_voice(Voice::Live);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_model::{Books, Description, PartitionId, SeriesId};

    use super::*;
    use crate::lane::guest;

    /// Guarantees: it says when it is full, by rows, by bytes of texts and by calls, and is empty when cleared.
    #[test]
    fn bounded() {
        let mut points = Points::default();
        (0..MAX_ROWS / 4).for_each(|_| points.push(SeriesId(0), 0, 0.0, 192));
        let points = Arc::new(points);
        let mut journal = ReplayLog::default();
        let full: Vec<bool> = (0..4).map(|at| journal.note(at, Given::Points(points.clone()))).collect();
        assert_eq!(full, [false, false, false, true]);
        journal.clear();
        assert_eq!(journal.len(), 0);
        let mut texts = Points::default();
        texts.push(SeriesId(0), 0, 0.0, 192);
        texts.texts.push(0, &vec![b'x'; MAX_BYTES]);
        assert!(journal.note(0, Given::Points(Arc::new(texts))), "few rows, of long texts");
        journal.clear();
        assert!((1..MAX_CALLS).all(|_| !journal.note(0, Given::Tick)));
        assert!(journal.note(0, Given::Tick));
    }

    /// Guarantees: what a rule said of a series is not said again when it is given all once more: somebody may have said otherwise since.
    #[test]
    fn says_nothing_again() {
        // Of the topic `a`: that its unit is `C`.
        let process = "(i32.store8 (i32.const 720) (i32.const 0x61)) (i32.store8 (i32.const 721) (i32.const 0x43))
            (i32.store (i32.const 728) (i32.const 720)) (i32.store (i32.const 732) (i32.const 1))
            (i32.store (i32.const 736) (i32.const 1))
            (i32.store (i32.const 740) (i32.const 721)) (i32.store (i32.const 744) (i32.const 1))
            (call $resolve (i32.const 728) (i32.const 1) (i32.const 800))";
        let rule = guest::rule(&[("process", process)]);
        let books = Arc::new(Books::new(9));
        let unit = |unit: &str| Description { unit: Some(unit.into()), labels: Vec::new() };
        let series = books.intern_series("a", PartitionId(0), unit("K")).unwrap();
        let is = || books.series(series).unwrap().description.load().unit.as_deref().unwrap().to_owned();
        let (mut points, mut log) = (Points::default(), ReplayLog::default());
        points.push(series, 0, 1.0, 192);
        rule.instantiate(&books).unwrap().process(0, &points).unwrap();
        assert_eq!(is(), "C");
        log.note(0, Given::Points(Arc::new(points)));
        books.describe(series, unit("F"));
        log.replay(&mut rule.instantiate(&books).unwrap()).unwrap();
        assert_eq!(is(), "F");
    }
}
