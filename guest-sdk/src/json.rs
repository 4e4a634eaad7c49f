//! A JSON reader for payloads: RFC 8259, strict (but that texts nobody reads may be other than UTF-8), one pass, no tree, nothing allocated, nothing
//! copied. Values come out in the order they stand in the text, and numbers keep their digits, so
//! that a counter beyond 2^53 is not silently rounded.
//!
//! The reader never recurses: a nesting bomb costs a caller that does not follow it one bit a
//! level, up to [`MAX_DEPTH`]. It is checked against `serde_json` on generated documents in its
//! tests. It takes eight bytes at a time where it can: a loop over bytes costs a module a check of its
//! CPU limit for each.
//!
//! ```
//! use tidegate_rule::json::{Json, Key, Value};
//! let v = Key::new("v");
//! let mut json = Json::new(br#"{"v": 84.5, "u": "bar"}"#);
//! assert_eq!(json.value(), Ok(Value::Object));
//! while let Ok(true) = json.key() {
//!     let key = json.text();
//!     let value = json.value();
//!     if key.is(&v) {
//!         assert_eq!((value, json.number().value), (Ok(Value::Number), 84.5));
//!     }
//! }
//! assert!(json.end().is_ok());
//! ```

mod number;
mod text;
mod words;

use crate::rejects::Reason;

pub use number::Number;
pub use text::{Key, Text};

/// How deep a skipped value may be nested.
pub const MAX_DEPTH: u32 = 127;

/// Why a payload is not JSON, or not JSON that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    End,
    Syntax,
    Trailing,
    Number,
    Escape,
    Control,
    Utf8,
    Depth,
}

impl Fault {
    /// The reason as a sentence of a dead letter.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::End => "not JSON: the payload ends in the middle",
            Self::Syntax => "not JSON: a character that cannot stand there",
            Self::Trailing => "not JSON: something follows the value",
            Self::Number => "a number in the payload is too large for a 64-bit float",
            Self::Escape => "not JSON: a text has an escape that does not exist",
            Self::Control => "not JSON: a text has a raw control character",
            Self::Utf8 => "not JSON: a text is not UTF-8",
            Self::Depth => "the payload is nested too deep",
        }
    }
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        Self::from(fault.sentence())
    }
}

/// A value, or the beginning of one. What a number or text says stays in the reader until the next: a
/// value that carried it would be copied through memory at every step, for more than it takes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    /// It is [`Json::number`].
    Number,
    /// It is [`Json::text`].
    Text,
    /// Its elements follow: [`Json::element`].
    Array,
    /// Its members follow: [`Json::key`].
    Object,
}

/// A reader over one payload.
#[derive(Clone, Debug)]
pub struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A container was just opened, so that no comma is due.
    fresh: bool,
    // What was read last stands in fields of its own: moved about as structs, these bytes stalled the
    // processor for longer than finding them took.
    text_start: usize,
    text_end: usize,
    text_head: u64,
    text_escaped: bool,
    number: f64,
    number_start: usize,
    number_end: usize,
    number_integer: bool,
}

