//! Against a plain model of a broker, its connections and our crashes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;

fn publish(id: u16, payload: &str, duplicate: bool) -> Publish {
    Publish {
        topic: Bytes::from_static(b"t"),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        id: PacketId(id),
        retained: false,
        duplicate,
        said: Vec::new(),
        properties: Vec::new(),
    }
}

fn known(marks: &[PacketMark]) -> Known {
    Known::new("c".into(), 2, marks)
}

fn marks(known: &Known, ids: &[u16]) -> Vec<PacketMark> {
    let ids: Vec<PacketId> = ids.iter().map(|&id| PacketId(id)).collect();
    let Some(mut journaled) = known.taken(&ids) else { return Vec::new() };
    match journaled.streams.remove(0).1 {
        Taken::Packets { packets, .. } => packets,
        Taken::Offsets(_) => Vec::new(),
    }
}

/// Guarantees: what the state on disk has is known when it comes again, by id, content and DUP, all three; what it has not is new.
#[test]
fn after_a_crash() {
    let mut first = known(&[]);
    for (id, payload) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(first.receive(&publish(id, payload, false), 1, 0), Met::New);
    }
    let kept = marks(&first, &[1, 2]);
    let meet = |id, payload, duplicate| known(&kept).receive(&publish(id, payload, duplicate), 1, 0);
    assert_eq!(meet(1, "a", true), Met::Again(End::Settled));
    assert_eq!(meet(2, "b", true), Met::Again(End::Settled));
    assert_eq!([meet(3, "c", true), meet(1, "b", true), meet(1, "a", false)], [Met::New; 3]);
    let mut anew = known(&kept);
    anew.connected(SessionState::New);
    assert_eq!(anew.receive(&publish(1, "a", true), 1, 0), Met::New, "another session");
}

/// Guarantees: after a break, what is still open is acknowledged on the new connection when the first copy is settled, as often as it came; what
/// was given back goes to the rules again.
#[test]
fn after_a_break() {
    let mut known = known(&[]);
    for id in 1..=3 {
        known.receive(&publish(id, &id.to_string(), false), 1, 0);
    }
    assert_eq!(known.settled(PacketId(3), 1, 1), 1);
    known.connected(SessionState::Resumed);
    for id in [1, 2] {
        assert_eq!(known.receive(&publish(id, &id.to_string(), true), 2, 0), Met::Again(End::Open));
    }
    assert_eq!(known.receive(&publish(3, "3", true), 2, 0), Met::Again(End::Settled));
    assert_eq!(known.receive(&publish(1, "1", true), 2, 0), Met::Again(End::Open), "a broker that repeats itself");
    assert_eq!(known.settled(PacketId(1), 1, 2), 2);
    assert!(known.returned(PacketId(2), 1, 2));
    assert_eq!(known.receive(&publish(2, "2", true), 3, 0), Met::New);
    assert_eq!(known.settled(PacketId(2), 1, 3), 0, "of the copy that was given back");
    assert_eq!(known.settled(PacketId(2), 3, 3), 1);
}

/// Guarantees: with a broker that uses ids again at once, what is the same to the byte as another message is never taken for a repetition once it is
/// settled; what is unlike all other still is.
#[test]
fn ids_used_again() {
    let mut first = known(&[]);
    for (id, payload) in [(1, "same"), (1, "same"), (2, "other")] {
        first.receive(&publish(id, payload, false), 1, 0);
        first.settled(PacketId(id), 1, 1);
    }
    let kept = marks(&first, &[1, 2]);
    assert_eq!(first.receive(&publish(1, "same", true), 2, 0), Met::New);
    assert_eq!(first.receive(&publish(2, "other", true), 2, 0), Met::Again(End::Settled));
    let mut second = known(&[PacketMark { sequence: 0, ..kept[0] }, kept[0], kept[1]]);
    assert_eq!(second.receive(&publish(1, "same", true), 1, 0), Met::New);
    assert_eq!(second.receive(&publish(2, "other", true), 1, 0), Met::Again(End::Settled));
}

