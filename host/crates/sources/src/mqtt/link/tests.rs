//! A link with a broker on the other end of a pipe.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_config::{MqttVersion, Qos};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::mqtt::codec;
use crate::mqtt::tests::wire::{connack, no_properties, packet, publish, suback, text};
use crate::mqtt::tests::{VERSIONS, settings};
use crate::testing::DEADLINE;

/// More than any test sends.
const ROOM: usize = 1 << 16;

/// Our end of a pipe; counts what would be system calls.
struct Counted {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// A link that is taken in and subscribed, the broker's end, and how often the link has written. The pipe holds `room` bytes
/// each way.
async fn linked(version: MqttVersion, room: usize) -> (Link, DuplexStream, Arc<AtomicUsize>) {
    let (ours, mut broker) = duplex(room);
    let writes = Arc::new(AtomicUsize::new(0));
    let socket = Box::new(Counted { pipe: ours, writes: writes.clone() });
    let settings = settings(0, version, Qos::AtLeastOnce);
    let wishes = Wishes { filters: options::filters(&settings).collect(), old: Vec::new() };
    let talk = async {
        assert_eq!(take_packet(&mut broker).await[0], 0x10, "CONNECT comes first");
        broker.write_all(&connack(version)).await.unwrap();
    };
    let (link, ()) = tokio::join!(Link::over(socket, codec(version), &settings, "gate", wishes), talk);
    let mut link = link.unwrap();
    let talk = async {
        assert_eq!(take_packet(&mut broker).await[0], 0x82, "SUBSCRIBE comes next");
        broker.write_all(&suback(version)).await.unwrap();
    };
    let (subscribed, ()) = tokio::join!(soon(link.poll()), talk);
    assert!(matches!(subscribed.unwrap(), Packet::Subscribed(_)));
    (link, broker, writes)
}

/// The next packet on its way to the broker; short enough for one byte of length.
async fn take_packet(broker: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 2];
    soon(broker.read_exact(&mut bytes)).await.unwrap();
    bytes.resize(2 + usize::from(bytes[1]), 0);
    soon(broker.read_exact(&mut bytes[2..])).await.unwrap();
    bytes
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("should not take so long")
}

/// A window in which messages `1..=count` are settled.
fn settled(count: u16) -> Window {
    let mut window = Window::default();
    for id in (1..=count).map(PacketId) {
        window.receive(id).unwrap();
        window.settle(id);
    }
    window
}

fn pubacks(count: u16) -> Vec<u8> {
    (1..=count).flat_map(|id| packet(0x40, &id.to_be_bytes())).collect()
}

/// Guarantees: a thousand acknowledgements cost one system call, in both versions, and are in order.
#[tokio::test]
async fn acknowledgements_are_one_write() {
    for version in VERSIONS {
        let (mut link, mut broker, writes) = linked(version, ROOM).await;
        let before = writes.load(Ordering::Relaxed);
        link.acknowledge(&mut settled(1_000)).await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed) - before, 1, "{version:?}");
        let mut got = vec![0; 4_000];
        soon(broker.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, pubacks(1_000), "{version:?}");
    }
}

/// Guarantees: a broker that does not read holds up neither us nor what it sends, and gets all acknowledgements once it reads.
#[tokio::test]
async fn a_broker_that_reads_late() {
    for version in VERSIONS {
        let (mut link, mut broker, _) = linked(version, 64).await;
        soon(link.acknowledge(&mut settled(1_000))).await.unwrap();
        broker.write_all(&publish(version, 1, b"live")).await.unwrap();
        assert!(matches!(soon(link.poll()).await.unwrap(), Packet::Message(_)), "{version:?}");
        let mut got = vec![0; 4_000];
        tokio::select! {
            packet = link.poll() => panic!("{version:?}: nothing was sent, and {packet:?} came"),
            read = soon(broker.read_exact(&mut got)) => assert_eq!(read.unwrap(), 4_000, "{version:?}"),
        }
        assert_eq!(got, pubacks(1_000), "{version:?}");
    }
}

/// Guarantees: what we keep for a broker that never reads is bounded.
#[tokio::test]
async fn a_broker_that_never_reads() {
    let (mut link, _broker, _) = linked(MqttVersion::V5, 64).await;
    let mut error = None;
    for _ in 0..=UNSENT_BYTES / pubacks(u16::MAX).len() + 1 {
        error = soon(link.acknowledge(&mut settled(u16::MAX))).await.err();
    }
    assert!(error.expect("should be given up").what.contains("unread"));
}

/// Guarantees: a wait for packets that is dropped at any point loses none.
#[tokio::test]
async fn waits_may_be_dropped() {
    for version in VERSIONS {
        let (mut link, mut broker, _) = linked(version, ROOM).await;
        let (mut got, messages) = (Vec::new(), 20);
        for byte in (1..=messages).flat_map(|id| publish(version, id, b"live")) {
            broker.write_all(&[byte]).await.unwrap();
            let once = poll_fn(|cx| Poll::Ready(pin!(link.poll()).poll(cx))).await;
            if let Poll::Ready(packet) = once {
                let Packet::Message(publish) = packet.unwrap() else {
                    panic!("{version:?}: only messages were sent")
                };
                got.push(publish.id.0);
            }
        }
        assert_eq!(got, (1..=messages).collect::<Vec<_>>(), "{version:?}");
    }
}

