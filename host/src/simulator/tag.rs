//! One tag of a PLC: a reading a message.

use std::io::Write;

use fastrand::Rng;

use crate::simulator::fault::{Fault, Planted};
use crate::simulator::signal::{Lagging, Stopwatch, noise, runs, swing};

/// What a tag measures; the tags of a PLC take them in turn.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Temperature,
    Current,
    Pressure,
    Vibration,
    Running,
    Count,
    Mode,
    Level,
}

const KINDS: [(Kind, &str); 8] = [
    (Kind::Temperature, "temp"),
    (Kind::Current, "current"),
    (Kind::Pressure, "pressure"),
    (Kind::Vibration, "vibration"),
    (Kind::Running, "running"),
    (Kind::Count, "count"),
    (Kind::Mode, "mode"),
    (Kind::Level, "level"),
];

/// One tag.
pub struct Tag {
    topic: String,
    kind: Kind,
    /// What it has, from time to time.
    pub planted: Option<Planted>,
    /// Of the machine, which all tags of a PLC share.
    machine_phase_s: f64,
    /// Of this tag.
    phase_s: f64,
    lagging: Lagging,
    counted: f64,
    stopwatch: Stopwatch,
    stuck_at: Option<f64>,
}

impl Tag {
    /// The `n`-th tag of a PLC, which is the `ordinal`-th of the plant; all from 0, named from 1.
    pub fn new(line: u32, plc: u32, n: u32, ordinal: usize, machine_phase_s: f64, rng: &mut Rng) -> Self {
        let (kind, name) = KINDS[n as usize % KINDS.len()];
        let again = n as usize / KINDS.len() + 1;
        let name = if again == 1 { name.to_owned() } else { format!("{name}-{again}") };
        let fault = match kind {
            Kind::Temperature => Some(Fault::Overheat),
            Kind::Pressure => Some(Fault::Silence),
            Kind::Vibration => Some(Fault::Stuck),
            Kind::Current => Some(Fault::BadQuality),
            Kind::Running | Kind::Count | Kind::Mode | Kind::Level => None,
        };
        // Only the first of its kind on a PLC: that is one a PLC, which the ordinal counts.
        let planted = fault.filter(|_| again == 1).and_then(|fault| Planted::new(fault, ordinal, 0));
        Self {
            topic: format!("dev/line{}/plc{}/{name}", line + 1, plc + 1),
            kind,
            planted,
            machine_phase_s,
            phase_s: rng.f64() * 1000.0,
            lagging: Lagging::default(),
            counted: f64::from(rng.u32(0..100_000)),
            stopwatch: Stopwatch::default(),
            stuck_at: None,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Appends its reading.
    pub fn write(&mut self, now_us: i64, fault: Option<Fault>, rng: &mut Rng, out: &mut Vec<u8>) {
        let step_s = self.stopwatch.step_s(now_us);
        let now_s = now_us as f64 / 1e6;
        let runs = runs(now_s, self.machine_phase_s);
        let phase_s = self.phase_s;
        let (ts, q) = (now_us / 1000, if fault == Some(Fault::BadQuality) { "bad" } else { "good" });
        // Writing to a Vec cannot fail.
        let _ = match self.kind {
            Kind::Running => write!(out, r#"{{"v":{runs},"q":"{q}","ts":{ts}}}"#),
            Kind::Mode => {
                let mode = match swing(now_s, 300.0, phase_s) {
                    _ if !runs => "idle",
                    s if s > 0.9 => "setup",
                    s if s < -0.95 => "manual",
                    _ => "auto",
                };
                write!(out, r#"{{"v":"{mode}","q":"{q}","ts":{ts}}}"#)
            }
            Kind::Count => {
                self.counted += if runs { 1.8 * step_s } else { 0.0 };
                write!(out, r#"{{"v":{},"q":"{q}","ts":{ts},"u":"pcs"}}"#, self.counted as u64)
            }
            Kind::Temperature => {
                let v = self.temperature(now_s, runs, fault, step_s) + 0.15 * noise(rng);
                write!(out, r#"{{"v":{v:.2},"q":"{q}","ts":{ts},"u":"°C"}}"#)
            }
            Kind::Current => {
                let load = 12.4 + 1.5 * swing(now_s, 37.0, phase_s) + 0.12 * noise(rng);
                let v = self.lagging.follow(if runs { load } else { 0.3 }, 0.5, step_s).max(0.0);
                write!(out, r#"{{"v":{v:.3},"q":"{q}","ts":{ts},"u":"A"}}"#)
            }
            Kind::Pressure => {
                let v = self.lagging.follow(if runs { 6.2 } else { 4.8 }, 4.0, step_s) + 0.03 * noise(rng);
                write!(out, r#"{{"v":{v:.3},"q":"{q}","ts":{ts},"u":"bar"}}"#)
            }
            Kind::Vibration => {
                let level = if runs { 2.1 + 0.3 * swing(now_s, 23.0, phase_s) } else { 0.1 };
                let v = (level + 0.08 * noise(rng)).max(0.0);
                let v = if fault == Some(Fault::Stuck) { *self.stuck_at.get_or_insert(v) } else { v };
                if fault.is_none() {
                    self.stuck_at = None;
                }
                write!(out, r#"{{"v":{v:.4},"q":"{q}","ts":{ts},"u":"mm/s"}}"#)
            }
            Kind::Level => {
                // A tank: filled fast, emptied slowly.
                let at = (now_s + phase_s) % 200.0;
                let level = if at < 30.0 { 20.0 + 2.5 * at } else { 95.0 - (at - 30.0) * 75.0 / 170.0 };
                write!(out, r#"{{"v":{:.1},"q":"{q}","ts":{ts},"u":"%"}}"#, level + 0.1 * noise(rng))
            }
        };
    }

    /// A motor: 62 to 70 °C at work, with thermal inertia; an overheating one heads for 115 °C.
    fn temperature(&mut self, now_s: f64, runs: bool, fault: Option<Fault>, step_s: f64) -> f64 {
        let target = match (fault, runs) {
            (Some(Fault::Overheat), _) => 115.0,
            (_, true) => 66.0 + 4.0 * swing(now_s, 90.0, self.phase_s),
            (_, false) => 45.0,
        };
        // Cooling and heating in a few seconds: a demo has no time for a real motor's quarter of an hour.
        self.lagging.follow(target, 3.0, step_s)
    }
}
