//! Numbers of JSON: correctly rounded, with the digits they were written in.

use super::words::{digits, eight, number};
use super::{Fault, Json};

/// A number, with the digits it was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    #[inline]
    pub fn beyond_float(&self) -> Option<&'a str> {
        if self.value.abs() < EXACT {
            return None;
        }
        self.large_integer()
    }

    #[cold]
    fn large_integer(&self) -> Option<&'a str> {
        let edge = matches!(self.digits, b"9007199254740992" | b"-9007199254740992");
        if self.integer && !edge { std::str::from_utf8(self.digits).ok() } else { None }
    }
}

/// Powers of ten by the number of digits taken at once.
const TENS_INTEGER: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Powers of ten that are exact in a 64-bit float.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
    1e20, 1e21, 1e22,
];

/// Takes digits into a mantissa; gives where they end. That it overflowed is known by their number.
/// Up to fifteen digits take no loop.
#[inline(always)]
fn gather(bytes: &[u8], start: usize, mantissa: &mut u64) -> usize {
    let mut at = start;
    if step(bytes, &mut at, mantissa) && step(bytes, &mut at, mantissa) {
        while step(bytes, &mut at, mantissa) {}
    }
    at
}

/// Takes up to eight digits; whether there may be more.
#[inline(always)]
fn step(bytes: &[u8], at: &mut usize, mantissa: &mut u64) -> bool {
    let (count, figures) = digits(eight(bytes, *at));
    if count > 0 {
        let scale = TENS_INTEGER.get(count as usize).copied().unwrap_or(1);
        *mantissa = mantissa.wrapping_mul(scale).wrapping_add(number(figures, count));
        *at += count as usize;
    }
    count == 8
}

impl<'a> Json<'a> {
    /// The number read last.
    #[inline(always)]
    pub fn number(&self) -> Number<'a> {
        Number {
            value: self.number,
            digits: self.bytes.get(self.number_start..self.number_end).unwrap_or(&[]),
            integer: self.number_integer,
        }
    }

    /// Reads the number that begins here. RFC 8259 section 6.
    ///
    /// Up to 19 digits are gathered as an integer; where that and a power of ten are exact in a
    /// float, one multiplication or division rounds correctly (Clinger 1990).
    #[inline(always)]
    pub(super) fn take_number(&mut self) -> Result<(), Fault> {
        let bytes = self.bytes;
        let start = self.at;
        let negative = bytes[start] == b'-';
        let first = start + usize::from(negative);
        let mut mantissa: u64 = 0;
        let mut at = gather(bytes, first, &mut mantissa);
        let mut count = at - first;
        if count == 0 {
            return Err(unfinished(bytes, at));
        }
        if count > 1 && bytes[first] == b'0' {
            return Err(Fault::Syntax);
        }
        let mut exponent: i64 = 0;
        let mut integer = true;
        if bytes.get(at) == Some(&b'.') {
            integer = false;
            let fraction = at + 1;
            at = gather(bytes, fraction, &mut mantissa);
            if at == fraction {
                return Err(unfinished(bytes, at));
            }
            count += at - fraction;
            exponent = -((at - fraction) as i64);
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            integer = false;
            let power;
            (power, at) = read_exponent(bytes, at + 1)?;
            exponent += power;
        }
        let exact = count <= 19 && mantissa <= 1 << 53;
        let size = match TENS.get(exponent.unsigned_abs() as usize) {
            Some(power) if exact && exponent < 0 => mantissa as f64 / power,
            Some(power) if exact => mantissa as f64 * power,
            _ => slow(&bytes[first..at])?,
        };
        self.number = if negative { -size } else { size };
        self.number_start = start;
        self.number_end = at;
        self.number_integer = integer;
        self.at = at;
        Ok(())
    }
}

#[cold]
fn unfinished(bytes: &[u8], at: usize) -> Fault {
    if at == bytes.len() { Fault::End } else { Fault::Syntax }
}

#[cold]
fn read_exponent(bytes: &[u8], mut at: usize) -> Result<(i64, usize), Fault> {
    /// Far beyond any float, and far from overflow.
    const ENOUGH: i64 = 1 << 30;
    let negative = bytes.get(at) == Some(&b'-');
    if let Some(b'-' | b'+') = bytes.get(at) {
        at += 1;
    }
    let first = at;
    let mut power: i64 = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        power = (power * 10 + i64::from(digit - b'0')).min(ENOUGH);
        at += 1;
    }
    if at == first {
        return Err(unfinished(bytes, at));
    }
    Ok((if negative { -power } else { power }, at))
}

#[cold]
fn slow(written: &[u8]) -> Result<f64, Fault> {
    let value: f64 =
        std::str::from_utf8(written).ok().and_then(|written| written.parse().ok()).ok_or(Fault::Syntax)?;
    if value.is_finite() { Ok(value) } else { Err(Fault::Number) }
}