/// Guarantees: over many crashes and breaks, with two lanes that keep at different times, a broker that counts ids upwards and content that repeats
/// itself, the state that is kept has each message once, whatever was acknowledged in time.
#[test]
fn agrees_with_a_plain_model() {
    for seed in 0..200 {
        Model::new(seed).run();
    }
}

/// A broker with a window of 8, two lanes, and a disk.
struct Model {
    random: fastrand::Rng,
    /// Sent and not acknowledged: id, number of the message, whether it was sent on this connection.
    unacknowledged: VecDeque<(u16, u32)>,
    sent: u32,
    /// What each lane has taken since it last kept its state.
    taken: [Vec<(u16, u32)>; 2],
    /// Settled, and perhaps not yet acknowledged.
    settled: Vec<u32>,
    disk: Vec<PacketMark>,
    /// By number: how often the state on disk has it.
    kept: Vec<u32>,
    known: Known,
    generation: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            unacknowledged: VecDeque::new(),
            sent: 0,
            taken: Default::default(),
            settled: Vec::new(),
            disk: Vec::new(),
            kept: Vec::new(),
            known: known(&[]),
            generation: 1,
        }
    }

    fn run(&mut self) {
        for _ in 0..2_000 {
            match self.random.u32(0..100) {
                0..50 => self.send(),
                50..70 => self.keep(),
                70..94 => self.acknowledge(),
                94..97 => self.reconnect(),
                _ => self.crash(),
            }
        }
        self.reconnect();
        self.keep();
        self.keep();
        (0..2).for_each(|lane| self.keep_lane(lane));
        assert_eq!(self.kept, vec![1; self.sent as usize]);
    }

    /// Content repeats itself, as that of a signal that stands still does.
    fn packet(&(id, number): &(u16, u32), duplicate: bool) -> Publish {
        publish(id, &(number % 3).to_string(), duplicate)
    }

    fn lane(number: u32) -> usize {
        (number % 3 % 2) as usize
    }

    fn send(&mut self) {
        if self.unacknowledged.len() == 8 {
            return;
        }
        let message = ((self.sent % 65_535 + 1) as u16, self.sent);
        self.sent += 1;
        self.kept.push(0);
        self.unacknowledged.push_back(message);
        // It may be lost on the way.
        if self.random.u32(0..10) > 0 {
            assert_eq!(self.known.receive(&Self::packet(&message, false), self.generation, 0), Met::New);
            self.taken[Self::lane(message.1)].push(message);
        } else {
            self.reconnect();
        }
    }

    fn keep(&mut self) {
        let lane = self.random.usize(0..2);
        self.keep_lane(lane);
    }

    fn keep_lane(&mut self, lane: usize) {
        for (id, number) in std::mem::take(&mut self.taken[lane]) {
            self.disk.extend(marks(&self.known, &[id]));
            self.kept[number as usize] += 1;
            self.known.settled(PacketId(id), self.generation, self.generation);
            self.settled.push(number);
        }
    }

    /// In order, as far as all is settled, and perhaps not all of it.
    fn acknowledge(&mut self) {
        let most = self.random.usize(0..4);
        for _ in 0..most {
            self.unacknowledged.pop_front_if(|(_, number)| self.settled.contains(number));
        }
    }

    fn reconnect(&mut self) {
        // All that was taken stays with its lane; it is settled under the connection that it came by, which the model leaves out.
        (0..2).for_each(|lane| self.keep_lane(lane));
        self.generation += 1;
        self.known.connected(SessionState::Resumed);
        self.again();
    }

    fn crash(&mut self) {
        self.taken = Default::default();
        self.disk.sort_by_key(|mark| mark.sequence);
        self.known = known(&self.disk);
        self.generation = 1;
        self.again();
    }

    fn again(&mut self) {
        for message in self.unacknowledged.clone() {
            let met = self.known.receive(&Self::packet(&message, true), self.generation, 0);
            let expected = if self.kept[message.1 as usize] > 0 { Met::Again(End::Settled) } else { Met::New };
            assert_eq!(met, expected, "{message:?} of {:?}", self.unacknowledged);
            if met == Met::New {
                self.taken[Self::lane(message.1)].push(message);
            }
        }
    }
}
