//! A JSON reader for payloads: RFC 8259, strict, one pass, no tree, nothing allocated, nothing
//! copied. Values come out in the order they stand in the text, and numbers keep their digits, so
//! that a counter beyond 2^53 is not silently rounded.
//!
//! The reader never recurses: a nesting bomb costs a caller that does not follow it one bit a
//! level, up to [`MAX_DEPTH`]. It is checked against `serde_json` on generated documents in its
//! tests.
//!
//! ```
//! use tidegate_rule::json::{Json, Value};
//! let mut json = Json::new(br#"{"v": 84.5, "u": "bar"}"#);
//! assert!(matches!(json.value(), Ok(Value::Object)));
//! while let Ok(Some(key)) = json.key() {
//!     let value = json.value();
//!     if key.is("v") {
//!         assert!(matches!(value, Ok(Value::Number(number)) if number.value == 84.5));
//!     }
//! }
//! assert!(json.end().is_ok());
//! ```

use crate::rejects::Reason;

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

/// A value, or the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(Text<'a>),
    /// Its elements follow: [`Json::element`].
    Array,
    /// Its members follow: [`Json::key`].
    Object,
}

/// A number, with the digits it was written in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number<'a> {
    /// The nearest 64-bit float.
    pub value: f64,
    digits: &'a [u8],
    integer: bool,
}

/// Integers up to this magnitude are exact in a 64-bit float.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'a> Number<'a> {
    /// The digits of an integer that a 64-bit float cannot hold exactly.
    pub fn beyond_float(&self) -> Option<&'a str> {
        if self.integer
            && self.value.abs() >= EXACT
            && !matches!(self.digits, b"9007199254740992" | b"-9007199254740992")
        {
            std::str::from_utf8(self.digits).ok()
        } else {
            None
        }
    }
}

/// A text as it stands between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Whether it says this.
    #[inline]
    pub fn is(&self, other: &str) -> bool {
        if self.escaped {
            let mut text = String::new();
            return self.read(&mut text) == other;
        }
        self.raw == other.as_bytes()
    }

    /// The bytes between the quotes, escapes as they are written. Equal bytes are equal texts.
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The text. `scratch` is used, and emptied before, only when there are escapes in it.
    pub fn read<'s>(&self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        if !self.escaped {
            return std::str::from_utf8(self.raw).unwrap_or("");
        }
        scratch.clear();
        let mut rest = self.raw;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            scratch.push_str(std::str::from_utf8(&rest[..at]).unwrap_or(""));
            let (character, used) = unescape(&rest[at..]).unwrap_or(('\u{FFFD}', 2));
            scratch.push(character);
            rest = rest.get(at + used..).unwrap_or(&[]);
        }
        scratch.push_str(std::str::from_utf8(rest).unwrap_or(""));
        scratch
    }
}

/// One escape at the beginning of `bytes`: the character and how many bytes it takes.
fn unescape(bytes: &[u8]) -> Option<(char, usize)> {
    let plain = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unescape_unicode(bytes),
        _ => return None,
    };
    Some((plain, 2))
}

fn unescape_unicode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = hex4(bytes.get(2..6)?)?;
    if !(0xD800..0xE000).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    // A high surrogate must be followed by a low one; alone neither is a character.
    if first >= 0xDC00 || bytes.get(6..8)? != b"\\u" {
        return None;
    }
    let second = hex4(bytes.get(8..12)?)?;
    if !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    Some((char::from_u32(code)?, 12))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

/// A reader over one payload.
#[derive(Clone, Debug)]
pub struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A container was just opened, so that no comma is due.
    fresh: bool,
}

