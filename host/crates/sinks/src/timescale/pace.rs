//! How many rows one statement is given: fewer where the usual number took longer than `statement_timeout_s`.
//!
//! Tried again unchanged, such a write would take too long again, for ever. With fewer rows in each statement the same transaction gets through,
//! however long it takes as a whole.

/// How many writes have to be stored before more is tried again: each try that is too much costs a whole `statement_timeout_s`.
const CALM: u32 = 16;
/// By how much it goes down and up.
const FACTOR: usize = 4;

/// How rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steps {
    /// Many rows in a statement.
    Usual,
    /// No statement has more than so many.
    Short,
}

/// What to do about a statement that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slower {
    /// Next time a statement has so many rows.
    To(usize),
    /// It had no more than one.
    Never,
}

/// How many rows one statement is given.
#[derive(Debug, Default)]
pub(super) struct Pace {
    short: Option<Short>,
}

#[derive(Debug)]
struct Short {
    rows: usize,
    /// How many writes were stored since.
    stored: u32,
}

impl Pace {
    /// The most rows of a statement, where `max_rows` is the configured number.
    pub(super) fn rows(&self, max_rows: usize) -> (usize, Steps) {
        match &self.short {
            None => (max_rows, Steps::Usual),
            Some(short) => (short.rows.min(max_rows), Steps::Short),
        }
    }

    /// A statement of so many rows took too long; with `dedupe` that may be more than `max_rows`.
    pub(super) fn slower(&mut self, rows: usize, max_rows: usize) -> Slower {
        if rows <= 1 {
            // What holds up one row is not their number: when it is gone, so may the need for small steps be.
            self.short = None;
            return Slower::Never;
        }
        let rows = (rows / FACTOR).min(max_rows).max(1);
        self.short = Some(Short { rows, stored: 0 });
        Slower::To(rows)
    }

    /// A write was stored.
    pub(super) fn stored(&mut self, max_rows: usize) {
        let Some(short) = &mut self.short else { return };
        short.stored += 1;
        if short.stored >= CALM {
            short.stored = 0;
            short.rows = short.rows.saturating_mul(FACTOR);
            if short.rows > max_rows {
                self.short = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: it goes down to one row, then says that it is not their number and begins anew; and it comes back to the usual after calm.
    #[test]
    fn down_and_up() {
        let mut pace = Pace::default();
        assert_eq!(pace.rows(100), (100, Steps::Usual));
        assert_eq!(pace.slower(50_000, 100), Slower::To(100));
        pace.stored(100);
        assert_eq!(pace.rows(100), (100, Steps::Short));
        for (rows, slower) in [(100, Slower::To(25)), (25, Slower::To(6)), (6, Slower::To(1))] {
            assert_eq!((pace.rows(rows).0, pace.slower(rows, 100)), (rows, slower));
        }
        assert_eq!((pace.slower(1, 100), pace.rows(100)), (Slower::Never, (100, Steps::Usual)));

        assert_eq!(pace.slower(100, 100), Slower::To(25));
        let up: Vec<usize> = (0..32)
            .map(|_| {
                pace.stored(100);
                pace.rows(100).0
            })
            .collect();
        assert_eq!((up[14], up[15], up[30], up[31]), (25, 100, 100, 100));
        assert_eq!(pace.rows(100), (100, Steps::Usual));
    }
}
