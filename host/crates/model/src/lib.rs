//! The words of the house: columns, ids, acks, the ledger, and the traits of sources and sinks.
//!
//! Nothing here does I/O or knows wasmtime, a broker or a database; every other crate speaks in these
//! types. Start with [`Messages`] and [`Points`] (what flows), then [`Ack`] (why nothing is lost), then
//! [`Source`] and [`Sink`] (the two ends).
#![forbid(unsafe_code)]

mod ack;
mod alert;
mod book;
mod clock;
mod dead_letters;
mod delivery;
mod described;
mod filter;
mod health;
mod history;
mod inlet;
mod label_room;
mod latency;
mod ledger;
mod limit;
mod messages;
mod points;
mod positions;
mod ragged;
mod redescribed;
mod sink;
mod source;
mod spool;
mod state;
mod state_store;
mod taken;

pub use ack::{Ack, Outcome};
pub use alert::{Alert, Command, Severity, Transition};
pub use book::{Book, Books, Description, Full, Series, Topic};
pub use clock::{Clock, EARLIEST_S, ManualClock, SystemClock, is_set};
pub use dead_letters::{DeadLetterAccount, DeadLetterTotals, DroppedLetters, Replays};
pub use delivery::{DeadLetter, Delivery, OriginIs, Refused, Stage};
pub use described::DescribedAs;
pub use filter::{FilterError, TopicFilter};
pub use health::{FailedJobs, Health, Lag, State, Unread};
pub use history::{History, HistoryError, Logs, Names, PAGE_BYTES, Page, Past, Span};
pub use inlet::{Inlet, InletClosed, Intake, Parcel, ParcelLimits, Parcels};
pub use label_room::{LabelRoom, Place, Telling};
pub use latency::Latency;
pub use ledger::{MessageLedger, MessageTotals, PointLedger, PointTotals, Tally};
pub use limit::{Excess, Limit, Limits, PrefixLimit};
pub use messages::{Marks, Messages, Properties, Sizes};
pub use points::{Points, Quality, Texts};
pub use positions::{Log, Position, Positions, Stored};
pub use ragged::Ragged;
pub use redescribed::Redescribed;
pub use sink::{RawMessages, Rejected, Sink, SinkError, Wants, Written};
pub use source::{Phase, PhaseWatch, Source, SourceError};
pub use spool::{RecordId, Spool, SpoolError, SpoolOrder, SpoolTotals, Spooled};
pub use state::{Cell, SavedState, StateBook};
pub use state_store::{KeptAlerts, KeptState, StateChange, StateStore, StateTotals, StateUnread};
pub use taken::{Journaled, OffsetMark, PacketMark, Taken};

/// Declares a newtype for a dense `u32` id.
macro_rules! dense_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The id as an index into a table of its kind.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

dense_id! {
    /// A topic, dense from 0 within this process; see [`Books`].
    TopicId
}
dense_id! {
    /// A series, dense from 0 within this process; see [`Books`].
    SeriesId
}
dense_id! {
    /// What stays together, in order, on one lane: by default one topic.
    PartitionId
}

/// Stands in a `from_row` column where there is no row, as in what `tick` emits.
pub const NO_ROW: u32 = u32::MAX;
