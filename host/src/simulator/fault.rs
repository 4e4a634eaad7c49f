//! Faults on a schedule, so that who watches knows what to see and when.
//!
//! Each kind strikes once in [`CYCLE_S`] seconds, on one device in [`ONE_IN`] of the fitting kind; the first of them strikes at
//! the time below, the next ones are shifted by [`SHIFT_S`] each, so that a large plant does not fail all at once.
//!
//! | fault | from (s) | for (s) | on | seen as |
//! |---|---|---|---|---|
//! | overheat | 4 | 6 | `temp` tags, `motor.temp` of vehicles | a climb above 90 °C (sound: below 75), then recovery |
//! | silence | 3 | 9 | `pressure` tags, vehicles | no message |
//! | stuck | 5 | 12 | `vibration` tags | the very same value again and again |
//! | bad quality | 6 | 5 | `current` tags | `"q":"bad"` |
//! | flat battery | 5 | 7 | `battery` of vehicles | below 15 % (sound: above 30) |

/// Each fault comes back after so many seconds.
pub const CYCLE_S: f64 = 30.0;
/// One device in so many of a kind is faulty.
pub const ONE_IN: usize = 20;
/// The next faulty device of a kind fails so many seconds later.
const SHIFT_S: f64 = 7.0;

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too hot.
    Overheat,
    /// Says nothing.
    Silence,
    /// Says the same again and again.
    Stuck,
    /// Says that it is not to be trusted.
    BadQuality,
    /// Runs out of power.
    FlatBattery,
}

impl Fault {
    /// When it begins in its cycle and how long it lasts, in seconds.
    const fn window_s(self) -> (f64, f64) {
        match self {
            Fault::Overheat => (4.0, 6.0),
            Fault::Silence => (3.0, 9.0),
            Fault::Stuck => (5.0, 12.0),
            Fault::BadQuality => (6.0, 5.0),
            Fault::FlatBattery => (5.0, 7.0),
        }
    }
}

/// A fault that a device has, from time to time.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    fault: Fault,
    shift_s: f64,
}

impl Planted {
    /// The fault of the `ordinal`-th device of the kind that can have `fault`, if it is one of the faulty ones; those are the
    /// devices whose number leaves `rest` when divided by [`ONE_IN`].
    pub fn new(fault: Fault, ordinal: usize, rest: usize) -> Option<Self> {
        let shift_s = (ordinal / ONE_IN) as f64 * SHIFT_S;
        (ordinal % ONE_IN == rest).then_some(Self { fault, shift_s })
    }

    /// The fault, if it strikes at `elapsed_s` seconds from the begin.
    pub fn now(self, elapsed_s: f64) -> Option<Fault> {
        let (from_s, for_s) = self.fault.window_s();
        let since_s = elapsed_s - from_s - self.shift_s % CYCLE_S;
        (since_s >= 0.0 && since_s % CYCLE_S < for_s).then_some(self.fault)
    }
}

/// Counts the seconds from the first message.
#[derive(Default)]
pub struct Schedule {
    began_us: Option<i64>,
}

impl Schedule {
    /// Seconds since the first call.
    pub fn elapsed_s(&mut self, now_us: i64) -> f64 {
        let began_us = *self.began_us.get_or_insert(now_us);
        now_us.saturating_sub(began_us) as f64 / 1e6
    }
}
