//! Texts of JSON: found, compared, and read only when asked to.

use super::words::{below, eight, head, specials};
use super::{Fault, Json};

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
    #[inline(always)]
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
        self.read(&mut String::new()) == Ok(other)
    }

    /// Whether it says this word of lower-case ASCII, in upper or lower case.
    #[inline(always)]
    pub fn is_word(&self, lower_case: &str) -> bool {
        self.raw.len() == lower_case.len()
            && ((lower_case.len() <= 8 && self.head == head(lower_case.as_bytes()))
                || self.raw.eq_ignore_ascii_case(lower_case.as_bytes()))
    }

    /// The bytes between the quotes, escapes as they are written. Equal bytes are equal texts.
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The text. `scratch` is used, and emptied before, only when there are escapes in it.
    ///
    /// # Errors
    /// When it is not UTF-8: that is looked at here, and not where a text is only passed over or is
    /// equal to a known one.
    pub fn read<'s>(&self, scratch: &'s mut String) -> Result<&'s str, Fault>
    where
        'a: 's,
    {
        let text = std::str::from_utf8(self.raw).map_err(|_| Fault::Utf8)?;
        if !self.escaped {
            return Ok(text);
        }
        scratch.clear();
        let mut rest = text;
        while let Some((plain, _)) = rest.split_once('\\') {
            scratch.push_str(plain);
            let (character, used) = unescape(&rest.as_bytes()[plain.len()..]).ok_or(Fault::Escape)?;
            scratch.push(character);
            rest = rest.get(plain.len() + used..).ok_or(Fault::Escape)?;
        }
        scratch.push_str(rest);
        Ok(scratch)
    }
}

impl<'a> Json<'a> {
    /// The text or key read last.
    #[inline(always)]
    pub fn text(&self) -> Text<'a> {
        Text {
            raw: self.bytes.get(self.text_start..self.text_end).unwrap_or(&[]),
            head: self.text_head,
            escaped: self.text_escaped,
        }
    }

    /// Reads the text whose quote stands here. Most end within eight bytes, and then there is no loop.
    #[inline(always)]
    pub(super) fn take_text(&mut self) -> Result<(), Fault> {
        let start = self.at + 1;
        let first = eight(self.bytes, start);
        let clear = specials(first).trailing_zeros() / 8;
        let mut end = start + clear as usize;
        let mut escaped = false;
        if clear == 8 || self.bytes.get(end) != Some(&b'"') {
            (end, escaped) = long(self.bytes, start)?;
        }
        self.text_start = start;
        self.text_end = end;
        self.text_head = first & below((end - start).min(8) as u32);
        self.text_escaped = escaped;
        self.at = end + 1;
        Ok(())
    }
}

/// Where a text ends, and whether there are escapes in it.
#[inline(never)]
fn long(bytes: &[u8], start: usize) -> Result<(usize, bool), Fault> {
    let mut escaped = false;
    let mut at = start;
    loop {
        let clear = specials(eight(bytes, at)).trailing_zeros() / 8;
        at += clear as usize;
        if clear == 8 {
            continue;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at += escape(&bytes[at..])?;
            }
            Some(_) => return Err(Fault::Control),
            None => return Err(Fault::End),
        }
    }
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
