//! The headers of a record, read where they lie.
//!
//! librdkafka's own function for it (`rd_kafka_message_headers`) makes a buffer to read how many there are, also of none, and two allocations for each that there is. So this reads
//! the bytes themselves, which librdkafka keeps as they came, in a field that its API does not have. What must be true for that is true of the one version
//! that is named below: with another, nothing is built until somebody has looked.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;

use rdkafka::bindings as native;
use rdkafka::message::Header;

#[cfg(test)]
mod tests;

/// The name of a header whose name is not UTF-8.
pub(crate) const NAMELESS: &str = "\u{fffd}";

const _: () = assert!(
    native::RD_KAFKA_VERSION == 0x020c_01ff,
    "look whether `rd_kafka_msg_s` (rdkafka_msg.h) still begins as `Consumed`, and `binhdrs` still has what `Headers::read` reads; then put the new version here"
);

/// How a message that was consumed begins: `rd_kafka_msg_s`.
#[repr(C)]
struct Consumed {
    _message: native::rd_kafka_message_t,
    _link: [*mut c_void; 2],
    _flags: c_int,
    _time_kind: c_int,
    _time_ms: i64,
    _read_headers: *mut c_void,
    _status: c_int,
    _broker: i32,
    headers: Lying,
}

/// One side of a union, `binhdrs`; the other side is for producers and has numbers of 64 bits.
#[repr(C)]
struct Lying {
    _aligned: [i64; 0],
    length: i32,
    bytes: *const u8,
}

/// The headers of a record, at least one.
#[derive(Debug)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
    /// The number of the one that is most likely asked for, and what there is from it on.
    next: Cell<(usize, &'a [u8])>,
}

/// # Safety
/// `message` is of a record that librdkafka handed over, and outlives what is returned.
#[inline]
pub(crate) unsafe fn of<'a>(message: NonNull<native::rd_kafka_message_t>) -> Option<Headers<'a>> {
    // SAFETY: a record is a `rd_kafka_msg_s` (`rd_kafka_message2msg` of the version above says so), whose beginning is `Consumed`; nobody writes to these two
    // fields once it is handed over.
    let (length, bytes) = unsafe {
        let lying = ptr::addr_of!((*message.as_ptr().cast::<Consumed>()).headers);
        ((*lying).length, (*lying).bytes)
    };
    let length = usize::try_from(length).ok().filter(|_| !bytes.is_null())?;
    // SAFETY: so many bytes lie there, in the answer of a broker that the message keeps alive. A message of the forms before headers has null and 0.
    Headers::read(unsafe { slice::from_raw_parts(bytes, length) })
}

impl<'a> Headers<'a> {
    /// From the end of a record, as Kafka's protocol has it ("Record Header"): how many, then of each its name and its value, each behind its length. None where there
    /// are none; nor where the bytes end before they should.
    #[inline]
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        // How many records of telemetry have it.
        if let [0] = bytes {
            return None;
        }
        let count = usize::try_from(number(&mut bytes)?).ok().filter(|&count| count > 0)?;
        let mut rest = bytes;
        for _ in 0..count {
            header(&mut rest)?;
        }
        Some(Self { count, bytes, next: Cell::new((0, bytes)) })
    }
}

impl rdkafka::message::Headers for Headers<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn try_get(&self, idx: usize) -> Option<Header<'_, &[u8]>> {
        if idx >= self.count {
            return None;
        }
        let (mut at, mut rest) = self.next.get();
        if at > idx {
            (at, rest) = (0, self.bytes);
        }
        loop {
            let (name, value) = header(&mut rest)?;
            at += 1;
            if at > idx {
                self.next.set((at, rest));
                // As librdkafka has it: a name ends where C would end it.
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                return Some(Header { key: std::str::from_utf8(name).unwrap_or(NAMELESS), value });
            }
        }
    }
}

/// Name and value of the next header.
fn header<'a>(from: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let name = bytes(from)??;
    Some((name, bytes(from)?))
}

/// The next bytes, behind their length; -1 is the length of none at all.
fn bytes<'a>(from: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = number(from)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(Some(bytes))
}

/// The next number: seven bits a byte, the lowest first, and its sign in the lowest of all.
fn number(from: &mut &[u8]) -> Option<i64> {
    let mut bits = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    None
}
