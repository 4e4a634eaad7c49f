//! The telemetry that all benches use, and what must come of it: nothing random, so that both sides and the feeder make the same.
//!
//! 2,000 topics in no order, `{"v":23.45678,"q":"good","ts":1700000000123,"u":"°C"}` with a value that none of the 3 million
//! messages before it has and a time that grows, one message in a hundred garbage, one in a thousand above the limit that the threshold rule watches.

use std::collections::HashMap;
use std::io::Write;

/// Distinct topics.
pub const TOPICS: usize = 2_000;
/// What the threshold rule watches.
pub const LIMIT: f64 = 100.0;
/// The time of message 0, in milliseconds since 1970-01-01 UTC.
const FIRST_MS: usize = 1_700_000_000_000;
/// Every so many, one message is garbage.
const GARBAGE_EVERY: usize = 100;
/// Values are 20.00000 and so many steps of 0.00001; a prime, so that a walk over it meets each once.
const STEPS: usize = 2_999_999;

/// What must come of the first messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// All of them.
    pub messages: usize,
    /// Those that are readings.
    pub points: u64,
    /// Those that are not.
    pub garbage: u64,
    /// Raised and cleared.
    pub alerts: u64,
    /// Over all readings, in any order.
    pub digest: u64,
}

/// The name of a topic. Those of an even number are in hall 0, the others in hall 1.
pub fn topic(number: usize) -> String {
    format!("dev/hall{}/machine{}/temperature", number % 2, number / 2)
}

/// The topic's number of a message.
pub fn topic_of(message: usize) -> usize {
    mix(message as u64) as usize % TOPICS
}

/// Appends the payload of a message.
pub fn payload(message: usize, to: &mut Vec<u8>) {
    if is_garbage(message) {
        to.extend_from_slice(garbage(message));
    } else {
        reading(message, to);
    }
}

/// Appends a message's payload as it is when the message is no garbage.
pub fn reading(message: usize, to: &mut Vec<u8>) {
    let hundred_thousandths = steps(message);
    let (whole, part) = (hundred_thousandths / 100_000, hundred_thousandths % 100_000);
    // Writing to a Vec cannot fail.
    let _ = write!(to, "{{\"v\":{whole}.{part:05},\"q\":\"good\",\"ts\":{},\"u\":\"°C\"}}", FIRST_MS + message);
}

/// Whether a message is garbage.
pub fn is_garbage(message: usize) -> bool {
    message % GARBAGE_EVERY == GARBAGE_EVERY - 1
}

/// The value of a message that is not garbage, as its payload says it.
pub fn value(message: usize) -> f64 {
    // The nearest to the decimal fraction: one division of two exact numbers rounds as reading its digits does.
    steps(message) as f64 / 100_000.0
}

/// The time of a message: microseconds since 1970-01-01 UTC.
pub fn time_us(message: usize) -> i64 {
    (FIRST_MS + message) as i64 * 1_000
}

fn steps(message: usize) -> usize {
    let normal = 2_000_000 + (message * 611_953) % STEPS;
    if mix(message as u64 ^ 0x5eed).is_multiple_of(1_000) { normal + 10_000_000 } else { normal }
}

fn garbage(message: usize) -> &'static [u8] {
    const KINDS: [&[u8]; 5] =
        [b"{\"v\":84.5,\"q\":\"go", b"\xff\xfe\x00\x01", b"[1,2,3]", b"{\"q\":\"good\"}", b"not a reading"];
    KINDS[message / GARBAGE_EVERY % KINDS.len()]
}

/// Adds up readings so that a wrong value, time or topic, a missing or a doubled reading shows. The order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Takes a reading in; `mark` is [`topic_mark`] of its topic.
    #[inline]
    pub fn add(&mut self, mark: u64, time_us: i64, value: f64) {
        self.0 = self.0.wrapping_add((value.to_bits() ^ (time_us as u64).rotate_left(20)).wrapping_mul(mark));
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Digest) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The sum.
    pub fn sum(self) -> u64 {
        self.0
    }
}

/// What stands for a topic's name in a [`Digest`]: odd, so that multiplying by it loses nothing.
pub fn topic_mark(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| mix(sum ^ u64::from(byte))) | 1
}

/// What must come of the first `messages`, with a threshold rule that watches for values above [`LIMIT`].
pub fn expected(messages: usize) -> Expected {
    expected_without(messages, is_garbage)
}

/// The messages that are readings.
pub fn readings(messages: usize) -> impl Iterator<Item = usize> {
    (0..messages).filter(|&message| !is_garbage(message))
}

/// The same where other messages are `lost`, if any.
pub fn expected_without(messages: usize, lost: impl Fn(usize) -> bool) -> Expected {
    let mut digest = Digest::default();
    let mut expected = Expected { messages, ..Expected::default() };
    let marks: Vec<u64> = (0..TOPICS).map(|number| topic_mark(&topic(number))).collect();
    let mut raised: HashMap<usize, bool> = HashMap::new();
    for message in 0..messages {
        if lost(message) {
            expected.garbage += 1;
            continue;
        }
        expected.points += 1;
        let number = topic_of(message);
        digest.add(marks[number], time_us(message), value(message));
        let above = value(message) > LIMIT;
        if raised.insert(number, above).unwrap_or(false) != above {
            expected.alerts += 1;
        }
    }
    expected.digest = digest.sum();
    expected
}

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014): the finisher of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Guarantees: what the benches promise of their input: a thousand topics and more, distinct values, 1 % garbage, some alerts.
    #[test]
    fn input_is_as_promised() {
        let messages = 100_000;
        let topics: HashSet<usize> = (0..messages).map(topic_of).collect();
        assert_eq!(topics.len(), TOPICS);
        let values: HashSet<u64> =
            (0..messages).filter(|&message| !is_garbage(message)).map(|message| value(message).to_bits()).collect();
        assert_eq!(values.len(), 99_000);
        let expected = expected(messages);
        assert_eq!((expected.points, expected.garbage), (99_000, 1_000));
        assert!(expected.alerts > 100, "{expected:?}");
    }

    /// Guarantees: the value that is expected is the one that the payload's digits say.
    #[test]
    fn payload_says_the_value() {
        for message in (0..300_000).filter(|&message| !is_garbage(message)).step_by(7) {
            let mut text = Vec::new();
            payload(message, &mut text);
            let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(json["v"].to_string().parse::<f64>().unwrap(), value(message));
            assert_eq!(json["ts"].as_i64().unwrap() * 1_000, time_us(message));
        }
    }

    /// Guarantees: a doubled, a lost or an altered reading changes the digest.
    #[test]
    fn digest_sees_faults() {
        let sum = |readings: &[(u64, i64, f64)]| {
            let mut digest = Digest::default();
            readings.iter().for_each(|&(mark, time, value)| digest.add(mark, time, value));
            digest.sum()
        };
        let (a, b) = ((topic_mark("a"), 1, 1.5), (topic_mark("b"), 2, 2.5));
        assert_eq!(sum(&[a, b]), sum(&[b, a]));
        for wrong in [&[a][..], &[a, b, b], &[(a.0, 1, 1.25), b], &[(b.0, 1, 1.5), (a.0, 2, 2.5)]] {
            assert_ne!(sum(wrong), sum(&[a, b]));
        }
    }
}
