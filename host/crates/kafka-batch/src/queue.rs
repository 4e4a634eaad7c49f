//! librdkafka's queues, and the messages that were taken from one and not yet given back.

use std::ffi::{CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;

use crate::MOST;
use crate::record::Owned;

/// One reference to a queue. Not [`Send`]: it is used by the thread that has its consumer.
#[derive(Debug)]
pub(crate) struct Queue(NonNull<native::rd_kafka_queue_t>);

impl Queue {
    /// A queue of our own.
    ///
    /// # Safety
    /// `client` is one, and outlives what is returned.
    pub(crate) unsafe fn new(client: *mut native::rd_kafka_t) -> Option<Self> {
        // SAFETY: the caller's word; the reference returned is ours, and is given back in `drop`. So it is in the two below.
        NonNull::new(unsafe { native::rd_kafka_queue_new(client) }).map(Self)
    }

    /// The one of the consumer, by which its events come.
    ///
    /// # Safety
    /// As for [`Self::new`].
    pub(crate) unsafe fn of_consumer(client: *mut native::rd_kafka_t) -> Option<Self> {
        // SAFETY: as in `new`.
        NonNull::new(unsafe { native::rd_kafka_queue_get_consumer(client) }).map(Self)
    }

    /// The one of a partition, which is made where it is not known yet.
    ///
    /// # Safety
    /// As for [`Self::new`].
    pub(crate) unsafe fn of_partition(client: *mut native::rd_kafka_t, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: as in `new`; the name is copied.
        NonNull::new(unsafe { native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) }).map(Self)
    }

    /// What comes by this one comes by `other` from now on, also what is in it already.
    pub(crate) fn leads_to(&self, other: &Queue) {
        // SAFETY: both are queues, by our references to them. librdkafka takes one of its own to `other`, so that may go first; it is closed then, and
        // what comes is thrown away.
        unsafe { native::rd_kafka_queue_forward(self.0.as_ptr(), other.0.as_ptr()) }
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: it is a queue, by our reference to it.
        unsafe { native::rd_kafka_queue_length(self.0.as_ptr()) == 0 }
    }

    /// From now on, what comes by this one when it is empty ends a wait for `other`, or else the next one.
    ///
    /// # Safety
    /// [`Self::wakes_nobody`] is called before `other` is dropped.
    pub(crate) unsafe fn wakes(&self, other: &Queue) {
        unsafe extern "C" fn wake(_: *mut native::rd_kafka_t, other: *mut c_void) {
            // SAFETY: librdkafka gives back what it was given below: a queue that is not dropped as long as this may be called. The function may be called
            // on any thread, and so may this one: it takes that queue's lock, while librdkafka holds that of the other; nothing takes the two in the
            // other order, since ours leads nowhere.
            unsafe { native::rd_kafka_queue_yield(other.cast()) }
        }
        // SAFETY: `wake` fits what librdkafka calls, and is a function for ever; what it is given is the caller's word.
        unsafe { native::rd_kafka_queue_cb_event_enable(self.0.as_ptr(), Some(wake), other.0.as_ptr().cast()) }
    }

    /// Ends this. librdkafka calls with the queue's lock held, and takes it here: when this returns, no call is under way, and none comes.
    pub(crate) fn wakes_nobody(&self) {
        // SAFETY: it is a queue, by our reference to it; none is what ends this.
        unsafe { native::rd_kafka_queue_cb_event_enable(self.0.as_ptr(), None, ptr::null_mut()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and is not used again. A queue of our own is closed and emptied by this, so that nothing in it keeps the client.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// Messages that were taken. What is not asked for is given back with it.
pub(crate) struct Batch {
    messages: [*mut native::rd_kafka_message_t; MOST],
    next: usize,
    end: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { messages: [ptr::null_mut(); MOST], next: 0, end: 0 }
    }
}

impl Batch {
    /// Adds up to `most` messages, as long as there is room, waiting so long until there are so many.
    pub(crate) fn fill(&mut self, from: &Queue, wait: Duration, most: usize) {
        let room = &mut self.messages[self.end..];
        let most = most.min(room.len());
        if most == 0 {
            return;
        }
        let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: it is a queue, by our reference to it, and only records and errors come by it: it was made by `Queue::new`, and only queues of
        // partitions lead to it. `room` has place for `most` pointers, and librdkafka fills as many of them, from the first on, as it says.
        let came = unsafe { native::rd_kafka_consume_batch_queue(from.0.as_ptr(), wait_ms, room.as_mut_ptr(), most) };
        // It is -1 where it fails, which it never does for a queue.
        self.end += usize::try_from(came).unwrap_or(0).min(most);
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.end - self.next
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next one, out of the batch.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Owned> {
        let message = *self.messages[..self.end].get(self.next)?;
        self.next += 1;
        // SAFETY: librdkafka gave it in `fill`, as ours to give back, and it leaves the batch here.
        NonNull::new(message).map(|message| unsafe { Owned::new(message) })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}
