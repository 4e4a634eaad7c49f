//! The messages, each a function of its number: nothing of them need be kept.

use tidegate_tests::{Expect, Message, Row, readings};

/// What the host subscribes to.
pub const FILTER: &str = "dev/#";

const TOPICS: u64 = 400;

/// One in so many is garbage.
const GARBAGE: u64 = 100;

/// What stands on both sides of a number in garbage, so that it is found again.
const MARK: &str = "#";

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
}
