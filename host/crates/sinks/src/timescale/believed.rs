//! Which times of points are believed.
//!
//! Each day that a time names is a chunk, a table with its indexes, and one in the future is neither compressed nor dropped before that day comes. So a device
//! whose clock says 2106 is not obeyed, and neither is one whose clock says 1970 where the sink is told so.

use std::time::Duration;

use tidegate_config::TimescaleSink;

/// 2025-01-01. A clock of our own before that has never been set: many devices start so. Then nothing can be said of the clocks of others.
const SET_US: i64 = 1_735_689_600_000_000;

/// The times from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Believed {
    from_us: i64,
    to_us: i64,
}

impl Believed {
    /// All times.
    pub(super) const ANY: Self = Self { from_us: i64::MIN, to_us: i64::MAX };

    /// Those near enough to now.
    pub(super) fn near(now_us: i64, settings: &TimescaleSink) -> Self {
        if now_us < SET_US {
            return Self::ANY;
        }
        let us = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
        Self {
            from_us: settings.behind.map_or(i64::MIN, |behind| now_us.saturating_sub(us(behind))),
            to_us: settings.ahead.map_or(i64::MAX, |ahead| now_us.saturating_add(us(ahead))),
        }
    }

    /// Whether a time is one of them.
    #[inline]
    pub(super) fn has(self, time_us: i64) -> bool {
        (self.from_us..=self.to_us).contains(&time_us)
    }

    /// Why a time is none of them.
    pub(super) fn why_not(self, time_us: i64) -> String {
        const HOUR_US: u64 = 3_600_000_000;
        let (beyond, setting, side) = if time_us > self.to_us {
            (time_us.abs_diff(self.to_us), "ahead_hours", "ahead of")
        } else {
            (time_us.abs_diff(self.from_us), "behind_days", "behind")
        };
        format!(
            "its time ({time_us} µs) is {:.1} h further {side} this host's clock than `{setting}` of the sink allows",
            beyond as f64 / HOUR_US as f64
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_config::Secret;

    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    /// Guarantees: by default a day ahead is the last that is believed, and anything before; both bounds are what they are set to, or none; a host whose own
    /// clock was never set believes everybody.
    #[test]
    fn what_is_near() {
        let mut settings = TimescaleSink::new(Secret::new("postgres://h/d"));
        let now = SET_US + 1;
        let by_default = Believed::near(now, &settings);
        let at = now + 24 * HOUR_US;
        assert_eq!([i64::MIN, 0, now, at, at + 1].map(|time| by_default.has(time)), [true, true, true, true, false]);
        assert!(
            by_default
                .why_not(at + 3 * HOUR_US)
                .contains("3.0 h further ahead of this host's clock than `ahead_hours`")
        );
        assert_eq!(Believed::near(SET_US - 1, &settings), Believed::ANY);
        (settings.ahead, settings.behind) = (None, Some(Duration::from_secs(3600)));
        let other = Believed::near(now, &settings);
        assert_eq!([now - HOUR_US - 1, now - HOUR_US, i64::MAX].map(|time| other.has(time)), [false, true, true]);
        assert!(
            other.why_not(now - 2 * HOUR_US).contains("1.0 h further behind this host's clock than `behind_days`")
        );
        assert!(
            other.why_not(i64::MIN).contains("behind_days") && by_default.why_not(i64::MAX).contains("ahead_hours")
        );
    }
}
