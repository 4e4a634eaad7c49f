//! What is known of each message while it is under way.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One line a message, by its number.
#[derive(Debug, Default)]
pub struct Book {
    lines: Mutex<Vec<Line>>,
    counts: Mutex<Counts>,
    /// Which of its lives the MQTT broker is in: even while it runs, odd while it does not.
    life: AtomicU32,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages the MQTT broker has taken.
    pub by_mqtt: u64,
    /// Of these, those the host has acknowledged.
    pub settled: u64,
    /// Deliveries of the MQTT broker beyond the first.
    pub redelivered: u64,
    /// Messages the Kafka brokers have taken.
    pub by_kafka: u64,
}

/// By which way a message goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Road {
    #[default]
    Mqtt,
    Kafka,
}

/// A life of the MQTT broker, from start to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(u32);

/// A message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    pub road: Road,
    /// The broker has promised it to us; by MQTT, in which life.
    pub taken: Option<Life>,
    /// How often the MQTT broker gave it to the host.
    pub deliveries: u32,
    /// In which life the broker did so last.
    pub delivered: Option<Life>,
    /// The host has acknowledged it to the MQTT broker.
    pub settled: bool,
    /// The last life of the broker that left it not on its disk when it was killed.
    pub missing: Option<Life>,
}

impl Line {
    /// Whether the broker was killed with the message in it, not on its disk, and not acknowledged by the host: it had promised
    /// the message and could not give it to anybody any more.
    pub fn lost_by_broker(&self) -> bool {
        let (Some(taken), Some(missing)) = (self.taken, self.missing) else { return false };
        // A broker that still took it, or gave it to the host, in a later life had it, wherever from.
        !self.settled && taken <= missing && self.delivered.is_none_or(|last| last <= missing)
    }
}

impl Book {
    /// The number of the next message.
    pub fn open(&self, road: Road) -> u64 {
        let mut lines = self.lines();
        lines.push(Line { road, ..Line::default() });
        lines.len() as u64 - 1
    }

    /// The broker has acknowledged it to the publisher.
    pub fn taken(&self, number: u64, life: Life) {
        if let Some(line) = self.lines().get_mut(number as usize)
            && line.taken.is_none()
        {
            line.taken = Some(life);
            match line.road {
                Road::Mqtt => self.counting().by_mqtt += 1,
                Road::Kafka => self.counting().by_kafka += 1,
            }
        }
    }

    /// The broker has given it to the host, once more perhaps.
    pub fn delivered(&self, number: u64, life: Life) {
        if let Some(line) = self.lines().get_mut(number as usize) {
            line.deliveries += 1;
            line.delivered = Some(life);
            self.counting().redelivered += u64::from(line.deliveries > 1);
        }
    }

    /// The host has acknowledged it to the broker.
    pub fn settled(&self, number: u64) {
        if let Some(line) = self.lines().get_mut(number as usize)
            && !line.settled
        {
            line.settled = true;
            self.counting().settled += 1;
        }
    }

    /// The life the MQTT broker is in, or has last been in.
    pub fn life(&self) -> Life {
        Life(self.life.load(SeqCst) & !1)
    }

    /// The life the MQTT broker is in; none while it is not running.
    pub fn living(&self) -> Option<Life> {
        let life = self.life.load(SeqCst);
        life.is_multiple_of(2).then_some(Life(life))
    }

    /// The MQTT broker is about to be killed.
    pub fn broker_goes(&self) {
        self.life.fetch_add(1, SeqCst);
    }

    /// It is dead, and has these messages on its disk.
    pub fn broker_gone(&self, on_disk: &HashSet<u64>) {
        let life = self.life();
        for (number, line) in self.lines().iter_mut().enumerate() {
            if line.road == Road::Mqtt && !line.settled && !on_disk.contains(&(number as u64)) {
                line.missing = Some(life);
            }
        }
    }

    /// It is about to be started again.
    pub fn broker_comes(&self) {
        self.life.fetch_add(1, SeqCst);
    }

    /// All messages there ever were.
    pub fn all(&self) -> Vec<Line> {
        self.lines().clone()
    }

    /// How many messages there are.
    pub fn len(&self) -> u64 {
        self.lines().len() as u64
    }

    /// How far it is.
    pub fn counts(&self) -> Counts {
        *self.counting()
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that takes message 0 in its first life, and is killed with so many messages on its disk.
    fn killed_with(on_disk: &[u64], before: impl Fn(&Book)) -> Book {
        let book = Book::default();
        book.open(Road::Mqtt);
        before(&book);
        book.broker_goes();
        book.broker_gone(&on_disk.iter().copied().collect());
        book
    }

    fn excused(book: &Book) -> bool {
        book.all()[0].lost_by_broker()
    }

    /// Guarantees: the broker's own loss is what it had promised, was not on its disk when it was killed, and was never
    /// acknowledged by the host; nothing else.
    #[test]
    fn what_the_broker_loses() {
        let take = |book: &Book| book.taken(0, book.life());
        assert!(excused(&killed_with(&[], take)));
        assert!(!excused(&killed_with(&[0], take)), "it is on the broker's disk");
        assert!(!excused(&killed_with(&[], |_| {})), "it was never promised");
        let settled = |book: &Book| {
            take(book);
            book.settled(0);
        };
        assert!(!excused(&killed_with(&[], settled)), "the host has promised it");

        // The publisher may read the promise a moment after the broker's end; so may the tap.
        let book = killed_with(&[], |_| {});
        book.taken(0, book.life());
        book.delivered(0, book.life());
        assert!(excused(&book));
        book.settled(0);
        assert!(!excused(&book), "the host's promise was still on the line");

        // Sent again by the publisher, which had no promise from the first life.
        let book = killed_with(&[], |_| {});
        book.broker_comes();
        book.taken(0, book.life());
        assert!(!excused(&book), "taken by the next life");
        let book = killed_with(&[], take);
        book.broker_comes();
        book.delivered(0, book.life());
        assert!(!excused(&book), "the next life has it");
        book.broker_goes();
        book.broker_gone(&HashSet::new());
        assert!(excused(&book), "and lost it");
    }
}
