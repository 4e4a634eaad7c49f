//! Rows that are left to be sent, in parts: what is refused of them comes again in smaller ones, until the rows at fault stand alone.

use std::ops::Range;

/// How many rows are sent behind one that was refused: where most are, each would have all of them sent once more, for nothing.
const BEHIND: usize = 64;

/// Rows that are left to be sent, in order.
#[derive(Debug)]
pub(super) struct Left {
    /// The first last.
    ranges: Vec<Range<usize>>,
    /// The most rows of a part.
    most: usize,
    /// The most of the next.
    next: usize,
}

impl Left {
    /// So many rows, no part longer than `most`.
    pub(super) fn new(rows: usize, most: usize) -> Self {
        let most = most.max(1);
        Self { ranges: std::iter::once(0..rows).filter(|all| !all.is_empty()).collect(), most, next: most }
    }

    /// The rows to be sent now.
    pub(super) fn part(&mut self) -> Option<Range<usize>> {
        let range = self.ranges.pop()?;
        if range.len() <= self.next {
            return Some(range);
        }
        let middle = range.start + self.next;
        self.ranges.push(middle..range.end);
        Some(range.start..middle)
    }

    /// The part was taken.
    pub(super) fn passed(&mut self) {
        self.next = self.next.saturating_mul(2).min(self.most);
    }

    /// A row that came alone was refused.
    pub(super) fn refused(&mut self) {
        self.next = BEHIND.min(self.most);
    }

    /// A part of several rows was refused, and this row of it may be why: it comes alone, what stands before it first. Without one it comes in halves.
    pub(super) fn again(&mut self, part: Range<usize>, row: Option<usize>) {
        let cuts = row.map_or([part.start + part.len() / 2; 2], |row| [row, row + 1]);
        let pieces = [cuts[1]..part.end, cuts[0]..cuts[1], part.start..cuts[0]];
        self.ranges.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
    }

    /// A part of several rows took too long: it comes again in fourths, and no other is longer.
    pub(super) fn slower(&mut self, part: Range<usize>) {
        self.most = (part.len() / 4).max(1);
        self.next = self.most;
        self.ranges.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends them to a table that refuses these and, if it `names` the row, says which; gives the rows refused, how many were sent in all, and in how many parts.
    fn sent(rows: usize, bad: impl Fn(usize) -> bool, names: bool) -> (Vec<usize>, usize, usize) {
        let (mut left, mut taken) = (Left::new(rows, rows), Vec::new());
        let (mut refused, mut sum, mut parts) = (Vec::new(), 0, 0);
        while let Some(part) = left.part() {
            sum += part.len();
            parts += 1;
            match part.clone().find(|&row| bad(row)) {
                None => {
                    left.passed();
                    taken.extend(part);
                }
                Some(row) if part.len() == 1 => {
                    left.refused();
                    refused.push(row);
                }
                row => left.again(part, row.filter(|_| names)),
            }
        }
        assert!(taken.is_sorted() && refused.is_sorted());
        assert_eq!(taken.len() + refused.len(), rows);
        (refused, sum, parts)
    }

    /// Guarantees: rows at fault are found one by one, in order, all others are taken once; and where many are at fault the rest is not sent again for
    /// each of them.
    #[test]
    fn rows_at_fault() {
        assert_eq!(sent(0, |_| true, true), (vec![], 0, 0));
        assert_eq!(sent(5_000, |_| false, true), (vec![], 5_000, 1));
        for names in [true, false] {
            for at in [0, 1, 2_500, 4_999] {
                assert_eq!(sent(5_000, |row| row == at, names).0, [at]);
            }
        }
        // Once all, then what stands before it, itself, and what stands behind it in growing parts.
        assert_eq!(sent(5_000, |row| row == 2_500, true), (vec![2_500], 10_000, 3 + 6));
        let (refused, rows, parts) = sent(5_000, |_| true, true);
        assert_eq!(refused.len(), 5_000);
        assert!(parts < 2 * 5_000 && rows < 5_000 * (BEHIND + 2), "{rows} rows sent in {parts} parts");
        let (refused, rows, _) = sent(5_000, |row| row % 50 == 7, true);
        assert_eq!(refused.len(), 100);
        assert!(rows < 25_000, "{rows} rows sent");
    }

    /// Guarantees: what takes too long comes again in shorter parts, and so does all that is left.
    #[test]
    fn rows_that_take_too_long() {
        let (mut left, mut lengths) = (Left::new(200, 100), Vec::new());
        while let Some(part) = left.part() {
            lengths.push(part.len());
            if part.len() > 10 { left.slower(part) } else { left.passed() }
        }
        assert_eq!(&lengths[..4], [100, 25, 6, 6]);
        assert_eq!(lengths[2..].iter().sum::<usize>(), 200);
        assert!(lengths[2..].iter().all(|&length| length <= 6));
    }
}
