//! Row views over a batch of points: borrowed from the columns, nothing copied.

use std::ops::Range;

use crate::columns::{Points, SeriesId};
use crate::quality::Quality;

/// One point.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub series: SeriesId,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// NaN where there is no number.
    pub value: f64,
    pub quality: Quality,
    /// Where the reading is a text, or an integer beyond 2^53 in full.
    pub text: Option<&'a str>,
    pub(crate) row: usize,
}

impl Reading<'_> {
    /// Its row in the batch.
    pub fn row(&self) -> usize {
        self.row
    }
}

impl Points {
    /// Hands the points of these rows, in order, of a batch that has no texts, to `each` until that says no; gives the row it said no to, or the end.
    ///
    /// Four a turn: what a turn costs, the deadline's check and the steps through four columns, is a third of a plain rule's work.
    #[inline]
    pub(crate) fn each_number<'a>(&'a self, rows: Range<usize>, mut each: impl FnMut(Reading<'a>) -> bool) -> usize {
        let mut row = rows.start;
        let number = |row, (((series, time_us), value), quality): (((&u32, &i64), &f64), &u16)| Reading {
            series: *series,
            time_us: *time_us,
            value: *value,
            quality: Quality::from_bits(*quality),
            text: None,
            row,
        };
        let (series, last_series) = self.series[rows.clone()].as_chunks::<4>();
        let (time_us, last_time_us) = self.time_us[rows.clone()].as_chunks::<4>();
        let (value, last_value) = self.value[rows.clone()].as_chunks::<4>();
        let (quality, last_quality) = self.quality[rows.clone()].as_chunks::<4>();
        for (((series, time_us), value), quality) in series.iter().zip(time_us).zip(value).zip(quality) {
            if !each(number(row, (((&series[0], &time_us[0]), &value[0]), &quality[0]))) {
                return row;
            }
            if !each(number(row + 1, (((&series[1], &time_us[1]), &value[1]), &quality[1]))) {
                return row + 1;
            }
            if !each(number(row + 2, (((&series[2], &time_us[2]), &value[2]), &quality[2]))) {
                return row + 2;
            }
            if !each(number(row + 3, (((&series[3], &time_us[3]), &value[3]), &quality[3]))) {
                return row + 3;
            }
            row += 4;
        }
        for columns in last_series.iter().zip(last_time_us).zip(last_value).zip(last_quality) {
            if !each(number(row, columns)) {
                return row;
            }
            row += 1;
        }
        row
    }

    /// The points, in order.
    #[inline]
    pub fn readings(&self) -> impl Iterator<Item = Reading<'_>> {
        let mut next_text = 0;
        let texts = &self.texts;
        self.series.iter().zip(&self.time_us).zip(&self.value).zip(&self.quality).enumerate().map(
            move |(row, (((series, time_us), value), quality))| {
                let text = match texts.row.get(next_text) {
                    Some(at) if *at as usize == row => {
                        next_text += 1;
                        Some(texts.get(next_text - 1))
                    }
                    _ => None,
                };
                Reading {
                    series: *series,
                    time_us: *time_us,
                    value: *value,
                    quality: Quality::from_bits(*quality),
                    text,
                    row,
                }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: four a turn are the same points as one at a time, from any row, however many there are; and the row that is said
    /// no to is told.
    #[test]
    fn four_a_turn() {
        for rows in 0..10_u32 {
            let batch = Points {
                series: (0..rows).collect(),
                time_us: (0..i64::from(rows)).map(|row| row * 10).collect(),
                value: (0..rows).map(f64::from).collect(),
                quality: (0..rows).map(|row| row as u16).collect(),
                ..Points::default()
            };
            let told = |reading: Reading<'_>| {
                (reading.row, reading.series, reading.time_us, reading.value, reading.quality.bits())
            };
            let all: Vec<_> = batch.readings().map(told).collect();
            for from in 0..=rows as usize {
                for last in from..=rows as usize {
                    let mut seen = Vec::new();
                    let ended = batch.each_number(from..rows as usize, |reading| {
                        let goes_on = reading.row < last;
                        if goes_on {
                            seen.push(told(reading));
                        }
                        goes_on
                    });
                    assert_eq!((ended, seen.as_slice()), (last, &all[from..last]));
                }
            }
        }
    }
}
