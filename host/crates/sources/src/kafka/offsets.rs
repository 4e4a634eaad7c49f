//! How far one partition may be committed.
//!
//! A committed offset says that every record before it is done with, but lanes settle records in any order. The window
//! holds what was received and is not settled, in order, and knows the low-water mark: the offset below which
//! everything received is settled.
//!
//! Guarantees: the low-water mark never passes a record that was received and not settled, and never goes back. Offsets
//! need not be dense (compaction and transactions leave gaps). No I/O.

use std::collections::VecDeque;

/// A record's place in a window: one more for each record received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence(u32);

#[derive(Debug)]
struct Entry {
    offset: i64,
    settled: bool,
}

/// The records of one partition between the low-water mark and the last one received.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// The sequence of the first entry; wraps, as the window is never near 2³² long.
    first: u32,
    low_water: Option<i64>,
}

impl Window {
    /// A record was received. Offsets ascend.
    #[inline]
    pub(super) fn receive(&mut self, offset: i64) -> Sequence {
        let sequence = Sequence(self.first.wrapping_add(self.entries.len() as u32));
        self.entries.push_back(Entry { offset, settled: false });
        sequence
    }

    /// It is settled. Settling twice, or what is not in the window, changes nothing.
    #[inline]
    pub(super) fn settle(&mut self, sequence: Sequence) {
        if let Some(entry) = self.entries.get_mut(sequence.0.wrapping_sub(self.first) as usize) {
            entry.settled = true;
        }
    }

    /// Moves the low-water mark over what is settled at the front; gives by how many records.
    pub(super) fn advance(&mut self) -> usize {
        let before = self.entries.len();
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.settled) {
            self.first = self.first.wrapping_add(1);
            self.low_water = Some(entry.offset + 1);
        }
        before - self.entries.len()
    }

    /// Forgets what is not settled, for it will be received again; gives where to read from, if anything was open.
    pub(super) fn rewind(&mut self) -> Option<i64> {
        let from = self.entries.front().map(|entry| entry.offset);
        self.first = self.first.wrapping_add(self.entries.len() as u32);
        self.entries.clear();
        from
    }

    /// The offset to commit; none before anything was settled.
    pub(super) fn low_water(&self) -> Option<i64> {
        self.low_water
    }

    /// Records the mark has not passed.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: the mark waits for the oldest open record, then jumps over all that settled behind it.
    #[test]
    fn waits_for_the_oldest() {
        let mut window = Window::default();
        let all: Vec<_> = [10, 11, 15].map(|offset| window.receive(offset)).into();
        window.settle(all[2]);
        window.settle(all[1]);
        assert_eq!((window.advance(), window.low_water()), (0, None));
        window.settle(all[0]);
        assert_eq!((window.advance(), window.low_water()), (3, Some(16)));
    }

    /// Guarantees: after a rewind, settlements of before mean nothing, and the mark stays.
    #[test]
    fn rewind_forgets() {
        let mut window = Window::default();
        let first = window.receive(1);
        let second = window.receive(2);
        window.settle(first);
        window.advance();
        assert_eq!(window.rewind(), Some(2));
        let again = window.receive(2);
        window.settle(second);
        window.advance();
        assert_eq!(window.low_water(), Some(2));
        window.settle(again);
        window.advance();
        assert_eq!(window.low_water(), Some(3));
    }

    /// Guarantees: over many random histories with gaps, rewinds and wrapping sequences, the mark is always what a plain
    /// list of (offset, settled) gives.
    #[test]
    fn agrees_with_a_plain_model() {
        let mut random = fastrand::Rng::with_seed(0x0ff5);
        for _ in 0..200 {
            let mut window = Window { first: u32::MAX - 20, ..Window::default() };
            let mut model: Vec<(i64, Sequence, bool)> = Vec::new();
            let (mut next, mut mark) = (0_i64, None);
            for _ in 0..400 {
                match random.u8(0..20) {
                    0 => {
                        let open = model.iter().position(|m| !m.2);
                        assert_eq!(window.rewind(), open.map(|at| model[at].0));
                        if let Some(at) = open {
                            next = model[at].0;
                            model.truncate(at);
                        }
                    }
                    1..=9 => {
                        next += random.i64(1..4);
                        model.push((next, window.receive(next), false));
                    }
                    _ if model.is_empty() => {}
                    _ => {
                        let at = random.usize(model.len().saturating_sub(8)..model.len());
                        model[at].2 = true;
                        window.settle(model[at].1);
                    }
                }
                window.advance();
                let open = model.iter().position(|m| !m.2).unwrap_or(model.len());
                if open > 0 {
                    mark = mark.max(Some(model[open - 1].0 + 1));
                }
                assert_eq!(window.low_water(), mark);
                assert_eq!(window.len(), model.len() - open);
            }
        }
    }
}
