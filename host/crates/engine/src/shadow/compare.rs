//! What two rules made of the same batch, row by row.

use std::borrow::Cow;
use std::cmp::Ordering;

use tidegate_model::{NO_ROW, Points};

use crate::calls::{Decoded, Passage, Processed, RawAlert, Rejects};

/// What a call made, findable by row.
pub(super) struct Outcomes<'a> {
    pub points: Cow<'a, Points>,
    from_row: Cow<'a, [u32]>,
    /// Rows of `points` by the row they came from.
    order: Vec<u32>,
    rejects: &'a Rejects,
    held: &'a [u32],
}

/// What became of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    Rejected(&'a str),
    Held,
    Filtered,
    Passed,
}

impl<'a> Outcomes<'a> {
    pub fn of_decoded(made: &'a Decoded) -> Self {
        Self::new(Cow::Borrowed(&made.points), Cow::Borrowed(&made.from_row), &made.rejects, &made.held)
    }

    pub fn of_processed(batch: &Points, made: &'a Processed) -> Self {
        let (points, from_row) = match &made.passage {
            Passage::Replaced(points, from_row) => (Cow::Borrowed(points), Cow::Borrowed(&from_row[..])),
            _ => {
                let (points, from_row) = made.carried(batch);
                (Cow::Owned(points), Cow::Owned(from_row))
            }
        };
        Self::new(points, from_row, &made.rejects, &made.held)
    }

    fn new(points: Cow<'a, Points>, from_row: Cow<'a, [u32]>, rejects: &'a Rejects, held: &'a [u32]) -> Self {
        let mut order: Vec<u32> = (0..from_row.len() as u32).collect();
        if !from_row.is_sorted() {
            order.sort_by_key(|&at| from_row[at as usize]);
        }
        Self { points, from_row, order, rejects, held }
    }

    /// The points made of `row`.
    pub fn of_row(&self, row: u32) -> &[u32] {
        let from = |at: &u32| self.from_row[*at as usize];
        let start = self.order.partition_point(|at| from(at) < row);
        let end = self.order.partition_point(|at| from(at) <= row);
        &self.order[start..end]
    }

    pub fn fate(&self, row: u32) -> Fate<'_> {
        if let Ok(at) = self.rejects.row.binary_search(&row) {
            let reason = self.rejects.reason.get(at).and_then(|&reason| self.rejects.reasons.get(reason as usize));
            return Fate::Rejected(reason.map_or("", String::as_str));
        }
        if self.held.binary_search(&row).is_ok() {
            return Fate::Held;
        }
        if self.of_row(row).is_empty() { Fate::Filtered } else { Fate::Passed }
    }
}

/// Whether both let the same rows go on as they are, which needs no looking at rows.
pub(super) fn plainly_same(a: &Processed, b: &Processed) -> bool {
    let plain = |made: &Processed| matches!(made.passage, Passage::Unchanged | Passage::Keep(_));
    plain(a) && a.passage == b.passage && a.rejects.row == b.rejects.row && a.held == b.held
}

/// The rows of which the two made something else; [`NO_ROW`] for what came from none.
pub(super) fn rows_apart(a: &Outcomes<'_>, b: &Outcomes<'_>, rows: usize) -> Vec<u32> {
    let apart = |row: &u32| {
        let alike = match (a.fate(*row), b.fate(*row)) {
            (Fate::Rejected(_), Fate::Rejected(_)) | (Fate::Held, Fate::Held) | (Fate::Filtered, Fate::Filtered) => {
                true
            }
            (Fate::Passed, Fate::Passed) => same_points(a, a.of_row(*row), b, b.of_row(*row)),
            _ => false,
        };
        !alike
    };
    let generated = |row: &u32| !same_points(a, a.of_row(*row), b, b.of_row(*row));
    (0..rows as u32).filter(apart).chain([NO_ROW].into_iter().filter(generated)).collect()
}

fn same_points(a: &Outcomes<'_>, ours: &[u32], b: &Outcomes<'_>, theirs: &[u32]) -> bool {
    let same = |(&i, &j): (&u32, &u32)| {
        let (x, y, i, j) = (&*a.points, &*b.points, i as usize, j as usize);
        let numbers = x.value[i] == y.value[j] || (x.value[i].is_nan() && y.value[j].is_nan());
        numbers
            && (x.series[i], x.time_us[i], x.quality[i]) == (y.series[j], y.time_us[j], y.quality[j])
            && x.texts.get(i as u32) == y.texts.get(j as u32)
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// The alerts that only one of them sent: those of the first, those of the second. What an alert says for people may differ.
pub(super) fn alerts_apart<'a>(a: &'a [RawAlert], b: &'a [RawAlert]) -> (Vec<&'a RawAlert>, Vec<&'a RawAlert>) {
    let key = |alert: &RawAlert| {
        (alert.series, alert.key.clone(), alert.time_us, alert.transition.as_str(), alert.severity.as_str())
    };
    let sorted = |alerts: &'a [RawAlert]| {
        let mut sorted: Vec<&RawAlert> = alerts.iter().collect();
        sorted.sort_by_cached_key(|alert| key(alert));
        sorted
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (None, None) => return (only_a, only_b),
            (Some(_), None) => only_a.extend(a.next()),
            (None, Some(_)) => only_b.extend(b.next()),
            (Some(x), Some(y)) => match key(x).cmp(&key(y)) {
                Ordering::Less => only_a.extend(a.next()),
                Ordering::Greater => only_b.extend(b.next()),
                Ordering::Equal => drop((a.next(), b.next())),
            },
        }
    }
}
