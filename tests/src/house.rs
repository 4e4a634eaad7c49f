//! A host that is fed by hand: readings go in by a broker of its own, and are settled before anything is said of them.

use crate::host::Host;
use crate::message::plain;
use crate::mosquitto::Mosquitto;
use crate::publisher::{Publisher, Qos};
use crate::setup::{Protocol, Setup};

/// A host and who feeds it. Readings are numbered in the order they are sent, which is that of their times.
#[derive(Debug)]
pub struct House {
    /// The host.
    pub host: Host,
    publisher: Publisher,
    /// Since the beginning.
    sent: u64,
    /// Since the host was last started.
    of_this_run: u64,
}

/// Whether the guests `brittle` and `tally` trap on a reading of [`House::count`]: on a few of each topic, and never so many that it is quarantined.
pub fn is_poison(number: u64) -> bool {
    number % 297 == 50
}

impl House {
    /// The host of `setup`, which takes readings of `dev/#` from the broker.
    pub fn start(broker: &Mosquitto, setup: Setup) -> Self {
        let host = setup.mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading").start();
        Self { host, publisher: Publisher::connect(broker, Qos::One), sent: 0, of_this_run: 0 }
    }

    /// Readings of these topics, each taken by the broker before the next; waits until all are settled.
    pub fn measure(&mut self, readings: &[(&str, f64)]) {
        for (topic, value) in readings {
            self.publisher.deliver([plain(topic, self.sent, *value)]);
            self.sent += 1;
        }
        self.settled(readings.len() as u64);
    }

    /// So many readings in one go, of so many topics of `dev/count` in turn, with poison among them; waits until all are settled.
    pub fn count(&mut self, readings: u64, topics: u64) {
        self.publisher.deliver((self.sent..self.sent + readings).map(|number| {
            let value = if is_poison(number) { 666.0 } else { 1.0 };
            plain(&format!("dev/count/t{}", number % topics), number, value)
        }));
        self.sent += readings;
        self.settled(readings);
    }

    /// How many readings were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of those sent were no poison, where all were of [`Self::count`].
    pub fn sound(&self) -> u64 {
        (0..self.sent).filter(|number| !is_poison(*number)).count() as u64
    }

    /// Waits until all is settled that was sent since the host was last started, of it so many messages just now; what was replayed beside is
    /// not counted, and settled too.
    pub fn settled(&mut self, more: u64) {
        self.of_this_run += more;
        self.host.wait_status("what was sent to be settled", |status| {
            let plant = status.sources.iter().find(|source| source.name == "plant")?.messages;
            (plant.received >= self.of_this_run && plant.in_flight == 0).then_some(())
        });
        self.host.wait_settled(0);
    }

    /// Ends the host in order and starts it again.
    pub fn restart(&mut self) {
        assert!(self.host.stop().success(), "{}", self.host.log());
        self.start_again();
    }

    /// The same with another number of lanes.
    pub fn restart_with(&mut self, lanes: u32) {
        assert!(self.host.stop().success(), "{}", self.host.log());
        self.host.set_lanes(lanes);
        self.start_again();
    }

    /// Starts it again after it has ended.
    pub fn start_again(&mut self) {
        self.host.start_again();
        self.of_this_run = 0;
    }
}
