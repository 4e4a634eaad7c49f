//! How much a rule may log.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// The second at hand.
#[derive(Debug, Default)]
pub(super) struct LogSecond {
    began: Option<Instant>,
    written: u64,
    said_so: bool,
    /// Lines left out since the start.
    pub dropped: u64,
}

/// What may be written of what was wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedLines {
    /// How many lines: the first.
    pub lines: usize,
    /// Lines were left out, for the first time in this second.
    pub say_so: bool,
}

impl LogSecond {
    pub fn take(&mut self, now: Instant, wanted: u64, most: u64) -> AllowedLines {
        if self.began.is_none_or(|began| now.duration_since(began) >= SECOND) {
            *self = Self { began: Some(now), dropped: self.dropped, ..Self::default() };
        }
        let lines = wanted.min(most.saturating_sub(self.written));
        self.written += lines;
        self.dropped += wanted - lines;
        let say_so = lines < wanted && !std::mem::replace(&mut self.said_so, true);
        AllowedLines { lines: lines as usize, say_so }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: so many lines a second and no more; that some were left out is said once a second.
    #[test]
    fn so_many_a_second() {
        let (mut second, start) = (LogSecond::default(), Instant::now());
        let mut take = |at_ms: u64, wanted| {
            let allowed = second.take(start + Duration::from_millis(at_ms), wanted, 20);
            (allowed.lines, allowed.say_so)
        };
        assert_eq!(take(0, 15), (15, false));
        assert_eq!(take(1, 10_000), (5, true));
        assert_eq!(take(999, 10), (0, false));
        assert_eq!(take(1_000, 10), (10, false));
        assert_eq!(take(1_500, 11), (10, true));
        assert_eq!(second.dropped, 9_995 + 10 + 1);
    }
}
