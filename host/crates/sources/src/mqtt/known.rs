//! With `journal = true`: which messages of a connection the rules have been given, and may be sent again.
//!
//! A broker sends again what it has no PUBACK for, with DUP and under the same packet id, when a connection is made anew: after a crash, with ours
//! or its own, or with a broken line. What the rules had before goes to no lane: it is acknowledged when the first copy is settled, or at once where
//! the state on disk has it, since that is only there once all sinks have confirmed. A message is known by its id and a digest of all that was sent.
//!
//! Ids are used again, and MQTT says no more of a message: another one, the same to the byte, under an id that its broker has just used, cannot be
//! told from a repetition by anything. Brokers that count ids up to 65,535, as most do, use none again within what may come again ([`REACH`]). With
//! one that does, only content that is unlike all other is trusted: what is in doubt is given to the rules, twice rather than never. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate_model::{Journaled, PacketMark, Taken};

use super::packet::{Publish, SessionState};
use super::window::PacketId;

/// How many messages a lane may at least hold before its state is written for them.
const LEAST_HELD: usize = 4;
/// How many messages back one may come again: more than a broker has in flight, also mosquitto, which goes beyond our receive maximum when a
/// session is resumed (20,000 were seen); and less than the 65,535 after which a broker that counts ids upwards comes to the same one again.
const REACH: u64 = 3 << 14;

/// The messages of a connection that may come again.
#[derive(Debug)]
pub(super) struct Known {
    stream: Arc<str>,
    lanes: usize,
    by_id: HashMap<u16, Entry>,
    next: u64,
    ids: Ids,
    /// The most that were unacknowledged at a time.
    peak: usize,
}

/// How a broker chooses packet ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// None was seen twice within reach.
    CountUp,
    UsedAgain,
}

#[derive(Debug)]
struct Entry {
    mark: PacketMark,
    /// Another message of this id was the same to the byte.
    twin: bool,
    /// The connection it came by.
    generation: u32,
    end: End,
    /// The connection it came by again, and how often.
    again_by: u32,
    again: u8,
}

/// How far a message is that was given to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its lane or the sinks have it.
    Open,
    /// It is stored and in the state on disk.
    Settled,
}

/// What a message is that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    New,
    /// The rules had it before.
    Again(End),
}

impl Known {
    /// Of the connection with this name, as the state on disk has it: `marks` by their sequence.
    pub(super) fn new(stream: Arc<str>, lanes: usize, marks: &[PacketMark]) -> Self {
        let by_id = HashMap::with_capacity(marks.len());
        let mut known = Self { stream, lanes: lanes.max(1), by_id, next: 1, ids: Ids::CountUp, peak: 0 };
        let newest = marks.last().map_or(0, |mark| mark.sequence);
        for &mark in marks.iter().filter(|mark| mark.sequence + REACH > newest) {
            known.enter(mark, 0, End::Settled);
        }
        known.next = newest + 1;
        known
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, session: SessionState) {
        if session == SessionState::New {
            // All ids begin anew. What is on disk of the last session is out of reach as soon as something of this one is there.
            self.by_id.clear();
            self.next += REACH;
        }
    }

    /// A message with an id came by connection `generation`, which has so many unacknowledged.
    pub(super) fn receive(&mut self, publish: &Publish, generation: u32, unacknowledged: usize) -> Met {
        self.peak = self.peak.max(unacknowledged);
        // What was sent before counts as sent with the newest: were it numbered anew after each crash, what still waits would fall behind.
        let sequence = if publish.duplicate { self.next - 1 } else { self.next };
        let mark = PacketMark { id: publish.id.0, sequence, digest: digest(publish) };
        if publish.duplicate
            && let Some(end) = self.again(mark, generation)
        {
            return Met::Again(end);
        }
        self.next = sequence + 1;
        self.enter(mark, generation, End::Open);
        Met::New
    }

    fn again(&mut self, mark: PacketMark, generation: u32) -> Option<End> {
        let others = |known: &Self| {
            let same = known.by_id.values().filter(|entry| entry.mark.digest == mark.digest).count();
            same > 1
        };
        let entry = self.by_id.get(&mark.id)?;
        let is_it = entry.mark.digest == mark.digest && entry.mark.sequence + REACH > self.next;
        // What was never acknowledged holds its id.
        let doubtful = self.ids == Ids::UsedAgain && entry.end == End::Settled;
        if !is_it || (doubtful && (entry.twin || others(self))) {
            return None;
        }
        let entry = self.by_id.get_mut(&mark.id)?;
        if std::mem::replace(&mut entry.again_by, generation) != generation {
            entry.again = 0;
        }
        entry.again = entry.again.saturating_add(1);
        Some(entry.end)
    }

    fn enter(&mut self, mark: PacketMark, generation: u32, end: End) {
        let before = self.by_id.get(&mark.id).filter(|entry| entry.mark.sequence + REACH > mark.sequence);
        if before.is_some() {
            self.ids = Ids::UsedAgain;
        }
        let twin = before.is_some_and(|before| before.mark.digest == mark.digest);
        self.by_id.insert(mark.id, Entry { mark, twin, generation, end, again_by: 0, again: 0 });
    }

    /// A message that came by connection `generation` is settled; gives how many copies of it the connection `now` has, each to be acknowledged.
    pub(super) fn settled(&mut self, id: PacketId, generation: u32, now: u32) -> u8 {
        let first = u8::from(generation == now);
        let Some(entry) = self.by_id.get_mut(&id.0).filter(|entry| entry.generation == generation) else {
            return first;
        };
        entry.end = End::Settled;
        first + if entry.again_by == now { entry.again } else { 0 }
    }

    /// A message that came by connection `generation` was given back, and is as good as new; gives whether the connection `now` has it.
    pub(super) fn returned(&mut self, id: PacketId, generation: u32, now: u32) -> bool {
        let ours = self.by_id.get(&id.0).is_some_and(|entry| entry.generation == generation);
        let entry = if ours { self.by_id.remove(&id.0) } else { None };
        generation == now || entry.is_some_and(|entry| entry.again_by == now && entry.again > 0)
    }

    /// What a lane has to know of a parcel with these messages; nothing, if none of them can come again.
    pub(super) fn taken(&self, ids: &[PacketId]) -> Option<Box<Journaled>> {
        let marks = ids.iter().filter_map(|id| Some(self.by_id.get(&id.0)?.mark));
        let packets: Vec<PacketMark> = marks.collect();
        if packets.is_empty() {
            return None;
        }
        let enough = LEAST_HELD.max(self.peak / (2 * self.lanes));
        let taken = Taken::Packets { packets, reach: REACH };
        Some(Box::new(Journaled { streams: vec![(self.stream.clone(), taken)], enough }))
    }
}

/// Of all that a publisher sent: half of a sha256, so that nobody makes one message pass for another.
fn digest(publish: &Publish) -> u128 {
    let mut sha = Sha256::new();
    let properties = publish.properties.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
    let said = publish.said.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
    for part in [&publish.topic[..], &publish.payload[..]].into_iter().chain(said).chain(properties) {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    let whole = sha.finalize();
    whole.iter().take(16).fold(0, |number, &byte| number << 8 | u128::from(byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
