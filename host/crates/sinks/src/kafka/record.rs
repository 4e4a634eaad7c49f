//! What stands in the record of a point.

use std::io::Write;

use serde_json::Result;
use tidegate_model::Quality;

use crate::json::{PointJson, finite};
use crate::time::Rfc3339;

/// A point with the names of its series.
pub(super) struct Point<'a> {
    pub(super) topic: &'a str,
    pub(super) time_us: i64,
    pub(super) value: f64,
    pub(super) text: Option<&'a str>,
    pub(super) quality: u16,
    pub(super) unit: Option<&'a str>,
}

impl Point<'_> {
    /// The form of [`crate::json`]: it says all there is.
    pub(super) fn put_json(&self, to: &mut Vec<u8>) -> Result<()> {
        let json = PointJson {
            topic: self.topic,
            time: Rfc3339(self.time_us),
            time_us: self.time_us,
            value: finite(self.value),
            value_str: self.text,
            quality: Quality(self.quality).opc(),
            unit: self.unit,
        };
        serde_json::to_writer(to, &json)
    }

    /// `{"v":84.5,"q":192,"ts":1703289600000,"u":"°C"}`, as the rule `json-reading` reads it: milliseconds, with a fraction where the time has
    /// one; an integer beyond 2^53 with all its digits. The series stands in the key.
    pub(super) fn put_reading(&self, to: &mut Vec<u8>) -> Result<()> {
        to.extend_from_slice(b"{\"v\":");
        match (self.text, finite(self.value)) {
            // Digits that a float cannot hold come as a text beside it.
            (Some(digits), Some(_)) if is_integer(digits) => to.extend_from_slice(digits.as_bytes()),
            (Some(text), _) => serde_json::to_writer(&mut *to, text)?,
            (None, value) => serde_json::to_writer(&mut *to, &value)?,
        }
        let (sign, time_us) = (if self.time_us < 0 { "-" } else { "" }, self.time_us.unsigned_abs());
        // Writing to a Vec cannot fail.
        let _ = write!(to, ",\"q\":{},\"ts\":{sign}{}", Quality(self.quality).opc(), time_us / 1_000);
        if time_us % 1_000 != 0 {
            let _ = write!(to, ".{:03}", time_us % 1_000);
        }
        if let Some(unit) = self.unit {
            to.extend_from_slice(b",\"u\":");
            serde_json::to_writer(&mut *to, unit)?;
        }
        to.push(b'}');
        Ok(())
    }
}

/// Whether a text is an integer as JSON writes it.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: both forms, byte for byte, of what a careless writer would get wrong; other programs read them.
    #[test]
    fn forms() {
        let point = Point {
            topic: "dev/a",
            time_us: 1_703_289_600_000_000,
            value: 84.5,
            text: None,
            quality: 192 | Quality::HISTORICAL,
            unit: Some("°C"),
        };
        let reading = |point: &Point<'_>| {
            let mut to = Vec::new();
            point.put_reading(&mut to).unwrap();
            String::from_utf8(to).unwrap()
        };
        let mut json = Vec::new();
        point.put_json(&mut json).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"topic":"dev/a","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000,"value":84.5,"quality":192,"unit":"°C"}"#
        );
        assert_eq!(reading(&point), r#"{"v":84.5,"q":192,"ts":1703289600000,"u":"°C"}"#);
        let point = Point { unit: None, ..point };
        for (value, text, time_us, expected) in [
            (f64::NAN, None, 1_000, r#"{"v":null,"q":192,"ts":1}"#),
            (f64::INFINITY, None, 1, r#"{"v":null,"q":192,"ts":0.001}"#),
            (f64::NAN, Some("a\"b"), 1_000_010, r#"{"v":"a\"b","q":192,"ts":1000.010}"#),
            (9e15, Some("9007199254740993"), -1_500, r#"{"v":9007199254740993,"q":192,"ts":-1.500}"#),
            (f64::NAN, Some("12"), 0, r#"{"v":"12","q":192,"ts":0}"#),
            (7.0, Some("007"), 0, r#"{"v":"007","q":192,"ts":0}"#),
        ] {
            assert_eq!(reading(&Point { value, text, time_us, ..point }), expected);
        }
    }
}
