//! What comes out of a rule, held against what is expected.

use std::fmt;

use serde_json::Value;

use crate::error::cut;

/// How far apart two numbers may be and still be the same, as a part of the larger: compilers may round what a CPU does in one step.
const TOLERANCE: f64 = 1e-9;
/// The most bytes kept of a line that differs.
const MAX_LINE_BYTES: usize = 1_000;

/// Lines of output, held against those expected as they come.
#[derive(Debug)]
pub struct Comparison<'a> {
    expected: &'a [Value],
    seen: usize,
}

/// The first line that differs. Both are cut after 1,000 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which line of `expected.ndjson`, counted from 1.
    pub line: usize,
    /// What stands there; none if it has fewer lines.
    pub expected: Option<String>,
    /// What came out; none if nothing more did.
    pub got: Option<String>,
}

impl<'a> Comparison<'a> {
    /// Of nothing yet.
    pub fn new(expected: &'a [Value]) -> Self {
        Self { expected, seen: 0 }
    }

    /// One more line has come out.
    ///
    /// # Errors
    /// It is not the one expected.
    pub fn saw(&mut self, got: &Value) -> Result<(), Difference> {
        let expected = self.expected.get(self.seen);
        self.seen += 1;
        if expected.is_some_and(|expected| same(expected, got)) {
            return Ok(());
        }
        Err(Difference { line: self.seen, expected: expected.map(shown), got: Some(shown(got)) })
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// More was expected.
    pub fn end(&self) -> Result<(), Difference> {
        match self.expected.get(self.seen) {
            None => Ok(()),
            Some(expected) => Err(Difference { line: self.seen + 1, expected: Some(shown(expected)), got: None }),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = "nothing more";
        let (expected, got) = (self.expected.as_deref().unwrap_or(nothing), self.got.as_deref().unwrap_or(nothing));
        write!(f, "line {}: expected {expected}, and {got} came out", self.line)
    }
}

fn shown(line: &Value) -> String {
    cut(line.to_string(), MAX_LINE_BYTES)
}

/// Equal JSON, where numbers that are no whole ones may differ by [`TOLERANCE`].
fn same(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64(), a.as_f64(), b.as_f64()) {
            (Some(a), Some(b), ..) => a == b,
            (_, _, Some(a), Some(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            _ => false,
        },
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => expected == got,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: numbers may differ by rounding and in how they are written, times and everything else may not.
    #[test]
    fn what_is_the_same() {
        for (expected, got, alike) in [
            (json!({"value": 1}), json!({"value": 1.0}), true),
            (json!({"value": 0.1}), json!({"value": 0.100_000_000_000_000_02}), true),
            (json!({"value": 27.1}), json!({"value": 27.100_000_000_1}), true),
            (json!({"value": 27.1}), json!({"value": 27.1001}), false),
            (json!({"value": 0.0}), json!({"value": 1e-300}), false),
            (json!({"value": null}), json!({"value": 0}), false),
            (json!({"time_us": 1_703_289_600_000_001_i64}), json!({"time_us": 1_703_289_600_000_000_i64}), false),
            (json!({"a": 1}), json!({"a": 1, "b": null}), false),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
        ] {
            assert_eq!(same(&expected, &got), alike, "{expected} and {got}");
        }
    }

    /// Guarantees: the first difference is told with its line, also where one side has ended; long lines are cut.
    #[test]
    fn the_first_difference() {
        let expected = [json!({"filtered": 0}), json!({"filtered": 1})];
        let mut seen = Comparison::new(&expected);
        seen.saw(&json!({"filtered": 0})).unwrap();
        let missing = seen.end().unwrap_err();
        assert_eq!(missing.to_string(), r#"line 2: expected {"filtered":1}, and nothing more came out"#);
        seen.saw(&json!({"filtered": 1})).unwrap();
        seen.end().unwrap();
        let more = seen.saw(&json!("x".repeat(5_000))).unwrap_err();
        assert_eq!((more.line, more.expected), (3, None));
        assert!(more.got.unwrap().len() <= MAX_LINE_BYTES + '…'.len_utf8());
    }
}
