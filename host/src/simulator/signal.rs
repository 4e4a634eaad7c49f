//! What physical quantities do: lag behind, swing, and never hold quite still.

use std::f64::consts::TAU;

use fastrand::Rng;

/// A device that was away for longer has caught up anyway.
const LONGEST_STEP_S: f64 = 60.0;

/// Noise around 0 whose standard deviation is about 1, never beyond ±3.5: a sum of three uniform numbers is bell enough.
pub fn noise(rng: &mut Rng) -> f64 {
    (rng.f64() + rng.f64() + rng.f64() - 1.5) * 2.0
}

/// A swing between -1 and 1 with a period of `period_s`.
pub fn swing(now_s: f64, period_s: f64, phase_s: f64) -> f64 {
    ((now_s + phase_s) / period_s * TAU).sin()
}

/// Whether a machine runs: it rests for 15 seconds of every two minutes.
pub fn runs(now_s: f64, phase_s: f64) -> bool {
    (now_s + phase_s) % 120.0 < 105.0
}

/// A quantity that follows its target with inertia, as heat does: by `1 - e^(-dt/tau)` of the way in `dt`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lagging {
    value: f64,
    started: bool,
}

impl Lagging {
    /// The value after `step_s` seconds on the way to `target`; it begins there.
    pub fn follow(&mut self, target: f64, tau_s: f64, step_s: f64) -> f64 {
        if !self.started {
            *self = Self { value: target, started: true };
        }
        self.value += (target - self.value) * (1.0 - (-step_s / tau_s).exp());
        self.value
    }
}

/// Seconds from one message of a device to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stopwatch(Option<i64>);

impl Stopwatch {
    /// Seconds since the last call, at most a minute; 0 the first time.
    pub fn step_s(&mut self, now_us: i64) -> f64 {
        let last_us = self.0.replace(now_us).unwrap_or(now_us);
        (now_us.saturating_sub(last_us) as f64 / 1e6).clamp(0.0, LONGEST_STEP_S)
    }
}
