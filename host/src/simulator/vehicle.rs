//! One vehicle of the fleet: an object of many fields a message.

use std::io::Write;

use fastrand::Rng;

use crate::simulator::fault::{Fault, Planted};
use crate::simulator::signal::{Lagging, Stopwatch, noise, runs, swing};

/// One vehicle.
pub struct Vehicle {
    topic: String,
    /// What it has, from time to time.
    pub planted: Option<Planted>,
    phase_s: f64,
    motor: Lagging,
    battery: Lagging,
    odometer_km: f64,
    stopwatch: Stopwatch,
}

impl Vehicle {
    /// The `device`-th of a user, which is the `ordinal`-th of the fleet; all from 0, named from 1.
    pub fn new(user: u32, device: u32, ordinal: usize, rng: &mut Rng) -> Self {
        Self {
            topic: format!("users/u{}/devices/d{}/telemetry", user + 1, device + 1),
            planted: Planted::new(Fault::Overheat, ordinal, 0)
                .or(Planted::new(Fault::Silence, ordinal, 1))
                .or(Planted::new(Fault::FlatBattery, ordinal, 2)),
            phase_s: rng.f64() * 1000.0,
            motor: Lagging::default(),
            battery: Lagging::default(),
            odometer_km: f64::from(rng.u32(1_000..200_000)),
            stopwatch: Stopwatch::default(),
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Appends its object.
    pub fn write(&mut self, now_us: i64, fault: Option<Fault>, rng: &mut Rng, out: &mut Vec<u8>) {
        let step_s = self.stopwatch.step_s(now_us);
        let now_s = now_us as f64 / 1e6;
        let drives = runs(now_s, self.phase_s);
        let effort = if drives { 0.6 + 0.35 * swing(now_s, 41.0, self.phase_s) } else { 0.0 };
        let heat = if fault == Some(Fault::Overheat) { 115.0 } else { 30.0 + 40.0 * effort };
        let motor_c = self.motor.follow(heat, 3.0, step_s) + 0.2 * noise(rng);
        let charge =
            if fault == Some(Fault::FlatBattery) { 5.0 } else { 65.0 + 30.0 * swing(now_s, 600.0, self.phase_s) };
        let battery = self.battery.follow(charge, 2.0, step_s).clamp(0.0, 100.0);
        let speed_kmh = (80.0 * effort + 0.8 * noise(rng)).max(0.0);
        self.odometer_km += speed_kmh * step_s / 3600.0;
        let rpm = if drives { 800.0 + 3200.0 * effort + 15.0 * noise(rng) } else { 0.0 };
        let cabin_c = 21.0 + 1.5 * swing(now_s, 240.0, self.phase_s) + 0.1 * noise(rng);
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            r#"{{"ts":{},"state":"{}","speed":{speed_kmh:.1},"battery":{battery:.1},"odometer":{:.3},"cabin":{{"temp":{cabin_c:.1},"door_open":{}}},"motor":{{"temp":{motor_c:.2},"rpm":{rpm:.0},"current":{:.2}}}}}"#,
            now_us / 1000,
            if drives { "driving" } else { "parked" },
            self.odometer_km,
            !drives && swing(now_s, 7.0, self.phase_s) > 0.3,
            (120.0 * effort + 0.5 * noise(rng)).max(0.0),
        );
    }
}
