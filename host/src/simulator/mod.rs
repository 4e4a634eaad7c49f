//! A plant and a fleet that do not exist, with believable signals and faults on a schedule.
//!
//! Pure: no I/O, no clock of its own. The same plan and the same times give the same messages, byte by byte.
//!
//! - Fleet: JSON objects on `users/u<n>/devices/d<n>/telemetry` ([`vehicle`]).
//! - Plant: readings `{"v":…,"q":…,"ts":…,"u":…}` on `dev/line<n>/plc<n>/<tag>` ([`tag`]); tags are `temp`, `current`,
//!   `pressure`, `vibration`, `running`, `count`, `mode`, `level`, then `temp-2` and so on.
//! - Faults: see [`fault`]. Garbage: a share of all messages, see [`garbage`].

mod fault;
mod garbage;
mod signal;
mod tag;
#[cfg(test)]
mod tests;
mod vehicle;

use fastrand::Rng;

use crate::simulator::fault::{Fault, Planted, Schedule};
use crate::simulator::tag::Tag;
use crate::simulator::vehicle::Vehicle;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Users of the fleet; 0 for no fleet.
    pub users: u32,
    /// Devices of each user.
    pub devices_per_user: u32,
    /// Lines, PLCs of each line, tags of each PLC; 0 for no plant.
    pub plant: (u32, u32, u32),
    /// How many of all messages are garbage: 0.0 to 1.0.
    pub garbage_share: f64,
    /// Whether faults are planted.
    pub faults: Faults,
    /// Another seed, another plant.
    pub seed: u64,
}

/// Whether faults are planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// On some devices, by the schedule in [`fault`].
    Planted,
    /// All devices are sound.
    None,
}

/// Devices that take turns in sending a message.
pub struct Simulator {
    devices: Vec<Device>,
    turn: usize,
    schedule: Option<Schedule>,
    garbage_share: f64,
    garbage: u64,
    rng: Rng,
    payload: Vec<u8>,
}

enum Device {
    Tag(Tag),
    Vehicle(Vehicle),
}

impl Device {
    fn topic(&self) -> &str {
        match self {
            Device::Tag(tag) => tag.topic(),
            Device::Vehicle(vehicle) => vehicle.topic(),
        }
    }

    fn planted(&self) -> Option<Planted> {
        match self {
            Device::Tag(tag) => tag.planted,
            Device::Vehicle(vehicle) => vehicle.planted,
        }
    }
}

impl Simulator {
    /// Builds the devices of `plan`, about 200 bytes each. A plan without any gets one tag.
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let fleet = (0..plan.users).flat_map(|user| (0..plan.devices_per_user).map(move |device| (user, device)));
        let mut devices: Vec<Device> = fleet
            .enumerate()
            .map(|(n, (user, device))| Device::Vehicle(Vehicle::new(user, device, n, &mut rng)))
            .collect();
        let (lines, plcs, tags) = plan.plant;
        let mut ordinal = 0;
        for line in 0..lines {
            for plc in 0..plcs {
                // What the tags of one PLC share: whether the machine runs.
                let machine_phase_s = rng.f64() * 1000.0;
                devices.extend(
                    (0..tags).map(|n| Device::Tag(Tag::new(line, plc, n, ordinal, machine_phase_s, &mut rng))),
                );
                ordinal += 1;
            }
        }
        if devices.is_empty() {
            devices.push(Device::Tag(Tag::new(0, 0, 0, 0, 0.0, &mut rng)));
        }
        Self {
            devices,
            turn: 0,
            schedule: (plan.faults == Faults::Planted).then(Schedule::default),
            garbage_share: plan.garbage_share,
            garbage: 0,
            rng,
            payload: Vec::with_capacity(512),
        }
    }

    /// The next message, topic and payload, at `now_us`, microseconds since 1970; times must not go backwards.
    ///
    /// Devices take turns; those that are silent just now are passed over.
    pub fn next(&mut self, now_us: i64) -> (&str, &[u8]) {
        let elapsed_s = self.schedule.as_mut().map(|schedule| schedule.elapsed_s(now_us));
        let (mut index, mut fault) = (self.turn, None);
        // Should all be silent at once, the last one speaks after all.
        for _ in 0..self.devices.len() {
            index = self.turn;
            self.turn = (self.turn + 1) % self.devices.len();
            fault = elapsed_s.and_then(|now| self.devices[index].planted()?.now(now));
            if fault != Some(Fault::Silence) {
                break;
            }
        }
        let device = &mut self.devices[index];
        self.payload.clear();
        match device {
            Device::Tag(tag) => tag.write(now_us, fault, &mut self.rng, &mut self.payload),
            Device::Vehicle(vehicle) => vehicle.write(now_us, fault, &mut self.rng, &mut self.payload),
        }
        if self.garbage_share > 0.0 && self.rng.f64() < self.garbage_share {
            garbage::spoil(&mut self.payload, &mut self.rng);
            self.garbage += 1;
        }
        (device.topic(), &self.payload)
    }

    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// How many of the messages so far were garbage.
    pub fn garbage(&self) -> u64 {
        self.garbage
    }
}
