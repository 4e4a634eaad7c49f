//! Records of a Kafka consumer, many with one call of librdkafka.
//!
//! `rdkafka` has one event, one allocation and two looks at the clock a record, which is more than a record costs otherwise; librdkafka's call for
//! many (`rd_kafka_consume_batch_queue`) it does not offer. That call must not be made on the consumer's own queue: rebalances, commits and
//! statistics come by it as events, and the call would run them as callbacks that nobody has set. So the queues of the partitions are led to one of
//! ours ([`BatchConsumer::gather`]), which has records and the errors of partitions and nothing else, and the consumer's own is polled as ever.
//!
//! This crate and `engine/src/admission/native.rs` are the only unsafe code of the house that is not generated. What makes it sound is three things, each held
//! by a type here: nothing of librdkafka is reached but through a [`BatchConsumer`], which has the consumer; its queues are gone before that is; a
//! [`Record`] cannot be kept. And one by the version of librdkafka, which must be the one that was looked at: where a record's headers lie (`headers.rs`).
#![allow(unsafe_code, reason = "librdkafka is C; each block says what makes it sound")]

mod headers;
mod queue;
mod record;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

pub use headers::Headers;
use queue::{Batch, Queue};
use record::Place;
pub use record::Record;

/// The most records that one call takes.
pub const MOST: usize = 256;

/// A consumer whose records are read many at a time. All else is asked of the consumer in it.
pub struct BatchConsumer<C: ConsumerContext> {
    // Fields are dropped in this order: librdkafka wants its queues back before the client ends.
    records: Queue,
    events: Queue,
    consumer: BaseConsumer<C>,
}

impl<C: ConsumerContext> BatchConsumer<C> {
    /// Around a consumer of a group that has no partitions yet. None where librdkafka has no queue for it, which is so without a group.
    pub fn new(consumer: BaseConsumer<C>) -> Option<Self> {
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `consumer`, which is dropped after both queues.
        let (records, events) = unsafe { (Queue::new(client)?, Queue::of_consumer(client)?) };
        // SAFETY: `drop` takes this back before `records` goes.
        unsafe { events.wakes(&records) };
        Some(Self { records, events, consumer })
    }

    /// Leads the records of these partitions to [`Self::read`]. Before they are assigned, so that none comes by the consumer's own queue; and after each
    /// change of the assignment, since librdkafka ends this for a partition that it stops to read.
    pub fn gather(&self, partitions: &[(String, i32)]) {
        for (topic, partition) in partitions {
            // SAFETY: the client lives as long as `self`.
            let queue = unsafe { Queue::of_partition(self.consumer.client().native_ptr(), topic, *partition) };
            if let Some(queue) = queue {
                queue.leads_to(&self.records);
            }
        }
    }

    /// Whether the consumer's own queue has events: then it should be polled before [`Self::read`] waits. What comes later ends the wait.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Gives `take` what is there, up to `most` and [`MOST`], waiting so long for the first; ends early when there are events. Gives how many there were.
    /// To librdkafka this is a poll, as far as `max.poll.interval.ms` goes.
    pub fn read(&self, wait: Duration, most: usize, mut take: impl FnMut(Result<Record<'_>, KafkaError>)) -> usize {
        let mut batch = Batch::default();
        batch.fill(&self.records, Duration::ZERO, most);
        // An event that came before may have ended that look instead of a wait, so that it has to be asked for here.
        if batch.is_empty() && !wait.is_zero() && most > 0 && !self.has_events() {
            // librdkafka would wait so long for all of a batch.
            batch.fill(&self.records, wait, 1);
            if !batch.is_empty() {
                batch.fill(&self.records, Duration::ZERO, most - 1);
            }
        }
        let came = batch.len();
        let mut astray: Vec<Place> = Vec::new();
        while let Some(message) = batch.next() {
            let read = message.read();
            match &read {
                Ok(record) if !astray.is_empty() => astray.retain(|place| !place.is_in_the_log_of(record)),
                Ok(_) => {}
                Err(_) => astray.extend(message.place()),
            }
            take(read);
        }
        for place in astray {
            if let Err(error) = self.put_back(&place) {
                take(Err(error));
            }
        }
        came
    }

    /// librdkafka's call takes what a partition says at an offset for the record there: after a pause it would go on behind that, and the record be left
    /// out. Where no record has come since, the partition is put back. Without waiting: what is fetched by now is outdated at once, and a pause
    /// that is asked for later comes later.
    fn put_back(&self, Place { topic, partition, offset }: &Place) -> Result<(), KafkaError> {
        self.consumer.seek(topic, *partition, Offset::Offset(*offset), Duration::ZERO)
    }
}

impl<C: ConsumerContext> Deref for BatchConsumer<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        &self.consumer
    }
}

impl<C: ConsumerContext> Drop for BatchConsumer<C> {
    fn drop(&mut self) {
        self.events.wakes_nobody();
    }
}

impl<C: ConsumerContext> std::fmt::Debug for BatchConsumer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchConsumer").finish_non_exhaustive()
    }
}
