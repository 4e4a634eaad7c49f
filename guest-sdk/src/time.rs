//! Times as payloads write them.

use crate::rejects::Reason;

/// Times from here on are refused: 2262-04-11, where nanoseconds since 1970 end in 64 bits, which is
/// where databases and dashboards behind this end too. Microseconds.
pub const TIME_END_US: i64 = i64::MAX / 1_000;

/// A year, and a day for leap years.
const YEAR_S: f64 = 366.0 * 86_400.0;

/// A length of time that a configuration gives in seconds, in microseconds: `least` seconds to a year.
///
/// # Errors
/// A sentence that names `key`, when it is shorter, longer or no number.
pub fn seconds_to_us(key: &str, seconds: f64, least: f64) -> Result<i64, String> {
    if (least..=YEAR_S).contains(&seconds) {
        Ok((seconds * 1e6).round() as i64)
    } else {
        Err(format!("{key} is {seconds}; it must be seconds from {least} to a year"))
    }
}

/// What a number that is a time counts, since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    S,
    #[default]
    Ms,
    Us,
}

impl TimeUnit {
    /// The time in microseconds, rounded.
    ///
    /// # Errors
    /// When it is before 1970 or not before [`TIME_END_US`].
    #[inline]
    pub fn to_us(self, time: f64) -> Result<i64, Reason> {
        let us = time
            * match self {
                Self::S => 1e6,
                Self::Ms => 1e3,
                Self::Us => 1.0,
            };
        if (0.0..TIME_END_US as f64).contains(&us) {
            // To the nearest; `round` itself is a call in WebAssembly.
            Ok((us + 0.5) as i64)
        } else {
            Err(Reason::from("its time is before 1970 or after 2262-04-11; is time_unit right?"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what a configuration gives is taken from the least to a year, both included, and else refused by its name; no number is neither.
    #[test]
    fn seconds_of_a_configuration() {
        assert_eq!(seconds_to_us("for_s", 0.0, 0.0), Ok(0));
        assert_eq!(seconds_to_us("for_s", 1.5, 1.0), Ok(1_500_000));
        assert_eq!(seconds_to_us("for_s", YEAR_S, 1.0), Ok(366 * 86_400_000_000));
        for wrong in [0.999, -1.0, YEAR_S + 1.0, f64::INFINITY, f64::NAN] {
            let due = format!("for_s is {wrong}; it must be seconds from 1 to a year");
            assert_eq!(seconds_to_us("for_s", wrong, 1.0), Err(due));
        }
    }
}
