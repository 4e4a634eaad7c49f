//! Records that no client library of ours would make: names of headers that are no text.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tidegate_model::{SinkError, Stored};

use super::range::{range, until_read};
use super::*;
use crate::kafka::Bound;

/// A varint as records have it (zigzag).
fn put_varint(number: i64, to: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn put_text(text: &[u8], to: &mut Vec<u8>) {
    put_varint(text.len() as i64, to);
    to.extend_from_slice(text);
}

/// A batch of one record (version 2), which nobody asks for its checksum.
fn batch(payload: &str, headers: &[(&[u8], &str)]) -> Vec<u8> {
    // Attributes, and differences of time and offset.
    let mut record = vec![0, 0, 0];
    put_varint(-1, &mut record);
    put_text(payload.as_bytes(), &mut record);
    put_varint(headers.len() as i64, &mut record);
    for (name, value) in headers {
        put_text(name, &mut record);
        put_text(value.as_bytes(), &mut record);
    }
    // Leader's epoch, version, checksum, attributes, last difference, first and last time, producer, its epoch, sequence, count.
    let mut rest = [&[0; 4][..], &[2], &[0; 4], &[0; 2], &[0; 4]].concat();
    [1_000_i64; 2].iter().for_each(|ms| rest.extend(ms.to_be_bytes()));
    rest.extend([0xff; 14]);
    rest.extend(1_i32.to_be_bytes());
    put_varint(record.len() as i64, &mut rest);
    rest.extend(record);
    [&0_i64.to_be_bytes()[..], &(rest.len() as i32).to_be_bytes(), &rest].concat()
}

impl Cluster {
    /// One record, by the protocol itself (Produce, version 7).
    fn produce_raw(&self, payload: &str, headers: &[(&[u8], &str)]) {
        let batch = batch(payload, headers);
        let mut request = Vec::new();
        [0_i16, 7].iter().for_each(|short| request.extend(short.to_be_bytes()));
        request.extend(1_i32.to_be_bytes());
        // No client, no transaction, all replicas, ten seconds.
        [-1_i16, -1, -1].iter().for_each(|short| request.extend(short.to_be_bytes()));
        [10_000_i32, 1].iter().for_each(|long| request.extend(long.to_be_bytes()));
        request.extend([&5_i16.to_be_bytes()[..], b"fleet"].concat());
        [1_i32, 0, batch.len() as i32].iter().for_each(|long| request.extend(long.to_be_bytes()));
        request.extend(batch);
        let mut stream = TcpStream::connect(self.0.bootstrap_servers()).unwrap();
        stream.write_all(&[&(request.len() as i32).to_be_bytes()[..], &request].concat()).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        // After the request's number, one topic of that name, one partition and its number: what came of it.
        let error_at = 4 + 4 + 2 + 5 + 4 + 4;
        assert_eq!(answer[error_at..error_at + 2], [0, 0]);
    }
}

/// Guarantees: a header whose name is not UTF-8 ends nobody who reads, a live source no more than a replay or a backtest: its record comes with its
/// payload and its other headers, also where one of these says the topic, and so does what is behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_text() {
    let cluster = Cluster::new(1);
    cluster.produce_raw("first", &[(b"site", "north"), (b"caf\xe9", "x"), (b"zone", "dev/a")]);
    let many: Vec<(&[u8], &str)> = std::iter::repeat_n((&b"\xff"[..], "x"), 1_000).collect();
    cluster.produce_raw("second", &many);
    cluster.produce(0, 2..3);
    let settings = Settings { topic_from: TopicFrom::Header("zone".into()), ..cluster.settings() };
    let check = |got: &[Got]| {
        let told: Vec<_> = got.iter().map(|got| (got.topic.as_str(), got.payload.as_str())).collect();
        assert_eq!(told, [("dev/a", "first"), ("fleet", "second"), ("fleet", "000002")]);
        let names: Vec<_> = got[0].properties.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["site", "\u{fffd}", "zone"]);
    };
    let mut host = start(settings.clone(), 1);
    check(&host.settle(3).await);
    host.close().await;

    let (mut host, progress) = range(settings.clone(), (Bound::Earliest, Bound::Latest));
    check(&host.settle(3).await);
    until_read(&progress).await;
    host.close().await;

    let logs = KafkaLogs::new(settings);
    let history = logs.part(None, "earliest", "latest").unwrap();
    let mut past = history.open(Span::default(), Arc::new(Books::new(10))).unwrap();
    let mut rows = 0;
    while let Some(page) = past.next_page().unwrap() {
        rows += page.messages.len();
    }
    assert_eq!(rows, 3);
}

/// A database that does what nothing should, until it is mended.
#[derive(Debug, Default)]
struct Panics {
    mended: AtomicBool,
}

#[async_trait]
impl Stored for Panics {
    async fn next_offsets(&self, _: &str, _: &str) -> Result<Vec<(String, i32, i64)>, SinkError> {
        assert!(self.mended.load(Ordering::Acquire), "nobody thought of this");
        Ok(Vec::new())
    }
}

/// Guarantees: a panic of the thread that reads is told, with what to do; the group is left, and the source reads on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_no_source() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..10);
    let settings = Settings { offsets: tidegate_config::Offsets::WithPoints, ..cluster.settings() };
    let database = Arc::new(Panics::default());
    let source = KafkaSource::new(settings).stored_by(database.clone());
    let mut host = Host::with(source, 1, 1_000, ParcelLimits { rows: 5, bytes: 1 << 20 });
    host.until("it says so", |host| match host.inlet.health().state() {
        State::Down(why) => why.contains("panic") && why.contains("nobody thought of this") && why.contains("report"),
        _ => false,
    })
    .await;
    database.mended.store(true, Ordering::Release);
    assert_eq!(payloads(&host.settle(10).await), numbers(0..10));
    host.until("it is up", |host| host.inlet.health().state() == State::Up).await;
    host.close().await;
}
