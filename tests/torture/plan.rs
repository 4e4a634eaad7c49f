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
    /// SIGKILL, with or without having been told to write its disk so long before; started again after so long.
    KillBroker { saves: Option<Duration>, down: Duration },
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

/// A site where a host ends by itself (crate `fail`), when it has passed it so many times since its start.
#[derive(Clone, Copy, Debug)]
pub struct Arming {
    pub site: &'static str,
    pub passes: u32,
    /// It is started again after so long.
    pub down: Duration,
    /// What makes it come there, where it would not soon by itself.
    pub goad: Option<Blow>,
}

/// The sites, and below how many passes it ends there. The first few of `swap-within` are those of the start.
const SITES: [(&str, u32); 10] = [
    ("copy-before", 200),
    ("commit-before", 200),
    ("copy-after", 200),
    ("commit-after", 200),
    ("ack-before", 200),
    ("swap-within", 8),
    ("state-save-within", 8),
    ("spool-write-within", 40),
    ("spool-write-after", 40),
    ("spool-remove-before", 10),
];

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
    /// For armings, which are asked for as hosts start: these are not to change the steps.
    armings: fastrand::Rng,
    broker: Broker,
}

/// Whether the MQTT broker is killed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    Killed,
    /// It keeps its promises, so that whatever is missing is ours; its kills are the host's instead.
    Spared,
}

impl Plan {
    pub fn new(seed: u64, broker: Broker) -> Self {
        let random = fastrand::Rng::with_seed;
        Self { random: random(seed), armings: random(!seed), broker }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let random = &mut self.random;
        // A third comes right behind the one before: a host that has just started, a line that has just been repaired.
        let after = millis(if random.u8(..3) == 0 { random.u64(0..300) } else { random.u64(300..3_500) });
        let line = if random.bool() { Line::Broker } else { Line::Database };
        let how = if random.bool() { Replace::Rename } else { Replace::Overwrite };
        let blow = match random.u8(..100) {
            45..49 => Blow::StopHost,
            49..58 if self.broker == Broker::Killed => {
                let saves = random.bool().then(|| millis(random.u64(0..200)));
                Blow::KillBroker { saves, down: millis(random.u64(0..2_000)) }
            }
            0..58 => Blow::KillHost { down: millis(random.u64(0..1_000)) },
            58..68 => {
                // Some so long that the sink's spool fills.
                let longest = if random.u8(..4) == 0 { 20_000 } else { 8_000 };
                Blow::KillDatabase { down: millis(random.u64(0..longest)) }
            }
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

    /// Where a host that is about to start will end.
    pub fn arming(&mut self) -> Arming {
        let random = &mut self.armings;
        let (site, most) = SITES[random.usize(..SITES.len())];
        let mark = random.u32(..);
        // Beyond the grace of a write, so that the spool is used.
        let down = millis(random.u64(2_500..5_000));
        let goad = match site {
            "swap-within" => Some(Blow::ReplaceModule { mark, how: Replace::Rename }),
            site if site.starts_with("spool-") => Some(Blow::KillDatabase { down }),
            _ => None,
        };
        Arming { site, passes: random.u32(..most), down: millis(random.u64(0..1_000)), goad }
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
            Self::KillBroker { saves: None, down } => write!(f, "kill -9 of the broker, down for {down:?}"),
            Self::KillBroker { saves: Some(before), down } => {
                write!(f, "kill -9 of the broker {before:?} after it was told to save, down for {down:?}")
            }
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
        let choices = |seed, armings| {
            let mut plan = Plan::new(seed, Broker::Killed);
            let armed: Vec<_> = (0..armings).map(|_| format!("{:?}", plan.arming())).collect();
            ((0..200).map(|_| format!("{:?}", plan.step())).collect::<Vec<_>>(), armed)
        };
        assert_eq!(choices(7, 20), choices(7, 20));
        assert_eq!(choices(7, 20).0, choices(7, 0).0, "armings change no steps");
        assert_ne!(choices(7, 20).0, choices(8, 20).0);
        assert_ne!(choices(7, 20).1, choices(8, 20).1);
    }

    /// Guarantees: everything that may happen does, in a run of the usual length, and a broker that is spared is not killed.
    #[test]
    fn everything_happens() {
        let blows = |broker| {
            let mut plan = Plan::new(1, broker);
            let name = |step: Step| format!("{:?}", step.blow).split(' ').next().map(str::to_owned);
            (0..400).filter_map(|_| name(plan.step())).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(blows(Broker::Killed).len(), 8);
        assert!(!blows(Broker::Spared).contains("KillBroker"));
        let mut plan = Plan::new(1, Broker::Killed);
        let sites: std::collections::BTreeSet<_> = (0..100).map(|_| plan.arming().site).collect();
        assert_eq!(sites.len(), SITES.len());
    }
}
