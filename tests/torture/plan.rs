//! What may happen, and the choices that a seed makes.

use std::fmt;
use std::time::Duration;

use tidegate_tests::{Fault, Way};

/// Something that happens after a while of load.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub after: Duration,
    pub blow: Blow,
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// SIGKILL; started again after so long. What else is broken then stays so.
    KillHost { down: Duration },
    /// SIGTERM, and started again at once.
    StopHost,
    /// SIGKILL; started again after so long.
    KillBroker { down: Duration },
    /// SIGKILL to the server and all its processes; started again after so long.
    KillDatabase { down: Duration },
    /// The line is so for so long.
    Break { line: Line, fault: Fault, span: Duration },
    /// The line is cut when so many bytes more have passed.
    Cut { line: Line, way: Way, bytes: usize },
    /// The decoder's module is replaced by one with another hash.
    ReplaceModule { mark: u32, how: Replace },
    /// The alert's file gets another limit.
    ChangeRule { limit: u32, how: Replace },
}

/// A line from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Broker,
    Database,
}

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Rename,
    Overwrite,
}

/// The choices of one seed. They depend on nothing else: not on time, and not on what came of earlier ones.
#[derive(Debug)]
pub struct Plan {
    random: fastrand::Rng,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let random = &mut self.random;
        // A third comes right behind the one before: a host that has just started, a line that has just been repaired.
        let after = millis(if random.u8(..3) == 0 { random.u64(0..300) } else { random.u64(300..3_500) });
        let line = if random.bool() { Line::Broker } else { Line::Database };
        let how = if random.bool() { Replace::Rename } else { Replace::Overwrite };
        let blow = match random.u8(..100) {
            0..45 => Blow::KillHost { down: millis(random.u64(0..1_000)) },
            45..49 => Blow::StopHost,
            49..58 => Blow::KillBroker { down: millis(random.u64(0..2_000)) },
            58..68 => Blow::KillDatabase { down: millis(random.u64(0..8_000)) },
            68..80 => Blow::Break { line, fault: fault(random), span: millis(random.u64(200..5_000)) },
            80..90 => {
                let way = if random.bool() { Way::ToServer } else { Way::ToClient };
                Blow::Cut { line, way, bytes: random.usize(1..100_000) }
            }
            90..95 => Blow::ReplaceModule { mark: random.u32(..), how },
            _ => Blow::ChangeRule { limit: random.u32(1..100_000), how },
        };
        Step { after, blow }
    }
}

fn fault(random: &mut fastrand::Rng) -> Fault {
    match random.u8(..4) {
        0 => Fault::Refused,
        1 => Fault::Stalled,
        2 => Fault::Delayed(millis(random.u64(10..500))),
        _ => Fault::Trickling(millis(random.u64(1..5))),
    }
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillHost { down } => write!(f, "kill -9 of the host, down for {down:?}"),
            Self::StopHost => write!(f, "SIGTERM to the host"),
            Self::KillBroker { down } => write!(f, "kill -9 of the broker, down for {down:?}"),
            Self::KillDatabase { down } => write!(f, "kill -9 of the database, down for {down:?}"),
            Self::Break { line, fault, span } => write!(f, "line to the {line}: {fault:?} for {span:?}"),
            Self::Cut { line, way, bytes } => write!(f, "line to the {line}: cut {way:?} within {bytes} bytes"),
            Self::ReplaceModule { how, .. } => write!(f, "the decoder replaced ({how:?})"),
            Self::ChangeRule { how, .. } => write!(f, "a rule's file changed ({how:?})"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker",
            Self::Database => "database",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a seed makes the same choices again, another one others.
    #[test]
    fn a_seed_makes_the_same_choices() {
        let choices = |seed| {
            let mut plan = Plan::new(seed);
            (0..200).map(|_| format!("{:?}", plan.step())).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }
}
