//! The books of account: what was received is decoded, stored as it came, filtered, dead-lettered or in flight, to the last one.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use schemars::JsonSchema;
use serde::Serialize;

/// One source's account, in messages. Counted when a message is settled, so that the line balances at any time:
/// `received = decoded + stored + filtered + dead_lettered + dropped + returned + in flight`.
#[derive(Debug, Default)]
pub struct MessageLedger {
    received: AtomicU64,
    decoded: AtomicU64,
    stored: AtomicU64,
    filtered: AtomicU64,
    dead_lettered: AtomicU64,
    dropped: AtomicU64,
    returned: AtomicU64,
    repeated: AtomicU64,
    /// Kept on its own, not worked out from the rest: so the line can be seen not to balance.
    in_flight: AtomicU64,
}

/// How some messages of one source ended within the lane, waiting for the sinks' word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// At least one point came of them, or a decoder holds them.
    pub decoded: u64,
    /// A sink takes them as they came, and nothing else came of them.
    pub stored: u64,
    /// A decoder let them fall, by intention.
    pub filtered: u64,
    /// They are in the dead letters.
    pub dead_lettered: u64,
    /// They were beyond a limit whose excess is dropped.
    pub dropped: u64,
}

/// A reading of a [`MessageLedger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MessageTotals {
    /// Taken in, less those given back to the source (which it delivers, and we count, again).
    pub received: u64,
    /// Became points, durably stored.
    pub decoded: u64,
    /// Became no points, and are durable as they came: in every sink that takes messages, or in its spool.
    pub stored: u64,
    /// Fell by intention.
    pub filtered: u64,
    /// Durably in the dead letters.
    pub dead_lettered: u64,
    /// Beyond a limit whose excess is dropped, as configured.
    pub dropped: u64,
    /// Not settled yet.
    pub in_flight: u64,
    /// Given back to the source, unsettled; not part of `received`.
    pub returned: u64,
    /// Came again although they are stored and in the state of rules (`journal`), and were acknowledged as they came; not part of `received`.
    pub repeated: u64,
}

impl MessageLedger {
    /// Counts messages taken in.
    pub fn receive(&self, messages: u64) {
        self.in_flight.fetch_add(messages, Relaxed);
        self.received.fetch_add(messages, Relaxed);
    }

    /// Counts `messages` whose end is durable, by how they ended.
    pub fn settle(&self, messages: u64, tally: Tally) {
        self.decoded.fetch_add(tally.decoded, Relaxed);
        self.stored.fetch_add(tally.stored, Relaxed);
        self.filtered.fetch_add(tally.filtered, Relaxed);
        self.dead_lettered.fetch_add(tally.dead_lettered, Relaxed);
        self.dropped.fetch_add(tally.dropped, Relaxed);
        // Last: who sees that nothing is in flight sees how all of it ended.
        self.in_flight.fetch_sub(messages, Release);
    }

    /// Counts messages given back to the source.
    pub fn give_back(&self, messages: u64) {
        self.returned.fetch_add(messages, Relaxed);
        self.in_flight.fetch_sub(messages, Release);
    }

    /// Counts messages that came again, and that nothing is to be done with.
    pub fn repeat(&self, messages: u64) {
        self.repeated.fetch_add(messages, Relaxed);
    }

    /// A reading. Exact while nothing moves; while something does, it may be off by what moves.
    pub fn totals(&self) -> MessageTotals {
        let in_flight = self.in_flight.load(Acquire);
        let (decoded, filtered) = (self.decoded.load(Relaxed), self.filtered.load(Relaxed));
        let (dead_lettered, returned) = (self.dead_lettered.load(Relaxed), self.returned.load(Relaxed));
        let (stored, dropped) = (self.stored.load(Relaxed), self.dropped.load(Relaxed));
        let repeated = self.repeated.load(Relaxed);
        let received = self.received.load(Relaxed).saturating_sub(returned);
        MessageTotals { received, decoded, stored, filtered, dead_lettered, dropped, in_flight, returned, repeated }
    }
}

impl MessageTotals {
    /// Whether `received = decoded + stored + filtered + dead_lettered + dropped + in_flight`. Of a reading taken while messages move it says nothing.
    pub fn balances(&self) -> bool {
        let ended = self.decoded + self.stored + self.filtered + self.dead_lettered + self.dropped;
        self.received == ended + self.in_flight
    }
}

impl std::iter::Sum for MessageTotals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            received: a.received + b.received,
            decoded: a.decoded + b.decoded,
            stored: a.stored + b.stored,
            filtered: a.filtered + b.filtered,
            dead_lettered: a.dead_lettered + b.dead_lettered,
            dropped: a.dropped + b.dropped,
            in_flight: a.in_flight + b.in_flight,
            returned: a.returned + b.returned,
            repeated: a.repeated + b.repeated,
        })
    }
}

/// The points' account, for the whole process:
/// `produced + generated = stored + filtered + dead_lettered + held + returned + in flight`.
#[derive(Debug, Default)]
pub struct PointLedger {
    /// Made by decoders, and by processors out of rows.
    pub produced: AtomicU64,
    /// Made by `tick`.
    pub generated: AtomicU64,
    /// Confirmed by every sink that wants points, or on disk in its spool: that is when their messages are settled.
    pub stored: AtomicU64,
    /// Let fall by processors, by intention, or marked not to be stored.
    pub filtered: AtomicU64,
    /// Rejected by a processor or a sink.
    pub dead_lettered: AtomicU64,
    /// Kept by a processor for later output.
    pub held: AtomicU64,
    /// Went back with their messages.
    pub returned: AtomicU64,
}

/// A reading of a [`PointLedger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "as in PointLedger")]
pub struct PointTotals {
    pub produced: u64,
    pub generated: u64,
    pub stored: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub held: u64,
    pub returned: u64,
    pub in_flight: u64,
}

impl PointLedger {
    /// A reading; see [`MessageLedger::totals`].
    pub fn totals(&self) -> PointTotals {
        let mut t = PointTotals {
            stored: self.stored.load(Relaxed),
            filtered: self.filtered.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            held: self.held.load(Relaxed),
            returned: self.returned.load(Relaxed),
            ..PointTotals::default()
        };
        t.produced = self.produced.load(Relaxed);
        t.generated = self.generated.load(Relaxed);
        let ended = t.stored + t.filtered + t.dead_lettered + t.held + t.returned;
        t.in_flight = (t.produced + t.generated).saturating_sub(ended);
        t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the line balances through every end, and a tally that forgets a message shows.
    #[test]
    fn the_line_balances_or_shows() {
        let ledger = MessageLedger::default();
        ledger.receive(10);
        assert_eq!((ledger.totals().in_flight, ledger.totals().balances()), (10, true));
        ledger.settle(6, Tally { decoded: 1, stored: 1, filtered: 2, dead_lettered: 1, dropped: 1 });
        ledger.give_back(4);
        let totals = ledger.totals();
        assert_eq!((totals.received, totals.in_flight, totals.returned, totals.balances()), (6, 0, 4, true));
        ledger.repeat(3);
        assert_eq!((ledger.totals().repeated, ledger.totals().balances()), (3, true));
        ledger.receive(2);
        ledger.settle(2, Tally { decoded: 1, ..Tally::default() });
        assert!(!ledger.totals().balances());
    }
}
