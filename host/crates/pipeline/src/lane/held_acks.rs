//! Acks of messages whose source has `journal = true`, held until the state that has them is on disk.
//!
//! A message's ack resolves when its sinks have confirmed and when its share here has: that goes into the lane's next cut, and resolves when the
//! cut is on disk. So what a crash takes from the state was never acknowledged, and comes again. The cut says which messages it has, for the other
//! half of the bargain: what was acknowledged too late is known when it comes again.
//!
//! A source has so many messages in flight and no more, so such a lane does not wait a second to cut: it does so when it holds enough, or a
//! moment after it began to hold something. One write to disk serves all that came meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tidegate_model::{Ack, Journaled, StateChange, Taken};

/// How long acks are held before their lane cuts for them: long enough that a trickle of messages does not sync the disk for each.
const LINGER: Duration = Duration::from_millis(20);

/// What is held since the last cut.
#[derive(Debug, Default)]
pub(crate) struct HeldAcks {
    acks: Vec<Ack>,
    streams: HashMap<Arc<str>, Taken>,
    rows: usize,
    /// When to cut; none while nothing is held.
    due: Option<Instant>,
}

impl HeldAcks {
    /// The share of a parcel with so many messages, which the lane has taken in.
    pub fn take(&mut self, journaled: Journaled, rows: usize, ack: Ack) {
        for (stream, taken) in journaled.streams {
            match self.streams.get_mut(&stream) {
                Some(known) => known.append(taken),
                None => drop(self.streams.insert(stream, taken)),
            }
        }
        self.rows += rows;
        self.hold(ack);
        if self.rows >= journaled.enough {
            self.due = Some(Instant::now());
        }
    }

    /// The share of messages that another lane speaks for.
    pub fn hold(&mut self, ack: Ack) {
        self.acks.push(ack);
        self.due.get_or_insert_with(|| Instant::now() + LINGER);
    }

    /// When to cut, if anything is held.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// There could be no cut now.
    pub fn put_off(&mut self) {
        self.due = self.due.map(|_| Instant::now() + LINGER);
    }

    /// All of it, for a cut: which messages these are, and what resolves when it is on disk.
    pub fn cut(&mut self) -> (impl Iterator<Item = StateChange> + use<>, Ack) {
        let Self { acks, streams, .. } = std::mem::take(self);
        (streams.into_iter().map(|(stream, taken)| StateChange::Taken { stream, taken }), Ack::join(acks))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use tidegate_model::{OffsetMark, Outcome, PacketMark};

    use super::*;

    fn packets(sequences: &[u64]) -> Journaled {
        let packets = sequences.iter().map(|&sequence| PacketMark { id: 1, sequence, digest: 0 }).collect();
        Journaled { streams: vec![("m".into(), Taken::Packets { packets, reach: 9 })], enough: 3 }
    }

    /// Guarantees: a cut has all messages that were taken since the last one, and all their acks resolve with it; there is nothing left for the next.
    #[test]
    fn a_cut_has_all_of_it() {
        let (mut held, log) = (HeldAcks::default(), Arc::new(Mutex::new(Vec::new())));
        let ack = |number| {
            let log = log.clone();
            Ack::new(move |outcome| log.lock().unwrap().push((number, outcome)))
        };
        let offsets = |upto| {
            let taken = Taken::Offsets(OffsetMark { from: 1, upto });
            Journaled { streams: vec![("k".into(), taken)], enough: 9 }
        };
        held.take(packets(&[1]), 1, ack(1));
        held.take(offsets(7), 1, ack(2));
        held.take(packets(&[2]), 1, ack(3));
        held.take(offsets(8), 1, ack(4));
        let (changes, kept) = held.cut();
        let mut changes: Vec<_> = changes.collect();
        changes.sort_by_key(|change| matches!(change, StateChange::Taken { stream, .. } if &**stream == "m"));
        let expected = [offsets(8), packets(&[1, 2])].map(|mut journaled| {
            let (stream, taken) = journaled.streams.remove(0);
            StateChange::Taken { stream, taken }
        });
        assert_eq!(changes, expected);
        assert!(held.due().is_none() && held.cut().0.next().is_none());
        assert!(log.lock().unwrap().is_empty());
        kept.resolve(Outcome::Settled);
        assert_eq!(*log.lock().unwrap(), [1, 2, 3, 4].map(|number| (number, Outcome::Settled)));
    }

    /// Guarantees: what is held is due in a moment, and at once where it is as much as its source lets a lane hold.
    #[test]
    fn due() {
        let (mut held, began) = (HeldAcks::default(), Instant::now());
        assert!(held.due().is_none());
        held.take(packets(&[1, 2]), 2, Ack::none());
        assert!(held.due().unwrap() >= began + LINGER);
        held.take(packets(&[3]), 1, Ack::none());
        assert!(held.due().unwrap() <= Instant::now());
        held.put_off();
        assert!(held.due().unwrap() >= began + LINGER);
    }
}
