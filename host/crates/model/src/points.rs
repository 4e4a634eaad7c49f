//! Typed points, in columns.

use crate::{Ragged, SeriesId};

/// OPC quality in the low byte, and two flags of this house above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality(pub u16);

impl Quality {
    /// OPC DA "good".
    pub const GOOD: Quality = Quality(192);
    /// OPC DA "uncertain".
    pub const UNCERTAIN: Quality = Quality(64);
    /// OPC DA "bad".
    pub const BAD: Quality = Quality(0);
    /// Stored, but no cause for a live alert.
    pub const HISTORICAL: u16 = 1 << 8;
    /// For later rules only: not to be stored.
    pub const NOT_STORED: u16 = 1 << 9;

    /// The OPC quality alone, as it is stored.
    pub const fn opc(self) -> u8 {
        (self.0 & 0xff) as u8
    }
}

/// Points, one entry a row in every column but `texts`, which is sparse.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// Which series each belongs to.
    pub series: Vec<SeriesId>,
    /// When each was measured: microseconds since 1970-01-01 UTC.
    pub time_us: Vec<i64>,
    /// NaN where there is no number: null, or a text.
    pub value: Vec<f64>,
    /// See [`Quality`].
    pub quality: Vec<u16>,
    /// Readings that are text, and integers beyond 2^53 in full.
    pub texts: Texts,
}

/// Texts of some rows: sparse, ascending by row, UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The row each belongs to.
    pub row: Vec<u32>,
    /// The texts themselves.
    pub text: Ragged,
}

impl Texts {
    /// Appends the text of `row`, which must be after the last row added.
    pub fn push(&mut self, row: u32, text: &[u8]) {
        self.row.push(row);
        self.text.push(text);
    }

    /// The text of `row`, if it has one.
    pub fn get(&self, row: u32) -> Option<&[u8]> {
        self.row.binary_search(&row).ok().map(|i| self.text.get(i))
    }
}

impl Points {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Bytes of all columns.
    pub fn bytes(&self) -> usize {
        const ROW: usize = size_of::<SeriesId>() + size_of::<i64>() + size_of::<f64>() + size_of::<u16>();
        const TEXT: usize = 2 * size_of::<u32>();
        self.len() * ROW + self.texts.row.len() * TEXT + self.texts.text.bytes.len()
    }

    /// Appends a row without text.
    pub fn push(&mut self, series: SeriesId, time_us: i64, value: f64, quality: u16) {
        self.series.push(series);
        self.time_us.push(time_us);
        self.value.push(value);
        self.quality.push(quality);
    }

    /// Appends all rows of `other`.
    pub fn append(&mut self, other: &Points) {
        let offset = self.len() as u32;
        self.series.extend_from_slice(&other.series);
        self.time_us.extend_from_slice(&other.time_us);
        self.value.extend_from_slice(&other.value);
        self.quality.extend_from_slice(&other.quality);
        self.texts.row.extend(other.texts.row.iter().map(|row| row + offset));
        self.texts.text.append(&other.texts.text);
    }

    /// The rows named, ascending, as a batch of their own.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Points {
        let pick = |row: &u32| *row as usize;
        let mut texts = Texts::default();
        if !self.texts.row.is_empty() {
            for (new, &row) in rows.iter().enumerate() {
                if let Some(text) = self.texts.get(row) {
                    texts.push(new as u32, text);
                }
            }
        }
        Points {
            series: rows.iter().map(pick).map(|i| self.series[i]).collect(),
            time_us: rows.iter().map(pick).map(|i| self.time_us[i]).collect(),
            value: rows.iter().map(pick).map(|i| self.value[i]).collect(),
            quality: rows.iter().map(pick).map(|i| self.quality[i]).collect(),
            texts,
        }
    }
}
