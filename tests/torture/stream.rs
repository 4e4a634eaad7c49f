//! The messages, each a function of its number: nothing of them need be kept.

use std::collections::HashSet;

use tidegate_tests::{Expect, Message, Row, readings};

/// What the host subscribes to.
pub const FILTER: &str = "dev/#";

const TOPICS: u64 = 400;

/// One in so many is garbage.
const GARBAGE: u64 = 100;

/// What stands on both sides of a number in garbage, so that it is found again.
const MARK: &str = "#";

/// What stands before the time in a reading.
const TIME: &[u8] = br#""ts":"#;

/// The message of that number.
pub fn message(number: u64) -> Message {
    if number % GARBAGE != GARBAGE / 2 {
        return readings(number..number + 1, TOPICS).remove(0);
    }
    let marked = format!("{MARK}{number}{MARK}");
    let payload = match number / GARBAGE % 4 {
        0 => format!("not JSON at all {marked}").into_bytes(),
        1 => format!(r#"{{"v":1,"q":"{marked}"#).into_bytes(),
        2 => format!(r#"{{"note":"{marked}","v":{{"a":[1,2]}}}}"#).into_bytes(),
        _ => [marked.as_bytes(), &[0xff, 0x00, 0xc3, 0x28]].concat(),
    };
    Message::poison(format!("dev/garbage/g{}", number / GARBAGE % 10), payload)
}

/// The row that a message of that number must become; none for garbage.
pub fn row(number: u64) -> Option<Row> {
    match message(number).expect {
        Expect::Rows(mut rows) => rows.pop(),
        Expect::DeadLetter => None,
    }
}

/// The number of the message that a row seems to come from.
pub fn number_of_row(row: &Row) -> Option<u64> {
    u64::try_from(row.time_us?.div_euclid(1_000) - start_ms()).ok()
}

/// The number of the message with these bytes, if they are of this stream.
pub fn number_of_payload(payload: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(payload);
    if let Some((_, after)) = text.split_once(MARK) {
        return after.split_once(MARK)?.0.parse().ok();
    }
    let digits = text.split_once(r#""ts":"#)?.1.split(|c: char| !c.is_ascii_digit()).next()?;
    u64::try_from(digits.parse::<i64>().ok()? - start_ms()).ok()
}

/// The numbers of all messages whose bytes are somewhere in these, and perhaps a few more.
pub fn numbers_in(bytes: &[u8]) -> HashSet<u64> {
    let digits = |at: usize| {
        let end =
            bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| at + length);
        std::str::from_utf8(&bytes[at..end]).ok().map(|digits| (digits, end))
    };
    let mut found = HashSet::new();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(TIME) {
            let ms = digits(at + TIME.len()).and_then(|(digits, _)| digits.parse::<i64>().ok());
            found.extend(ms.and_then(|ms| u64::try_from(ms - start_ms()).ok()));
        } else if bytes[at..].starts_with(MARK.as_bytes()) {
            let marked = digits(at + MARK.len()).filter(|(_, end)| bytes[*end..].starts_with(MARK.as_bytes()));
            found.extend(marked.and_then(|(digits, _)| digits.parse::<u64>().ok()));
        }
    }
    found
}

/// The time of number 0.
fn start_ms() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(|| row(0).and_then(|row| row.time_us).expect("number 0 is a reading") / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: each message leads back to its number, by its bytes and by its row.
    #[test]
    fn numbers_are_found_again() {
        for number in (0..2_000).chain(4_000_000..4_000_500) {
            assert_eq!(number_of_payload(&message(number).payload), Some(number));
            if let Some(row) = row(number) {
                assert_eq!(number_of_row(&row), Some(number));
            }
        }
    }

    /// Guarantees: messages are found in a file that keeps their bytes between others.
    #[test]
    fn numbers_are_found_in_a_file() {
        let mut file = b"\0header dev/#\0\x07".to_vec();
        let kept: HashSet<u64> = (0..3_000).step_by(7).collect();
        for &number in &kept {
            file.extend_from_slice(&message(number).payload);
            file.extend_from_slice(b"\0\0\x01#dev/line0");
        }
        assert_eq!(numbers_in(&file), kept);
    }
}
