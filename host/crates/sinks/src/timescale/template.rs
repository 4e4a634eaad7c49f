//! Rows in PostgreSQL's binary COPY format, from a template a series.
//!
//! A row of a series is the same bytes each time but for time, value and quality, so each series keeps its row encoded once and a
//! row costs one copy and three stores. The format: <https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>; a field is
//! a big-endian i32 length and that many bytes, -1 for NULL.

use bytes::{BufMut, BytesMut};
use tidegate_model::{Description, Quality};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// The first instant of a `timestamptz`, counted from 2000: 4714-11-24 BC (`MIN_TIMESTAMP` in PostgreSQL's
/// `datatype/timestamp.h`). The last is in the year 294276, after the last that an i64 counted from 1970 can be.
const FIRST_US: i64 = -211_813_488_000_000_000;

/// What a binary COPY begins with: signature, no flags, no extension.
pub(super) const COPY_HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What it ends with: a row of -1 fields.
pub(super) const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

const FIELDS: i16 = 6;
const NULL: i32 = -1;

/// Where the time stands in every row: after the number of fields and the time's length.
const TIME_AT: usize = 2 + 4;
/// Where the topic's length stands.
const TOPIC_AT: usize = TIME_AT + 8;

/// The time as PostgreSQL counts it, if a `timestamptz` can be that time.
pub(super) fn timestamp(time_us: i64) -> Option<i64> {
    time_us.checked_sub(EPOCH_2000_US).filter(|&us| us >= FIRST_US)
}

/// The nearest time that a `timestamptz` can be.
pub(super) fn nearest_timestamp(time_us: i64) -> i64 {
    time_us.saturating_sub(EPOCH_2000_US).max(FIRST_US)
}

/// A series' row, encoded once: a number without text, whose time, value and quality are still to be filled in.
#[derive(Debug)]
pub(super) struct RowTemplate {
    row: Box<[u8]>,
    /// Where the value's eight bytes stand. Before them its length, after them the NULL of the text.
    value_at: usize,
    /// Why no row of this series can be stored.
    refused: Option<&'static str>,
}

impl RowTemplate {
    pub(super) fn new(topic: &str, description: &Description) -> Self {
        let unit = description.unit.as_deref();
        let refused = if topic.contains('\0') {
            Some("its topic has a NUL character, which PostgreSQL cannot store")
        } else if unit.is_some_and(|unit| unit.contains('\0')) {
            Some("its unit has a NUL character, which PostgreSQL cannot store")
        } else {
            None
        };
        let mut row = BytesMut::with_capacity(64 + topic.len());
        row.put_i16(FIELDS);
        put_timestamp(&mut row, 0);
        put_bytes(&mut row, topic.as_bytes());
        row.put_i32(8);
        let value_at = row.len();
        row.put_i64(0);
        row.put_i32(NULL);
        row.put_i32(2);
        row.put_i16(0);
        put_text(&mut row, unit);
        Self { row: row[..].into(), value_at, refused }
    }

    /// Why no row of this series can be stored.
    pub(super) fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    /// Appends a row. `timestamp` counts from 2000.
    pub(super) fn put_row(&self, to: &mut BytesMut, timestamp: i64, value: f64, quality: u16, text: Option<&[u8]>) {
        let quality = i16::from(Quality(quality).opc()).to_be_bytes();
        let start = to.len();
        if text.is_none() && !value.is_nan() {
            to.extend_from_slice(&self.row);
            let row = &mut to[start..];
            let quality_at = self.value_at + 8 + 4 + 4;
            row[TIME_AT..TOPIC_AT].copy_from_slice(&timestamp.to_be_bytes());
            row[self.value_at..self.value_at + 8].copy_from_slice(&value.to_be_bytes());
            row[quality_at..quality_at + 2].copy_from_slice(&quality);
            return;
        }
        let after_text = self.value_at + 8 + 4;
        to.extend_from_slice(&self.row[..self.value_at - 4]);
        to[start + TIME_AT..start + TOPIC_AT].copy_from_slice(&timestamp.to_be_bytes());
        put_number(to, value);
        match text {
            Some(text) => put_bytes(to, text),
            None => to.put_i32(NULL),
        }
        let tail = to.len();
        to.extend_from_slice(&self.row[after_text..]);
        to[tail + 4..tail + 6].copy_from_slice(&quality);
    }
}

/// A `timestamptz`, counted from 2000.
pub(super) fn put_timestamp(to: &mut BytesMut, timestamp: i64) {
    to.put_i32(8);
    to.put_i64(timestamp);
}

/// A `double precision`; NULL for NaN.
pub(super) fn put_number(to: &mut BytesMut, value: f64) {
    if value.is_nan() {
        to.put_i32(NULL);
    } else {
        to.put_i32(8);
        to.put_f64(value);
    }
}

/// A text, NULL for none.
pub(super) fn put_text(to: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_bytes(to, text.as_bytes()),
        None => to.put_i32(NULL),
    }
}

/// A text with its NUL characters, which PostgreSQL cannot store, shown as U+FFFD.
pub(super) fn put_cleaned(to: &mut BytesMut, text: &str) {
    if text.contains('\0') { put_text(to, Some(&cleaned(text))) } else { put_text(to, Some(text)) }
}

/// A text without NUL characters, which PostgreSQL cannot store: U+FFFD stands for each.
pub(super) fn cleaned(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    to.put_i32(bytes.len() as i32);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn expected(value: Option<f64>, text: Option<&str>, unit: Option<&str>) -> Vec<u8> {
        let mut row = BytesMut::new();
        row.put_i16(6);
        put_timestamp(&mut row, 7);
        put_text(&mut row, Some("dev/töpic"));
        put_number(&mut row, value.unwrap_or(f64::NAN));
        put_text(&mut row, text);
        row.put_i32(2);
        row.put_i16(192);
        put_text(&mut row, unit);
        row.to_vec()
    }

    /// Guarantees: the short way of numbers and the long way of texts and NULLs write the same format, whatever stood in the buffer
    /// before, and flags above the OPC quality are not stored.
    #[test]
    fn rows_are_well_formed() {
        for unit in [None, Some("°C")] {
            let template =
                RowTemplate::new("dev/töpic", &Description { unit: unit.map(Into::into), labels: Vec::new() });
            for (value, text) in [(Some(1.5), None), (None, None), (None, Some("on")), (Some(9e15), Some("9"))] {
                let mut buffer = BytesMut::from(&b"before"[..]);
                let quality = 192 | Quality::HISTORICAL;
                template.put_row(&mut buffer, 7, value.unwrap_or(f64::NAN), quality, text.map(str::as_bytes));
                assert_eq!(buffer[6..], expected(value, text, unit), "{value:?} {text:?} {unit:?}");
            }
        }
    }

    /// Guarantees: exactly the times of a `timestamptz` pass.
    #[test]
    fn times_at_the_edges() {
        assert_eq!(timestamp(EPOCH_2000_US), Some(0));
        assert_eq!(timestamp(i64::MAX), Some(i64::MAX - EPOCH_2000_US));
        assert_eq!(timestamp(FIRST_US + EPOCH_2000_US), Some(FIRST_US));
        assert_eq!(timestamp(FIRST_US + EPOCH_2000_US - 1), None);
        assert_eq!(timestamp(i64::MIN), None);
        assert_eq!(nearest_timestamp(i64::MIN), FIRST_US);
    }
}
