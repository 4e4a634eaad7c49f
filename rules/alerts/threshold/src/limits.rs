//! The two limits, and when a value is beyond one or back behind it.

use serde::{Deserialize, Serialize};

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    Above,
    Below,
}

impl Side {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// Limits that can be. One that is not wanted is infinite, so that no value is beyond it.
pub(crate) struct Limits {
    above: f64,
    below: f64,
    hysteresis: f64,
    /// As alerts say them: written once, for they are the same in each.
    above_in_words: String,
    below_in_words: String,
}

impl Limits {
    pub(crate) fn new(above: Option<f64>, below: Option<f64>, hysteresis: f64) -> Result<Self, String> {
        if above.is_none() && below.is_none() {
            return Err("neither above nor below is given; give a limit".to_owned());
        }
        if let (Some(above), Some(below)) = (above, below)
            && below >= above
        {
            return Err(format!("below ({below}) must be less than above ({above})"));
        }
        if !(0.0..f64::INFINITY).contains(&hysteresis) {
            return Err(format!("hysteresis is {hysteresis}; it must be 0 or more"));
        }
        let (above, below) = (above.unwrap_or(f64::INFINITY), below.unwrap_or(f64::NEG_INFINITY));
        let (above_in_words, below_in_words) = (above.to_string(), below.to_string());
        Ok(Self { above, below, hysteresis, above_in_words, below_in_words })
    }

    /// Whether a value is a number beyond neither limit.
    #[inline]
    pub(crate) fn hold(&self, value: f64) -> bool {
        value <= self.above && value >= self.below
    }

    /// Which limit a number is beyond.
    pub(crate) fn beyond(&self, value: f64) -> Option<Side> {
        if value > self.above {
            Some(Side::Above)
        } else if value < self.below {
            Some(Side::Below)
        } else {
            None
        }
    }

    /// Whether a value is far enough back for an alert on this side to be cleared.
    pub(crate) fn back(&self, side: Side, value: f64) -> bool {
        match side {
            Side::Above => value <= self.above - self.hysteresis,
            Side::Below => value >= self.below + self.hysteresis,
        }
    }

    /// A limit as alerts say it.
    pub(crate) fn in_words(&self, side: Side) -> &str {
        match side {
            Side::Above => &self.above_in_words,
            Side::Below => &self.below_in_words,
        }
    }
}