/// Guarantees: a quiet broker is asked whether it is there; any sign of life will do; without one it is given up.
#[tokio::test]
async fn keep_alive() {
    for version in VERSIONS {
        let (mut link, mut broker, _) = linked(version, ROOM).await;
        // Longer than a busy machine keeps this thread waiting between question and answer.
        link.pings = pings(Duration::from_millis(500));
        for sign in [packet(0xD0, &[]), publish(version, 1, b"live")] {
            let answer = async {
                assert_eq!(take_packet(&mut broker).await, PINGREQ, "{version:?}");
                broker.write_all(&sign).await.unwrap();
            };
            tokio::join!(async { soon(link.poll()).await.unwrap() }, answer);
        }
        let error = soon(link.poll()).await.unwrap_err();
        assert_eq!(error.advice, advice::SILENT, "{version:?}: {error}");
    }
}

/// Guarantees: a broker that always has more for us than we have read hears of us in time, though there is nothing to acknowledge.
#[tokio::test]
async fn a_broker_that_never_pauses() {
    for version in VERSIONS {
        let (mut link, mut broker, _) = linked(version, ROOM).await;
        link.pings = pings(Duration::from_millis(20));
        let mut got = [0; 2];
        let asked = async {
            loop {
                broker.write_all(&publish(version, 1, b"live")).await.unwrap();
                assert!(matches!(link.poll().await.unwrap(), Packet::Message(_)), "{version:?}");
                if let Poll::Ready(read) = poll_fn(|cx| Poll::Ready(pin!(broker.read(&mut got)).poll(cx))).await {
                    break read.unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(soon(asked).await, 2);
        assert_eq!(got, PINGREQ, "{version:?}");
    }
}

/// Guarantees: a keep-alive of 0 in CONNACK is none, and not one PINGREQ after the other.
#[test]
fn a_broker_without_keep_alive() {
    assert!(pings(Duration::ZERO).is_none());
}

/// Guarantees: leaving ends when the broker hangs up, after it was sent everything; what comes meanwhile is no hindrance; a
/// broker that hangs up before has not got everything, and that is said.
#[tokio::test]
async fn leaving() {
    for version in VERSIONS {
        let (mut link, mut broker, _) = linked(version, 64).await;
        soon(link.acknowledge(&mut settled(100))).await.unwrap();
        let hears_all = async {
            broker.write_all(&publish(version, 1, b"late")).await.unwrap();
            let mut got = vec![0; 402];
            broker.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [&pubacks(100)[..], &DISCONNECT].concat(), "{version:?}");
            drop(broker);
        };
        let (left, ()) = soon(async { tokio::join!(link.leave(), hears_all) }).await;
        left.unwrap();

        let (mut link, broker, _) = linked(version, 64).await;
        soon(link.acknowledge(&mut settled(100))).await.unwrap();
        drop(broker);
        assert!(soon(link.leave()).await.is_err(), "{version:?}");
    }
}

/// Guarantees: what a session that stands may be subscribed to besides is taken back, after SUBSCRIBE, so that nothing is missed in between, one filter a
/// packet; in a new session there is nothing to take back.
#[tokio::test]
async fn taking_back() {
    for version in VERSIONS {
        for resumed in [0, 1] {
            let (ours, mut broker) = duplex(ROOM);
            let settings = settings(0, version, Qos::AtLeastOnce);
            let wishes = Wishes {
                filters: options::filters(&settings).collect(),
                old: vec!["b/#".into(), "$share/g/dev/#".into()],
            };
            let talk = async {
                assert_eq!(take_packet(&mut broker).await[0], 0x10, "CONNECT comes first");
                broker.write_all(&packet(0x20, &[&[resumed, 0], no_properties(version)].concat())).await.unwrap();
            };
            let (link, ()) =
                tokio::join!(Link::over(Box::new(ours), codec(version), &settings, "gate", wishes), talk);
            let mut link = link.unwrap();
            let old: Vec<_> = link.taken_back().to_vec();
            let talk = async {
                assert_eq!(take_packet(&mut broker).await[0], 0x82, "{version:?}: SUBSCRIBE comes next");
                for (id, filter) in &old {
                    let expected = packet(0xA2, &[&id.to_be_bytes(), no_properties(version), &text(filter)].concat());
                    assert_eq!(take_packet(&mut broker).await, expected, "{version:?}");
                }
                broker.write_all(&packet(0xD0, &[])).await.unwrap();
            };
            let (alive, ()) = tokio::join!(soon(link.poll()), talk);
            assert_eq!(alive.unwrap(), Packet::Alive);
            let due: &[(u16, &str)] = if resumed == 1 { &[(2, "b/#"), (3, "$share/g/dev/#")] } else { &[] };
            assert_eq!(
                old,
                due.iter().map(|&(id, filter)| (id, filter.to_owned())).collect::<Vec<_>>(),
                "{version:?}"
            );
        }
    }
}
