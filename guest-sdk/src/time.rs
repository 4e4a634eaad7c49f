//! Times as payloads write them.

use crate::rejects::Reason;

/// Times from here on are refused: 2262-04-11, where nanoseconds since 1970 end in 64 bits, which is
/// where databases and dashboards behind this end too. Microseconds.
pub const TIME_END_US: i64 = i64::MAX / 1_000;

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