impl<'a> Json<'a> {
    /// A reader at the beginning of a payload.
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            fresh: false,
            text_start: 0,
            text_end: 0,
            text_head: 0,
            text_escaped: false,
            number: 0.0,
            number_start: 0,
            number_end: 0,
            number_integer: false,
        }
    }

    /// The next value. Of an array or object only the beginning is read; what is in it comes from
    /// [`Json::element`] and [`Json::key`], or is passed over by [`Json::skip`].
    ///
    /// # Errors
    /// When no value stands there.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Value, Fault> {
        let byte = self.peek()?;
        self.fresh = false;
        // These two by comparison, since a jump table costs a module more than both.
        if byte == b'"' {
            self.take_text()?;
            return Ok(Value::Text);
        }
        if byte.is_ascii_digit() || byte == b'-' {
            self.take_number()?;
            return Ok(Value::Number);
        }
        match byte {
            b'{' => {
                self.open();
                Ok(Value::Object)
            }
            b'[' => {
                self.open();
                Ok(Value::Array)
            }
            b't' => self.literal(b"true", Value::Bool(true)),
            b'f' => self.literal(b"false", Value::Bool(false)),
            b'n' => self.literal(b"null", Value::Null),
            _ => Err(Fault::Syntax),
        }
    }

    /// Whether the object being read has another member: its key is [`Json::text`], and its value
    /// comes next.
    ///
    /// # Errors
    /// When neither a member nor the end stands there.
    #[inline(always)]
    pub fn key(&mut self) -> Result<bool, Fault> {
        if self.closes(b'}')? {
            return Ok(false);
        }
        if self.peek()? != b'"' {
            return Err(Fault::Syntax);
        }
        self.take_text()?;
        if self.peek()? != b':' {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(true)
    }

    /// Whether the array being read has another element, whose value comes next.
    ///
    /// # Errors
    /// When neither an element nor the end stands there.
    #[inline(always)]
    pub fn element(&mut self) -> Result<bool, Fault> {
        Ok(!self.closes(b']')?)
    }

    /// Passes over what is left of a value that was just begun; of a scalar nothing is.
    ///
    /// # Errors
    /// When it is not JSON, or nested deeper than [`MAX_DEPTH`].
    #[inline(always)]
    pub fn skip(&mut self, begun: Value) -> Result<(), Fault> {
        match begun {
            Value::Object | Value::Array => {
                let innermost = u128::from(begun == Value::Object);
                self.at = skip_container(self.bytes, self.at, innermost)?;
                self.fresh = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that nothing follows the value.
    ///
    /// # Errors
    /// When something does.
    #[inline(always)]
    pub fn end(&mut self) -> Result<(), Fault> {
        if self.at == self.bytes.len() || self.peek().is_err() { Ok(()) } else { Err(Fault::Trailing) }
    }

    #[inline(always)]
    fn open(&mut self) {
        self.at += 1;
        self.fresh = true;
    }

    /// Takes the closing bracket, or the comma that is due before what comes next.
    #[inline(always)]
    fn closes(&mut self, bracket: u8) -> Result<bool, Fault> {
        let byte = self.peek()?;
        if byte == bracket {
            self.at += 1;
            self.fresh = false;
            return Ok(true);
        }
        if self.fresh {
            self.fresh = false;
            return Ok(false);
        }
        if byte != b',' {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(false)
    }

    /// The next byte that is not white space.
    #[inline(always)]
    fn peek(&mut self) -> Result<u8, Fault> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte > b' ' => Ok(*byte),
            _ => {
                self.at = beyond_space(self.bytes, self.at);
                self.bytes.get(self.at).copied().ok_or(Fault::End)
            }
        }
    }

    #[inline(always)]
    fn literal(&mut self, word: &[u8], value: Value) -> Result<Value, Fault> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(if word.starts_with(rest) { Fault::End } else { Fault::Syntax })
        }
    }
}

// What is seldom needed takes and gives plain values: a call that borrowed the reader would keep all of
// it in memory, and out of registers, for everybody.

#[cold]
#[inline(never)]
fn beyond_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where a container ends whose beginning was just read. The lowest bit of `objects` says whether the
/// innermost open container is an object.
#[cold]
fn skip_container(bytes: &[u8], at: usize, mut objects: u128) -> Result<usize, Fault> {
    let mut json = Json { at, fresh: true, ..Json::new(bytes) };
    let mut depth = 1;
    while depth > 0 {
        let more = if objects & 1 == 1 { json.key()? } else { json.element()? };
        if !more {
            objects >>= 1;
            depth -= 1;
            continue;
        }
        let value = json.value()?;
        if matches!(value, Value::Object | Value::Array) {
            if depth == MAX_DEPTH {
                return Err(Fault::Depth);
            }
            depth += 1;
            objects = (objects << 1) | u128::from(value == Value::Object);
        }
    }
    Ok(json.at)
}

#[cfg(test)]
mod tests;
