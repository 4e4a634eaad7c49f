//! The messages of the workload as encoded packets, and sending them: as fast as the socket takes them, at QoS 1 with a bounded
//! number unacknowledged.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Thread, park_timeout};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::wire::{self, Kind, PINGRESP, Packets, Qos, Version};
use crate::poison::Hundredth;

/// How much goes into one write.
const WRITE_BYTES: usize = 64 << 10;
/// How long the writer waits before it looks at its flags again, should it miss being woken.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Packets, one after the other, ready to be sent.
pub struct Flow {
    bytes: Vec<u8>,
    /// Where each packet ends.
    ends: Vec<usize>,
    qos: Qos,
}

/// What the reading side has seen; the writing side waits for it.
struct Answers {
    acknowledged: AtomicUsize,
    pings: AtomicUsize,
    gone: AtomicBool,
    writer: Thread,
}

impl Flow {
    /// Encodes the first `messages` of the workload.
    pub fn new(messages: usize, version: Version, qos: Qos, hundredth: Hundredth) -> Self {
        let mut flow = Self { bytes: Vec::with_capacity(messages * 128), ends: Vec::with_capacity(messages), qos };
        let mut payload = Vec::new();
        for message in 0..messages {
            payload.clear();
            hundredth.payload(message, &mut payload);
            wire::put_publish(&mut flow.bytes, version, qos, id_of(message), &hundredth.topic(message), &payload);
            flow.ends.push(flow.bytes.len());
        }
        flow
    }

    /// Sends everything, never more than `window` unacknowledged; calls `done` when all is sent, at QoS 1 acknowledged; and
    /// returns when the other side has left. Checks that acknowledgements come once each, in order (§4.6).
    pub fn send<R>(
        &self,
        stream: &TcpStream,
        packets: Packets<R>,
        window: usize,
        done: impl FnOnce() -> Result<()>,
    ) -> Result<()>
    where
        R: Read + Send,
    {
        let answers = Arc::new(Answers {
            acknowledged: AtomicUsize::new(0),
            pings: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            writer: std::thread::current(),
        });
        std::thread::scope(|scope| {
            let reader = scope.spawn({
                let answers = answers.clone();
                move || {
                    let end = read(packets, &answers);
                    answers.gone.store(true, Ordering::Release);
                    answers.writer.unpark();
                    end
                }
            });
            let sent = self.write(stream, window, &answers).and_then(|()| done());
            if sent.is_err() {
                // Ends the reader, who may wait for a packet that will never come. It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            let read = reader.join().unwrap_or_else(|_| bail!("the reading thread ended by a bug of the bench"));
            sent.and(read)
        })
    }

    fn write(&self, mut stream: &TcpStream, window: usize, answers: &Answers) -> Result<()> {
        let (mut sent, mut pings) = (0, 0);
        let all = self.ends.len();
        loop {
            let asked = answers.pings.load(Ordering::Acquire);
            while pings < asked {
                stream.write_all(&PINGRESP)?;
                pings += 1;
            }
            let acknowledged = answers.acknowledged.load(Ordering::Acquire);
            let may = match self.qos {
                Qos::AtMostOnce => all,
                Qos::AtLeastOnce => all.min(acknowledged + window),
            };
            if sent < may {
                let start = self.start_of(sent);
                let next = self.ends[sent..may].partition_point(|&end| end <= start + WRITE_BYTES).max(1) + sent;
                stream.write_all(&self.bytes[start..self.start_of(next)]).context("the other side takes no more")?;
                sent = next;
            } else if sent == all && (self.qos == Qos::AtMostOnce || acknowledged == all) {
                return Ok(());
            } else {
                let gone = answers.gone.load(Ordering::Acquire);
                ensure!(!gone, "the other side left with {acknowledged} of {all} messages acknowledged");
                park_timeout(LOOK_AGAIN);
            }
        }
    }

    fn start_of(&self, packet: usize) -> usize {
        packet.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Reads what the other side answers, to its end.
fn read<R: Read>(mut packets: Packets<R>, answers: &Answers) -> Result<()> {
    let mut acknowledged = 0;
    loop {
        let (kind, body) = match packets.next() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(()),
            // A client that is dropped with something unread hangs up like this.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match kind {
            Kind::PubAck => {
                let (id, due) = (wire::packet_id(body)?, id_of(acknowledged));
                ensure!(id == due, "message {acknowledged} was to be acknowledged as {due}, and {id} was");
                acknowledged += 1;
                answers.acknowledged.store(acknowledged, Ordering::Release);
            }
            Kind::PingReq => {
                answers.pings.fetch_add(1, Ordering::AcqRel);
            }
            Kind::Disconnect => return Ok(()),
            other => bail!("{other:?} came in the midst of messages"),
        }
        answers.writer.unpark();
    }
}

/// Packet ids go round; 0 is none (§2.2.1).
fn id_of(message: usize) -> u16 {
    (message % usize::from(u16::MAX)) as u16 + 1
}
