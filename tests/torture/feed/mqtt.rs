//! By MQTT: one publisher at QoS 1 that sends again until the broker has acknowledged.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::Work;
use crate::book::{Life, Road};
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

pub(super) struct Publisher {
    work: Work,
    port: u16,
    /// Sent, or about to be, and not acknowledged: packet identifier and number, in order.
    open: VecDeque<(u16, u64)>,
    last_id: u16,
}

impl Publisher {
    /// Publishes to a broker on that port of 127.0.0.1.
    pub(super) fn new(work: Work, port: u16) -> Self {
        Self { work, port, open: VecDeque::new(), last_id: 0 }
    }

    pub(super) fn run(&mut self) {
        // A broker that goes takes the connection along, never the messages.
        while self.connection().is_err() {
            std::thread::sleep(RECONNECT_EVERY);
        }
    }

    /// Until all is done; an error when the connection ends before.
    fn connection(&mut self) -> Result<()> {
        let life = self.work.book.living().ok_or(ErrorKind::NotConnected)?;
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(TURN))?;
        socket.write_all(&connect("torture"))?;
        let (mut frames, mut welcome, mut heard) = (Frames::default(), false, Instant::now());
        loop {
            let before = welcome;
            if self.listen(&mut socket, &mut frames, &mut welcome, life)? {
                heard = Instant::now();
            }
            if welcome && !before {
                // Only a broker that was not killed in between is surely the one that says welcome.
                if self.work.book.living() != Some(life) {
                    return Err(ErrorKind::NotConnected.into());
                }
                let again: Vec<u8> = self.open.iter().flat_map(|&(id, number)| frame(number, id, true)).collect();
                socket.write_all(&again)?;
            }
            if welcome {
                socket.write_all(&self.due())?;
                if self.open.is_empty() && self.work.end.load(SeqCst) {
                    return Ok(());
                }
            }
            if heard.elapsed() > PATIENCE && !(welcome && self.open.is_empty()) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes what the broker says within a [`TURN`]; false if it says nothing.
    fn listen(
        &mut self,
        socket: &mut TcpStream,
        frames: &mut Frames,
        welcome: &mut bool,
        life: Life,
    ) -> Result<bool> {
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
            Packet::PubAck { id, .. } => self.acknowledged(id, life),
            _ => {}
        });
        refused.map_or(Ok(true), |code| Err(Error::other(format!("the broker refused with code {code}"))))
    }

    /// The messages that are due now, as packets: what was due while the broker was away included, a window at a time.
    fn due(&mut self) -> Vec<u8> {
        let mut packets = Vec::new();
        while self.work.pace.owed() > 0 && self.open.len() < WINDOW && !self.work.end.load(SeqCst) {
            // Never 0 (section 2.3.1); far more than the window, so that none is open twice.
            self.last_id = self.last_id % u16::MAX + 1;
            let number = self.work.book.open(Road::Mqtt);
            self.open.push_back((self.last_id, number));
            self.work.pace.made += 1;
            packets.extend(frame(number, self.last_id, false));
        }
        packets
    }

    fn acknowledged(&mut self, id: u16, life: Life) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == id) {
            let (_, number) = self.open.remove(at).expect("it was found there");
            self.work.book.taken(number, life);
        }
    }
}

fn frame(number: u64, id: u16, again: bool) -> Vec<u8> {
    let message = message(number);
    publish(&message.topic, id, again, &message.payload)
}
