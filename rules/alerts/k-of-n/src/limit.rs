//! The limit, and on which side of it a value is.

use std::fmt;

/// A limit on one side.
pub(crate) struct Limit {
    side: Side,
    at: f64,
    hysteresis: f64,
}

enum Side {
    Above,
    Below,
}

/// Where a value is.
pub(crate) enum Where {
    Beyond,
    /// Behind the limit, but not by as much as the hysteresis: as it was before.
    Between,
    Back,
}

impl Limit {
    pub(crate) fn new(above: Option<f64>, below: Option<f64>, hysteresis: f64) -> Result<Self, String> {
        let (side, at) = match (above, below) {
            (Some(at), None) => (Side::Above, at),
            (None, Some(at)) => (Side::Below, at),
            (None, None) => return Err("neither above nor below is given; give one of them".to_owned()),
            (Some(_), Some(_)) => return Err("above and below are both given; make two rules of it".to_owned()),
        };
        if !(0.0..f64::INFINITY).contains(&hysteresis) {
            return Err(format!("hysteresis is {hysteresis}; it must be 0 or more"));
        }
        Ok(Self { side, at, hysteresis })
    }

    #[inline]
    pub(crate) fn place(&self, value: f64) -> Where {
        let over = match self.side {
            Side::Above => value - self.at,
            Side::Below => self.at - value,
        };
        if over > 0.0 {
            Where::Beyond
        } else if over > -self.hysteresis {
            Where::Between
        } else {
            Where::Back
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Above => "above",
            Side::Below => "below",
        };
        write!(f, "{side} {}", self.at)
    }
}
