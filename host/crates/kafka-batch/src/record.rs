//! A message of librdkafka, as long as it is lent to us.

use std::cell::OnceCell;
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use rdkafka::Timestamp;
use rdkafka::bindings as native;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use crate::headers::{self, Headers};

/// Where in which log something was said.
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Place {
    pub(crate) fn is_in_the_log_of(&self, record: &Record<'_>) -> bool {
        self.partition == record.partition() && self.topic == record.topic()
    }
}

/// A message that is ours, until it is dropped.
pub(crate) struct Owned(NonNull<native::rd_kafka_message_t>);

impl Owned {
    /// # Safety
    /// librdkafka gave `message` to us, it is given back by nobody else, and its consumer outlives what is returned.
    #[inline]
    pub(crate) unsafe fn new(message: NonNull<native::rd_kafka_message_t>) -> Self {
        Self(message)
    }

    /// The record, or what a partition has to say instead.
    #[inline]
    pub(crate) fn read(&self) -> Result<Record<'_>, KafkaError> {
        // SAFETY: it is a message until `drop`, and nobody writes to it: librdkafka has handed it over.
        let message = unsafe { self.0.as_ref() };
        match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                Ok(Record { message: self.0, headers: OnceCell::new(), lent: PhantomData })
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Err(KafkaError::PartitionEOF(message.partition)),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__FATAL => Err(KafkaError::MessageConsumptionFatal(Code::Fatal)),
            other => Err(KafkaError::MessageConsumption(other.into())),
        }
    }

    /// Where it stands, where it is of a partition and says so.
    pub(crate) fn place(&self) -> Option<Place> {
        // SAFETY: as in `read`.
        let message = unsafe { self.0.as_ref() };
        let known = !message.rkt.is_null() && message.offset >= 0;
        // SAFETY: it has a topic, whose object lives as long as the message does.
        known.then(|| Place {
            topic: unsafe { name(message.rkt) }.to_owned(),
            partition: message.partition,
            offset: message.offset,
        })
    }
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used again: what `read` lends does not outlive it.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// A record, in librdkafka's memory.
#[derive(Debug)]
pub struct Record<'a> {
    pub(crate) message: NonNull<native::rd_kafka_message_t>,
    headers: OnceCell<Option<Headers<'a>>>,
    lent: PhantomData<&'a Owned>,
}

impl<'a> Record<'a> {
    #[inline]
    fn fields(&self) -> &native::rd_kafka_message_t {
        // SAFETY: what it was lent from lives, and nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    /// Where librdkafka has the object of the record's topic, to be compared only: as long as one of its partitions is assigned it stays where it is.
    #[inline]
    pub fn topic_address(&self) -> usize {
        self.fields().rkt.addr()
    }
}

impl<'a> Message for Record<'a> {
    type Headers = Headers<'a>;

    #[inline]
    fn key(&self) -> Option<&[u8]> {
        // SAFETY: the two belong together, and to the message.
        unsafe { bytes(self.fields().key, self.fields().key_len) }
    }

    #[inline]
    fn payload(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.fields().payload, self.fields().len) }
    }

    unsafe fn payload_mut(&mut self) -> Option<&mut [u8]> {
        // Nobody who reads a record changes it.
        None
    }

    fn topic(&self) -> &str {
        // SAFETY: a record has a topic, whose object lives as long as the message does.
        unsafe { name(self.fields().rkt) }
    }

    #[inline]
    fn partition(&self) -> i32 {
        self.fields().partition
    }

    #[inline]
    fn offset(&self) -> i64 {
        self.fields().offset
    }

    fn timestamp(&self) -> Timestamp {
        use native::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: it is a message; `kind` is where the kind goes.
        let ms = unsafe { native::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        match kind {
            _ if ms == -1 => Timestamp::NotAvailable,
            Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(ms),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(ms),
        }
    }

    #[inline]
    fn headers(&self) -> Option<&Headers<'a>> {
        // SAFETY: it is of a record, and `'a` is no longer than the message lives.
        self.headers.get_or_init(|| unsafe { headers::of(self.message) }).as_ref()
    }
}

/// # Safety
/// `topic` is one, and lives as long as what is returned is used.
unsafe fn name<'n>(topic: *const native::rd_kafka_topic_t) -> &'n str {
    // SAFETY: the caller's word; the name is of the object, and has an end.
    let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(topic)) };
    // Brokers take none but of ASCII.
    name.to_str().unwrap_or_default()
}

/// # Safety
/// Null, or so many bytes that stay as they are for as long as what is returned.
#[inline]
unsafe fn bytes<'b>(at: *const c_void, length: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller's word.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast(), length) })
}
