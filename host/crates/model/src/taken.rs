//! What of a source's messages the state of rules has: kept with that state, in the same transaction, so that a message that comes again after a
//! crash is known, and goes to no rule a second time.
//!
//! Messages come in *streams*, each with an order of its own: a connection to an MQTT broker, a partition of a Kafka topic. Their names are the
//! sources' affair.

use std::sync::Arc;

/// A message of an MQTT connection that is in the state, and may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMark {
    /// Its packet id. Its broker uses that again, once it is acknowledged.
    pub id: u16,
    /// Counts up with each message that its broker sends for the first time, over restarts; one that is sent again has that of the newest.
    pub sequence: u64,
    /// Of all that was sent: tells it from another message of that id.
    pub digest: u128,
}

/// The records of a partition that are in the state, and may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetMark {
    /// All before this were committed when it was noted. What comes from before it is read for another reason than a crash.
    pub from: i64,
    /// The last one.
    pub upto: i64,
}

/// Messages of one stream that are in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Of an MQTT connection.
    Packets {
        /// These.
        packets: Vec<PacketMark>,
        /// How many sequence numbers behind the newest one may yet come again; what is further behind was acknowledged for certain.
        reach: u64,
    },
    /// Of a partition: from what may come again up to the last that was taken.
    Offsets(OffsetMark),
}

impl Taken {
    /// Adds what was taken of the same stream later.
    pub fn append(&mut self, later: Taken) {
        match (self, later) {
            (Taken::Packets { packets, reach }, Taken::Packets { packets: more, reach: now }) => {
                packets.extend(more);
                *reach = now;
            }
            (this, later) => *this = later,
        }
    }
}

/// Which messages a parcel has, of a source with `journal = true`: its ack waits for the state that has them to be on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// By stream.
    pub streams: Vec<(Arc<str>, Taken)>,
    /// How many messages a lane may hold before it has its state written: beyond that the source would run out of what it may have in flight.
    pub enough: usize,
}
