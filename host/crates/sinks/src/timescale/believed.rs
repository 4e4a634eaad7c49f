//! Which times of points are believed.
//!
//! Each day that a time names is a chunk, a table with its indexes, and one in the future is neither compressed nor dropped before that day comes. So a device
//! whose clock says 2106 is not obeyed, and neither is one whose clock says 1970 where the sink is told so. What is past is judged by when it was received: a
//! point that has waited for the database in a spool has not become wrong by that.

use std::time::Duration;

use tidegate_config::TimescaleSink;

/// 2025-01-01. A clock of our own before that has never been set: many devices start so. Then nothing can be said of the clocks of others.
const SET_US: i64 = tidegate_model::EARLIEST_S as i64 * 1_000_000;

/// For how long a host may have been away whose records come again: so long ago their points may have been judged before.
const AWAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// The times from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Believed {
    from_us: i64,
    to_us: i64,
    /// How far behind its receipt a point may be.
    behind_us: i64,
    /// What is further ahead may not have been believed when it came before.
    doubtful_us: i64,
}

impl Believed {
    /// All times.
    pub(super) const ANY: Self =
        Self { from_us: i64::MIN, to_us: i64::MAX, behind_us: i64::MAX, doubtful_us: i64::MAX };

    /// Those near enough to now.
    pub(super) fn near(now_us: i64, settings: &TimescaleSink) -> Self {
        let us = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
        // The clock may have been set when it came before.
        let doubtful = |ahead: Duration| now_us.max(SET_US).saturating_add(us(ahead) - us(ahead.min(AWAY)));
        let doubtful_us = settings.ahead.map_or(i64::MAX, doubtful);
        if now_us < SET_US {
            return Self { doubtful_us, ..Self::ANY };
        }
        Self {
            from_us: settings.behind.map_or(i64::MIN, |behind| now_us.saturating_sub(us(behind))),
            to_us: settings.ahead.map_or(i64::MAX, |ahead| now_us.saturating_add(us(ahead))),
            behind_us: settings.behind.map_or(i64::MAX, us),
            doubtful_us,
        }
    }

    /// Whether a time is one of them.
    #[inline]
    fn has(self, time_us: i64) -> bool {
        (self.from_us..=self.to_us).contains(&time_us)
    }

    /// Why a time is none of them, where it is none; when its message was received is only asked where that matters.
    #[inline]
    pub(super) fn why_not(self, time_us: i64, received_us: impl FnOnce() -> Option<i64>) -> Option<String> {
        if self.has(time_us) {
            return None;
        }
        let from_us = received_us().map_or(i64::MAX, |received_us| received_us.saturating_sub(self.behind_us));
        let then = Self { from_us: self.from_us.min(from_us), ..self };
        (!then.has(time_us)).then(|| then.objection(time_us))
    }

    /// Why a point may be nowhere whose message is stored already: it is so far ahead that it may have been too far when it came before, and whoever was to
    /// hear of that died.
    pub(super) fn doubt(self, time_us: i64) -> Option<String> {
        (time_us > self.doubtful_us).then(|| {
            format!(
                "its record comes a second time, and its time ({time_us} µs) is so far ahead that `ahead_hours` of the sink may have refused it when it came \
                 first: look whether it is stored before you put it back"
            )
        })
    }

    fn objection(self, time_us: i64) -> String {
        const HOUR_US: u64 = 3_600_000_000;
        let (beyond, setting, side) = if time_us > self.to_us {
            (time_us.abs_diff(self.to_us), "ahead_hours", "ahead of this host's clock")
        } else {
            (time_us.abs_diff(self.from_us), "behind_days", "behind its receipt")
        };
        format!(
            "its time ({time_us} µs) is {:.1} h further {side} than `{setting}` of the sink allows",
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

    const DAY_US: i64 = 24 * HOUR_US;

    fn near(now_us: i64, ahead: Option<i64>, behind: Option<i64>) -> Believed {
        let mut settings = TimescaleSink::new(Secret::new("postgres://h/d"));
        let distance = |us: i64| Duration::from_micros(us.unsigned_abs());
        (settings.ahead, settings.behind) = (ahead.map(distance), behind.map(distance));
        Believed::near(now_us, &settings)
    }

    /// Guarantees: by default 366 days ahead is the last that is believed, and anything before; both bounds are what they are set to, or none; a host whose
    /// own clock was never set believes everybody.
    #[test]
    fn what_is_near() {
        let settings = TimescaleSink::new(Secret::new("postgres://h/d"));
        let now = SET_US + 1;
        let by_default = Believed::near(now, &settings);
        let at = now + 366 * DAY_US;
        assert_eq!([i64::MIN, 0, now, at, at + 1].map(|time| by_default.has(time)), [true, true, true, true, false]);
        let why = |believed: Believed, time| believed.why_not(time, || None).unwrap();
        assert!(
            why(by_default, at + 3 * HOUR_US).contains("3.0 h further ahead of this host's clock than `ahead_hours`")
        );
        let unset = Believed::near(SET_US - 1, &settings);
        assert!(unset.has(i64::MIN) && unset.has(i64::MAX));
        let other = near(now, None, Some(HOUR_US));
        assert_eq!([now - HOUR_US - 1, now - HOUR_US, i64::MAX].map(|time| other.has(time)), [false, true, true]);
        assert!(why(other, now - 2 * HOUR_US).contains("1.0 h further behind its receipt than `behind_days`"));
        assert!(why(other, i64::MIN).contains("behind_days") && why(by_default, i64::MAX).contains("ahead_hours"));
    }

    /// Guarantees: what was near enough when it was received stays so however long it waits; a time of receipt that is to come makes nothing older.
    #[test]
    fn what_has_waited() {
        let now = SET_US + 1;
        let believed = near(now, None, Some(HOUR_US));
        let received = now - 50 * DAY_US;
        let refused = |time, received_us| believed.why_not(time, || Some(received_us)).is_some();
        assert_eq!([-1, 0].map(|more| refused(received - HOUR_US + more, received)), [true, false]);
        assert_eq!([-1, 0].map(|more| refused(now - HOUR_US + more, now + DAY_US)), [true, false]);
    }

    /// Guarantees: of what comes again only what a host would have refused that has been away for a month at most is in doubt, and nothing where any is believed.
    #[test]
    fn what_is_in_doubt() {
        let now = SET_US + 1;
        for (ahead, from) in [(366 * DAY_US, 336 * DAY_US), (HOUR_US, 0)] {
            let believed = near(now, Some(ahead), None);
            assert_eq!([0, 1].map(|more| believed.doubt(now + from + more).is_some()), [false, true], "{ahead}");
        }
        assert!(near(0, Some(HOUR_US), None).doubt(SET_US + 1).is_some(), "whose clock is not set any more");
        assert_eq!(near(now, None, None).doubt(i64::MAX), None);
    }
}
