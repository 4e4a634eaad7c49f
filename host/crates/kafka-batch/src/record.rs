//! A message of librdkafka, as long as it is lent to us.

use std::cell::OnceCell;
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use rdkafka::Timestamp;
use rdkafka::bindings as native;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

/// The name of a header whose name is not UTF-8.
pub(crate) const NAMELESS: &str = "\u{fffd}";

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
    message: NonNull<native::rd_kafka_message_t>,
    headers: OnceCell<Option<Headers<'a>>>,
    lent: PhantomData<&'a Owned>,
}

/// The headers of a record.
#[derive(Debug)]
pub struct Headers<'a> {
    headers: NonNull<native::rd_kafka_headers_t>,
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

    /// Costs an allocation also where there are none: librdkafka 2.12 makes a buffer to read their number from (`rd_kafka_msg_headers_parse`), and no other
    /// function of its API tells whether there are any.
    fn find_headers(&self) -> Option<Headers<'a>> {
        let mut found = ptr::null_mut();
        // SAFETY: it is a message. librdkafka notes in it what it finds, beside the fields that are read here; that no two threads do so at once is by
        // `Record` being neither `Send` nor `Sync`.
        let answer = unsafe { native::rd_kafka_message_headers(self.message.as_ptr(), &mut found) };
        let headers = NonNull::new(found).filter(|_| answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)?;
        Some(Headers { headers, lent: PhantomData })
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

    fn headers(&self) -> Option<&Headers<'a>> {
        self.headers.get_or_init(|| self.find_headers()).as_ref()
    }
}

impl rdkafka::message::Headers for Headers<'_> {
    fn count(&self) -> usize {
        // SAFETY: these are the headers of a message that lives.
        unsafe { native::rd_kafka_header_cnt(self.headers.as_ptr()) }
    }

    fn try_get(&self, idx: usize) -> Option<Header<'_, &[u8]>> {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: these are the headers of a message that lives; the others are where the answer goes, and an index that is too high is refused.
        let answer = unsafe {
            native::rd_kafka_header_get_all(self.headers.as_ptr(), idx, &mut name, &mut value, &mut length)
        };
        if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: librdkafka has put an end behind the name, and value and length belong together; all are of the headers. What the name is made of is
        // for who has produced the record.
        let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value.cast_mut(), length)) };
        Some(Header { key: name.to_str().unwrap_or(NAMELESS), value })
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
