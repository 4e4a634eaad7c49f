//! Bytes, eight at a time.

const HIGHS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight bytes from `at` on, little end first, zeros behind the end. At most eight bytes behind the end.
#[inline(always)]
pub(super) fn eight(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_le_bytes(*chunk);
    }
    match bytes.last_chunk::<8>() {
        // Less than eight bytes are left, so the shift is by 8 bits or more.
        Some(chunk) => {
            let missing = (at + 8 - bytes.len()) as u32;
            u64::from_le_bytes(*chunk).checked_shr(8 * missing).unwrap_or(0)
        }
        None => tiny(bytes, at),
    }
}

/// The same of a payload that is shorter than that altogether.
#[cold]
fn tiny(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).map_or(0, head)
}

/// The first eight bytes, little end first, zeros behind the end.
#[inline]
pub(super) fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes.iter().rev().fold(0, |head, byte| (head << 8) | u64::from(*byte)),
    }
}

/// A mask of the lowest bytes; 8 for all.
#[inline(always)]
pub(super) fn below(bytes: u32) -> u64 {
    1_u64.checked_shl(8 * bytes).map_or(u64::MAX, |bit| bit - 1)
}

/// Marks the high bit of bytes that end a run of a text: quote, backslash, below space. Bytes after
/// the first marked one may be marked wrongly.
#[inline(always)]
pub(super) fn specials(eight: u64) -> u64 {
    let equals = |byte: u8| {
        let differing = eight ^ (ONES * u64::from(byte));
        differing.wrapping_sub(ONES) & !differing
    };
    let below_space = eight.wrapping_sub(ONES * 0x20) & !eight;
    (equals(b'"') | equals(b'\\') | below_space) & HIGHS
}

/// How many decimal digits stand at the lower end, and the figures, as 0 to 9, of those that do.
#[inline(always)]
pub(super) fn digits(eight: u64) -> (u32, u64) {
    let figures = eight ^ (ONES * 0x30);
    // A byte that is no digit has its high bit set, and so may have bytes after the first such.
    let other = (figures.wrapping_add(ONES * 0x76) | figures) & HIGHS;
    (other.trailing_zeros() / 8, figures)
}

/// The first `count` figures, 1 to 8, as a number: pairs, then fours, then eights.
#[inline(always)]
pub(super) fn number(figures: u64, count: u32) -> u64 {
    const EVERY_FOURTH: u64 = 0x0000_00FF_0000_00FF;
    let figures = figures << ((64 - 8 * count) & 63);
    let pairs = figures.wrapping_mul(10).wrapping_add(figures >> 8);
    let upper = (pairs & EVERY_FOURTH).wrapping_mul(0x000F_4240_0000_0064);
    let lower = ((pairs >> 16) & EVERY_FOURTH).wrapping_mul(0x0000_2710_0000_0001);
    upper.wrapping_add(lower) >> 32
}