impl<'a> Json<'a> {
    /// A reader at the beginning of a payload.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, fresh: false }
    }

    /// The next value. Of an array or object only the beginning is read; what is in it comes from
    /// [`Json::element`] and [`Json::key`], or is passed over by [`Json::skip`].
    ///
    /// # Errors
    /// When no value stands there.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Fault> {
        let byte = self.peek()?;
        self.fresh = false;
        match byte {
            b'"' => Ok(Value::Text(self.text()?)),
            b'-' | b'0'..=b'9' => Ok(Value::Number(self.number()?)),
            b'{' => {
                self.open();
                Ok(Value::Object)
            }
            b'[' => {
                self.open();
                Ok(Value::Array)
            }
            b't' => self.word(b"true", Value::Bool(true)),
            b'f' => self.word(b"false", Value::Bool(false)),
            b'n' => self.word(b"null", Value::Null),
            _ => Err(Fault::Syntax),
        }
    }

    /// The key of the next member of the object being read, whose value comes next; `None` at its end.
    ///
    /// # Errors
    /// When neither stands there.
    #[inline]
    pub fn key(&mut self) -> Result<Option<Text<'a>>, Fault> {
        if self.closes(b'}')? {
            return Ok(None);
        }
        if self.peek()? != b'"' {
            return Err(Fault::Syntax);
        }
        let key = self.text()?;
        if self.peek()? != b':' {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the array being read has another element, whose value comes next.
    ///
    /// # Errors
    /// When neither an element nor the end stands there.
    #[inline]
    pub fn element(&mut self) -> Result<bool, Fault> {
        Ok(!self.closes(b']')?)
    }

    /// Passes over what is left of a value that was just begun; of a scalar nothing is.
    ///
    /// # Errors
    /// When it is not JSON, or nested deeper than [`MAX_DEPTH`].
    pub fn skip(&mut self, begun: Value<'a>) -> Result<(), Fault> {
        let mut objects: u128 = match begun {
            Value::Object => 1,
            Value::Array => 0,
            _ => return Ok(()),
        };
        let mut depth = 1;
        while depth > 0 {
            let more = if objects & 1 == 1 { self.key()?.is_some() } else { self.element()? };
            if !more {
                objects >>= 1;
                depth -= 1;
                continue;
            }
            let value = self.value()?;
            if matches!(value, Value::Object | Value::Array) {
                if depth == MAX_DEPTH {
                    return Err(Fault::Depth);
                }
                depth += 1;
                objects = objects << 1 | u128::from(value == Value::Object);
            }
        }
        Ok(())
    }

    /// Makes sure that nothing follows the value.
    ///
    /// # Errors
    /// When something does.
    #[inline]
    pub fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(Fault::Trailing),
        }
    }

    fn open(&mut self) {
        self.at += 1;
        self.fresh = true;
    }

    /// Takes the closing bracket, or the comma that is due before what comes next.
    #[inline]
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
    #[inline]
    fn peek(&mut self) -> Result<u8, Fault> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Fault::End),
            }
        }
    }

    fn word(&mut self, word: &[u8], value: Value<'a>) -> Result<Value<'a>, Fault> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else if word.starts_with(rest) {
            Err(Fault::End)
        } else {
            Err(Fault::Syntax)
        }
    }

    #[inline]
    fn text(&mut self) -> Result<Text<'a>, Fault> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut ascii = true;
        let mut at = start;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += self.escape(at)?;
                }
                Some(0..0x20) => return Err(Fault::Control),
                Some(byte) => {
                    ascii &= *byte < 0x80;
                    at += 1;
                }
                None => return Err(Fault::End),
            }
        }
        self.at = at + 1;
        let raw = &self.bytes[start..at];
        if !ascii && std::str::from_utf8(raw).is_err() {
            return Err(Fault::Utf8);
        }
        Ok(Text { raw, escaped })
    }

    #[cold]
    fn escape(&self, at: usize) -> Result<usize, Fault> {
        unescape(&self.bytes[at..]).map(|(_, used)| used).ok_or(Fault::Escape)
    }

    #[inline]
    fn digit(&self, at: usize) -> Option<u8> {
        let digit = self.bytes.get(at)?.wrapping_sub(b'0');
        (digit < 10).then_some(digit)
    }

    /// RFC 8259 section 6. Up to 19 digits are gathered as an integer; where that and a power of
    /// ten are exact in a float, one multiplication or division rounds correctly (Clinger 1990).
    #[inline]
    fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.at;
        let negative = self.bytes[start] == b'-';
        let mut at = start + usize::from(negative);
        let mut mantissa: u64 = 0;
        let first = at;
        while let Some(digit) = self.digit(at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let mut digits = at - first;
        if digits == 0 {
            return Err(if at == self.bytes.len() { Fault::End } else { Fault::Syntax });
        }
        if digits > 1 && self.bytes[first] == b'0' {
            return Err(Fault::Syntax);
        }
        let mut exponent = 0;
        let mut integer = true;
        if self.bytes.get(at) == Some(&b'.') {
            integer = false;
            at += 1;
            let fraction = at;
            while let Some(digit) = self.digit(at) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                at += 1;
            }
            if at == fraction {
                return Err(if at == self.bytes.len() { Fault::End } else { Fault::Syntax });
            }
            digits += at - fraction;
            exponent = -((at - fraction) as i64);
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            integer = false;
            let (power, after) = self.exponent(at + 1)?;
            exponent += power;
            at = after;
        }
        self.at = at;
        let written = &self.bytes[start..at];
        let exact = digits <= 19 && mantissa <= 1 << 53;
        let value = match (exact, usize::try_from(exponent.unsigned_abs()).ok().and_then(|power| TENS.get(power))) {
            (true, Some(power)) => {
                let size = if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
                if negative { -size } else { size }
            }
            _ => slow(written)?,
        };
        Ok(Number { value, digits: written, integer })
    }

    #[cold]
    fn exponent(&self, mut at: usize) -> Result<(i64, usize), Fault> {
        let negative = self.bytes.get(at) == Some(&b'-');
        if let Some(b'-' | b'+') = self.bytes.get(at) {
            at += 1;
        }
        let first = at;
        let mut power: i64 = 0;
        while let Some(digit) = self.digit(at) {
            power = power.saturating_mul(10).saturating_add(i64::from(digit)).min(1 << 40);
            at += 1;
        }
        if at == first {
            return Err(if at == self.bytes.len() { Fault::End } else { Fault::Syntax });
        }
        Ok((if negative { -power } else { power }, at))
    }
}

/// Powers of ten that are exact in a 64-bit float.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
    1e20, 1e21, 1e22,
];

#[cold]
fn slow(written: &[u8]) -> Result<f64, Fault> {
    let value: f64 =
        std::str::from_utf8(written).ok().and_then(|written| written.parse().ok()).ok_or(Fault::Syntax)?;
    if value.is_finite() { Ok(value) } else { Err(Fault::Number) }
}

#[cfg(test)]
mod tests;
