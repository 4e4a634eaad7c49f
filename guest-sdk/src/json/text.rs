//! Texts of JSON: found, compared, and read only when asked to.

use super::Fault;
use super::words::{HIGHS, below, eight, head, specials};

/// A text as it stands between its quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    #[cold]
    fn reads_as(&self, other: &str) -> bool {
        self.read(&mut String::new()) == other
    }

    /// Whether it says this word of lower-case ASCII, in upper or lower case.
    #[inline]
    pub fn is_word(&self, lower_case: &str) -> bool {
        self.raw.len() == lower_case.len()
            && (self.raw == lower_case.as_bytes() || self.raw.eq_ignore_ascii_case(lower_case.as_bytes()))
    }

    /// Whether it has no escapes and is this: for comparing with what is known already.
    #[inline]
    pub fn is_plainly(&self, known: &str) -> bool {
        !self.escaped
            && self.raw.len() == known.len()
            && if known.len() <= 8 { self.head == head(known.as_bytes()) } else { self.raw == known.as_bytes() }
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

/// The text that begins at `start`, behind its quote, and where what follows it begins.
#[inline]
pub(super) fn read(bytes: &[u8], start: usize) -> Result<(Text<'_>, usize), Fault> {
    let first = eight(bytes, start);
    let mut word = first;
    let mut escaped = false;
    let mut high = 0;
    let mut at = start;
    loop {
        let clear = specials(word).trailing_zeros() / 8;
        high |= word & below(clear);
        at += clear as usize;
        if clear < 8 {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += escape(&bytes[at..])?;
                }
                Some(_) => return Err(Fault::Control),
                None => return Err(Fault::End),
            }
        }
        word = eight(bytes, at);
    }
    let raw = &bytes[start..at];
    if high & HIGHS != 0 && std::str::from_utf8(raw).is_err() {
        return Err(Fault::Utf8);
    }
    let text = Text { raw, head: first & below(raw.len().min(8) as u32), escaped };
    Ok((text, at + 1))
}

#[cold]
fn escape(bytes: &[u8]) -> Result<usize, Fault> {
    unescape(bytes).map(|(_, used)| used).ok_or(Fault::Escape)
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
