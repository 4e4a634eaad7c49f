//! Row views over a batch of points: borrowed from the columns, nothing copied.

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
    /// The points from a row on, in order, of a batch that has no texts.
    #[inline]
    pub(crate) fn numbers(&self, from: usize) -> impl Iterator<Item = Reading<'_>> {
        // Not `skip`, which asks again before every point.
        let (series, time_us) = (&self.series[from..], &self.time_us[from..]);
        let (value, quality) = (&self.value[from..], &self.quality[from..]);
        series.iter().zip(time_us).zip(value).zip(quality).enumerate().map(
            move |(row, (((series, time_us), value), quality))| Reading {
                series: *series,
                time_us: *time_us,
                value: *value,
                quality: Quality::from_bits(*quality),
                text: None,
                row: from + row,
            },
        )
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
