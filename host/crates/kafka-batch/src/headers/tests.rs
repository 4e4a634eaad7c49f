//! By hand, and against librdkafka's own reading of what its mock cluster keeps.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::CStr;
use std::time::Instant;

use rdkafka::message::{Headers as _, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaRespErr;

use super::*;
use crate::tests::{Cluster, DEADLINE, POLL, TOPIC, assign};
use crate::{MOST, Record};

/// Name and value of each.
type Read = Vec<(String, Option<Vec<u8>>)>;

fn all(headers: &Headers<'_>) -> Read {
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

/// As librdkafka reads them.
fn by_librdkafka(record: &Record<'_>) -> Read {
    let mut found = ptr::null_mut();
    // SAFETY: it is a record, and nobody else asks for its headers.
    let answer = unsafe { native::rd_kafka_message_headers(record.message.as_ptr(), &mut found) };
    if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Read::new();
    }
    let one = |index| {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: these are the headers of a record that lives; an index that is too high is refused. Value and length belong together.
        unsafe {
            let answer = native::rd_kafka_header_get_all(found, index, &mut name, &mut value, &mut length);
            (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
                let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), length).to_vec());
                (CStr::from_ptr(name).to_str().unwrap_or(NAMELESS).to_owned(), value)
            })
        }
    };
    (0..).map_while(one).collect()
}

/// Guarantees: bytes that are headers are read as those; an end that comes too early, or a length that cannot be, makes none of all of them.
#[test]
fn as_they_lie() {
    let check = |bytes: &[u8], due: &[(&str, Option<&str>)]| {
        let read = Headers::read(bytes).as_ref().map(all).unwrap_or_default();
        let due: Read = due.iter().map(|(name, value)| ((*name).to_owned(), value.map(|v| v.into()))).collect();
        assert_eq!(read, due, "{bytes:?}");
    };
    check(&[], &[]);
    check(&[0], &[]);
    check(&[2, 2, b'a', 4, b'x', b'y'], &[("a", Some("xy"))]);
    check(&[4, 2, b'a', 1, 0, 0], &[("a", None), ("", Some(""))]);
    check(&[2, 6, b'a', 0, b'b', 0], &[("a", Some(""))]);
    check(&[2, 2, 0xff, 0], &[(NAMELESS, Some(""))]);
    // The number 1 in two bytes, which nobody needs and anybody may write.
    check(&[0x82, 0, 2, b'a', 0], &[("a", Some(""))]);
    for wrong in [
        // Fewer than are said; so many that no record has them; less than none.
        &[4, 2, b'a', 0][..],
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, b'a', 0],
        &[1, 2, b'a', 0],
        // No name; a name, a value and a number without their ends; a number that has no end.
        &[2, 1, 0],
        &[2, 4, b'a'],
        &[2, 2, b'a', 4, b'x'],
        &[2, 2, b'a', 3],
        &[2, 0x80],
        &[0xff; 12],
    ] {
        check(wrong, &[]);
    }
}

/// Guarantees: headers can be asked for in any order, and there is none behind the last.
#[test]
fn in_any_order() {
    let headers = Headers::read(&[6, 2, b'a', 0, 2, b'b', 0, 2, b'c', 0]).unwrap();
    assert_eq!(headers.count(), 3);
    let name = |at| headers.try_get(at).map(|header| header.key);
    let names = [2, 0, 0, 1, 3, 2, 1, usize::MAX].map(name);
    assert_eq!(names, [Some("c"), Some("a"), Some("a"), Some("b"), None, Some("c"), Some("b"), None]);
}

/// Guarantees: of records of all shapes, compressed or not, the headers are what was produced, and what librdkafka itself reads; also one without a value, and one whose name is
/// not UTF-8, as anybody may produce it.
#[test]
fn as_librdkafka_reads_them() {
    let no_text = vec![b'a', 0xff];
    // SAFETY: what is no text stands for it only until librdkafka copies its bytes.
    let no_text = unsafe { std::str::from_utf8_unchecked(&no_text) };
    let long = "v".repeat(20_000);
    let mut shapes: Vec<Vec<(&str, Option<&str>)>> = vec![
        vec![],
        vec![("site", Some("north"))],
        vec![("site", Some("north")), (no_text, Some("x")), ("empty", None), ("", Some(""))],
        vec![("long", Some(&long)), ("site", Some(&long[..63])), ("site", Some(&long[..64]))],
    ];
    shapes.push((0..200).map(|at| if at % 2 == 0 { ("even", Some("2")) } else { ("odd", None) }).collect());
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let cluster = Cluster::new(1, 0);
        let producer = cluster.producer_with(compression);
        // With and without a key and a payload, which lie before them.
        let parts = [(Some("key"), Some("{}")), (None, Some("")), (Some(""), None), (None, None)];
        let shapes: Vec<_> = shapes.iter().flat_map(|shape| parts.map(|part| (shape, part))).collect();
        for (shape, (key, payload)) in &shapes {
            let none = OwnedHeaders::new_with_capacity(shape.len());
            let headers = shape.iter().fold(none, |all, &(key, value)| all.insert(Header { key, value }));
            let mut record = BaseRecord::to(TOPIC).partition(0).headers(headers);
            (record.key, record.payload) = (*key, *payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
        let (consumer, began) = (cluster.consumer(), Instant::now());
        assign(&consumer, 1, 0);
        let mut due = shapes.iter();
        while due.len() > 0 {
            assert!(began.elapsed() < DEADLINE, "{} did not come", due.len());
            consumer.read(POLL, MOST, |read| {
                let Ok(record) = read else { return };
                let (shape, part) = due.next().unwrap();
                let value = |value: &Option<&str>| value.map(|text| text.as_bytes().to_vec());
                let name = |name: &str| if name == no_text { NAMELESS.to_owned() } else { name.to_owned() };
                let produced: Read = shape.iter().map(|(key, text)| (name(key), value(text))).collect();
                let read = record.headers().map(all).unwrap_or_default();
                assert_eq!(read, produced, "{part:?}, {compression}");
                assert_eq!(read, by_librdkafka(&record), "{part:?}, {compression}");
            });
        }
    }
}
