//! The load: publishers that know of each message whether its broker has taken it.

mod kafka;
mod mqtt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::book::Book;

pub use kafka::GROUP;

/// Of so many messages one goes through Kafka.
const KAFKA_SHARE: u64 = 5;

/// The publishers at work.
#[derive(Debug)]
pub struct Feed {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    rate: u64,
    started: Instant,
    ended: Option<Duration>,
}

/// What a publisher is given.
struct Work {
    book: Arc<Book>,
    pace: Pace,
    end: Arc<AtomicBool>,
}

/// When how many messages are due.
struct Pace {
    rate: u64,
    started: Instant,
    made: u64,
}

impl Feed {
    /// Publishes about `rate` messages a second in all, to an MQTT broker on that port of 127.0.0.1 and to a topic of these
    /// Kafka brokers, until [`Self::end`].
    pub fn start(book: &Arc<Book>, mqtt: u16, (brokers, topic): (&str, &str), rate: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let work = |rate| Work { book: book.clone(), pace: Pace { rate, started, made: 0 }, end: end.clone() };
        let by_kafka = rate / KAFKA_SHARE;
        let mut publisher = mqtt::Publisher::new(work(rate - by_kafka), mqtt);
        let mut producer = kafka::Producer::new(work(by_kafka), brokers, topic);
        let threads = vec![std::thread::spawn(move || publisher.run()), std::thread::spawn(move || producer.run())];
        Self { end, threads, rate, started, ended: None }
    }

    /// Fails if a publisher has ended, which none does before it is told to.
    pub fn check(&self) {
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "a publisher has ended before it was told to");
    }

    /// Makes no more messages, and waits until the brokers have taken all.
    pub fn end(&mut self) {
        self.ended = Some(self.started.elapsed());
        self.end.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a publisher should not fail");
        }
    }

    /// How many messages there should be by now, or when it was ended.
    pub fn due(&self) -> u64 {
        self.ended.unwrap_or_else(|| self.started.elapsed()).as_millis() as u64 * self.rate / 1_000
    }
}

impl Pace {
    /// How many are due that were not made yet.
    fn owed(&self) -> u64 {
        (self.started.elapsed().as_millis() as u64 * self.rate / 1_000).saturating_sub(self.made)
    }
}
