//! The load: one publisher at QoS 1 that sends again until the broker has acknowledged.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::stream::message;
use crate::wire::{Frames, Packet, connect, publish};

/// The most messages that wait for the broker.
const WINDOW: usize = 500;

/// How long an acknowledgement is waited for before the clock is looked at again.
const TURN: Duration = Duration::from_millis(5);

/// How often a broker that is away is looked for.
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// How long a broker may be silent with messages of ours before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The publisher at work.
#[derive(Debug)]
pub struct Feed {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Feed {
    /// Publishes about `rate` messages a second to a broker on that port of 127.0.0.1, until [`Self::end`].
    pub fn start(book: Arc<Book>, port: u16, rate: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let mut publisher = Publisher {
            book,
            port,
            rate,
            end: end.clone(),
            open: VecDeque::new(),
            last_id: 0,
            started: Instant::now(),
            made: 0,
        };
        Self { end, thread: std::thread::spawn(move || publisher.run()) }
    }

    /// Makes no more messages, and waits until the broker has taken all.
    pub fn end(self) {
        self.end.store(true, SeqCst);
        self.thread.join().expect("the publisher should not fail");
    }
}

struct Publisher {
    book: Arc<Book>,
    port: u16,
    rate: u64,
    end: Arc<AtomicBool>,
    /// Sent, or about to be, and not acknowledged: packet identifier and number, in order.
    open: VecDeque<(u16, u64)>,
    last_id: u16,
    started: Instant,
    made: u64,
}

impl Publisher {
    fn run(&mut self) {
        // A broker that goes takes the connection along, never the messages.
        while self.connection().is_err() {
            std::thread::sleep(RECONNECT_EVERY);
        }
    }

    /// Until all is done; an error when the connection ends before.
    fn connection(&mut self) -> Result<()> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(TURN))?;
        socket.write_all(&connect("torture"))?;
        let (mut frames, mut welcome, mut heard) = (Frames::default(), false, Instant::now());
        loop {
            let before = welcome;
            if self.listen(&mut socket, &mut frames, &mut welcome)? {
                heard = Instant::now();
            }
            if welcome && !before {
                let again: Vec<u8> = self.open.iter().flat_map(|&(id, number)| frame(number, id, true)).collect();
                socket.write_all(&again)?;
            }
            if welcome {
                socket.write_all(&self.due())?;
                if self.open.is_empty() && self.end.load(SeqCst) {
                    return Ok(());
                }
            }
            if heard.elapsed() > PATIENCE && !(welcome && self.open.is_empty()) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes what the broker says within a [`TURN`]; false if it says nothing.
    fn listen(&mut self, socket: &mut TcpStream, frames: &mut Frames, welcome: &mut bool) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = match socket.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut refused = None;
        frames.take(&buffer[..length], 4, |packet| match packet {
            Packet::ConnAck { code: 0 } => *welcome = true,
            Packet::ConnAck { code } => refused = Some(code),
            Packet::PubAck { id, .. } => self.acknowledged(id),
            _ => {}
        });
        refused.map_or(Ok(true), |code| Err(Error::other(format!("the broker refused with code {code}"))))
    }

    /// The messages that are due now, as packets: what was due while the broker was away included, a window at a time.
    fn due(&mut self) -> Vec<u8> {
        let mut packets = Vec::new();
        let due = self.started.elapsed().as_millis() as u64 * self.rate / 1_000;
        while self.made < due && self.open.len() < WINDOW && !self.end.load(SeqCst) {
            // Never 0 (section 2.3.1); far more than the window, so that none is open twice.
            self.last_id = self.last_id % u16::MAX + 1;
            let number = self.book.open();
            self.open.push_back((self.last_id, number));
            self.made += 1;
            packets.extend(frame(number, self.last_id, false));
        }
        packets
    }

    fn acknowledged(&mut self, id: u16) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == id) {
            let (_, number) = self.open.remove(at).expect("it was found there");
            self.book.taken(number);
        }
    }
}

fn frame(number: u64, id: u16, again: bool) -> Vec<u8> {
    let message = message(number);
    publish(&message.topic, id, again, &message.payload)
}
