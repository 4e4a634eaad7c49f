//! A JSON reader for payloads: RFC 8259, strict, one pass, no tree, nothing allocated, nothing
//! copied. Values come out in the order they stand in the text, and numbers keep their digits, so
//! that a counter beyond 2^53 is not silently rounded.
//!
//! The reader never recurses: a nesting bomb costs a caller that does not follow it one bit a
//! level, up to [`MAX_DEPTH`]. It is checked against `serde_json` on generated documents in its
//! tests.
//!
//! ```
//! use tidegate_rule::json::{Json, Key, Value};
//! let v = Key::new("v");
//! let mut json = Json::new(br#"{"v": 84.5, "u": "bar"}"#);
//! assert!(matches!(json.value(), Ok(Value::Object)));
//! while let Ok(Some(key)) = json.key() {
//!     let value = json.value();
//!     if key.is(&v) {
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
    /// The first eight bytes of `raw`, zeros behind its end.
    head: u64,
    escaped: bool,
}

/// A text to compare others with, eight bytes at a time: in WebAssembly that is one comparison where
/// slices cost a call and a loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    head: u64,
    text: String,
}

impl Key {
    /// A key to look for.
    pub fn new(text: &str) -> Self {
        Self { head: head(text.as_bytes()), text: text.to_owned() }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The first eight bytes, little end first, zeros behind the end.
const fn head(bytes: &[u8]) -> u64 {
    let mut head = 0;
    let mut at = 0;
    while at < bytes.len() && at < 8 {
        head |= (bytes[at] as u64) << (8 * at);
        at += 1;
    }
    head
}

impl<'a> Text<'a> {
    /// Whether it says this.
    #[inline]
    pub fn is(&self, key: &Key) -> bool {
        if self.escaped {
            return self.reads_as(&key.text);
        }
        self.head == key.head
            && self.raw.len() == key.text.len()
            && (self.raw.len() <= 8 || self.raw == key.text.as_bytes())
    }

    /// Whether it says this, in upper or lower case of ASCII.
    #[inline]
    pub fn is_word(&self, lower_case: &str) -> bool {
        const CASE: u64 = 0x2020_2020_2020_2020;
        self.raw.len() == lower_case.len()
            && (self.head | CASE) == (head(lower_case.as_bytes()) | CASE)
            && self.raw.eq_ignore_ascii_case(lower_case.as_bytes())
    }

    #[cold]
    fn reads_as(&self, other: &str) -> bool {
        self.read(&mut String::new()) == other
    }

    /// The text, where it has no escapes and these are its bytes; for comparing with what is known.
    #[inline]
    pub fn is_plainly(&self, known: &str) -> bool {
        !self.escaped
            && self.raw.len() == known.len()
            && (self.raw.len() <= 8 && self.head == head(known.as_bytes()) || self.raw == known.as_bytes())
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
            b't' => self.literal(b"true", Value::Bool(true)),
            b'f' => self.literal(b"false", Value::Bool(false)),
            b'n' => self.literal(b"null", Value::Null),
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
        match self.bytes.get(self.at) {
            Some(byte) if *byte > b' ' => Ok(*byte),
            _ => self.peek_beyond_space(),
        }
    }

    #[cold]
    fn peek_beyond_space(&mut self) -> Result<u8, Fault> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Fault::End),
            }
        }
    }

    /// Eight bytes from `at` on, little end first, zeros behind the end of the payload. A byte loop
    /// costs a check of the CPU limit for each byte in a module; this costs one for eight.
    #[inline]
    fn eight(&self, at: usize) -> u64 {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => self.last_eight(at),
        }
    }

    #[inline]
    fn last_eight(&self, at: usize) -> u64 {
        match self.bytes.last_chunk::<8>() {
            // Less than eight bytes are left, so that the shift is by 8 to 64 bits.
            Some(chunk) => {
                let missing = (at + 8 - self.bytes.len()) as u32;
                u64::from_le_bytes(*chunk).checked_shr(8 * missing).unwrap_or(0)
            }
            None => self.bytes.get(at..).map_or(0, head),
        }
    }

    fn literal(&mut self, word: &[u8], value: Value<'a>) -> Result<Value<'a>, Fault> {
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
        let first = self.eight(start);
        let mut eight = first;
        let mut escaped = false;
        let mut high = 0;
        let mut at = start;
        loop {
            let found = specials(eight);
            let clear = found.trailing_zeros() / 8;
            high |= eight & below(clear);
            at += clear as usize;
            if clear < 8 {
                match self.bytes.get(at) {
                    Some(b'"') => break,
                    Some(b'\\') => {
                        escaped = true;
                        at += self.escape(at)?;
                    }
                    Some(_) => return Err(Fault::Control),
                    None => return Err(Fault::End),
                }
            }
            eight = self.eight(at);
        }
        self.at = at + 1;
        let raw = &self.bytes[start..at];
        if high & HIGHS != 0 && std::str::from_utf8(raw).is_err() {
            return Err(Fault::Utf8);
        }
        Ok(Text { raw, head: first & below(raw.len().min(8) as u32), escaped })
    }

    #[cold]
    fn escape(&self, at: usize) -> Result<usize, Fault> {
        unescape(&self.bytes[at..]).map(|(_, used)| used).ok_or(Fault::Escape)
    }

    /// Takes digits into a mantissa; gives where they end. What overflows is noticed by their number.
    #[inline]
    fn digits(&self, mut at: usize, mantissa: &mut u64) -> usize {
        loop {
            let figures = self.eight(at) ^ ZEROS;
            // A byte that is no digit has its high bit set, and so may have bytes after the first such.
            let other = (figures.wrapping_add(0x7676_7676_7676_7676) | figures) & HIGHS;
            let count = other.trailing_zeros() / 8;
            if count > 0 {
                let scale = TENS_INTEGER[count as usize & 15];
                *mantissa = mantissa.wrapping_mul(scale).wrapping_add(eight_digits(figures << (64 - 8 * count)));
            }
            at += count as usize;
            if count < 8 {
                return at;
            }
        }
    }

    /// RFC 8259 section 6. Up to 19 digits are gathered as an integer; where that and a power of
    /// ten are exact in a float, one multiplication or division rounds correctly (Clinger 1990).
    #[inline]
    fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.at;
        let negative = self.bytes[start] == b'-';
        let first = start + usize::from(negative);
        let mut mantissa: u64 = 0;
        let mut at = self.digits(first, &mut mantissa);
        let mut digits = at - first;
        if digits == 0 {
            return Err(self.unfinished(at));
        }
        if digits > 1 && self.bytes[first] == b'0' {
            return Err(Fault::Syntax);
        }
        let mut exponent = 0;
        let mut integer = true;
        if self.bytes.get(at) == Some(&b'.') {
            integer = false;
            let fraction = at + 1;
            at = self.digits(fraction, &mut mantissa);
            if at == fraction {
                return Err(self.unfinished(at));
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
    fn unfinished(&self, at: usize) -> Fault {
        if at == self.bytes.len() { Fault::End } else { Fault::Syntax }
    }

    #[cold]
    fn exponent(&self, mut at: usize) -> Result<(i64, usize), Fault> {
        let negative = self.bytes.get(at) == Some(&b'-');
        if let Some(b'-' | b'+') = self.bytes.get(at) {
            at += 1;
        }
        let first = at;
        let mut power: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(at) {
            power = power.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40);
            at += 1;
        }
        if at == first {
            return Err(self.unfinished(at));
        }
        Ok((if negative { -power } else { power }, at))
    }
}

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Marks the high bit of bytes that end a run of a text: quote, backslash, below space. Bytes after
/// the first marked one may be marked wrongly.
#[inline]
const fn specials(eight: u64) -> u64 {
    const fn equals(eight: u64, byte: u8) -> u64 {
        let differing = eight ^ (ONES * byte as u64);
        differing.wrapping_sub(ONES) & !differing
    }
    let below_space = eight.wrapping_sub(ONES * 0x20) & !eight;
    (equals(eight, b'"') | equals(eight, b'\\') | below_space) & HIGHS
}

/// A mask of the lowest bytes; 8 for all.
#[inline]
const fn below(bytes: u32) -> u64 {
    match 1_u64.checked_shl(8 * bytes) {
        Some(bit) => bit - 1,
        None => u64::MAX,
    }
}

/// Eight figures, first in the lowest byte, as a number: pairs, then fours, then eights.
#[inline]
const fn eight_digits(figures: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x0000_00FF_0000_00FF;
    let pairs = figures.wrapping_mul(10).wrapping_add(figures >> 8);
    let upper = (pairs & EVERY_FOURTH).wrapping_mul(0x000F_4240_0000_0064);
    let lower = (pairs >> 16 & EVERY_FOURTH).wrapping_mul(0x0000_2710_0000_0001);
    upper.wrapping_add(lower) >> 32
}

/// Powers of ten by the number of digits taken at once; padded so that an index needs no check.
const TENS_INTEGER: [u64; 16] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1, 1, 1, 1, 1, 1, 1];

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
