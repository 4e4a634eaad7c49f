//! The way of a message from its source's parcel to its ack: lanes, routing, the rules' chain, sinks.
//!
//! ```text
//! Inlet ─[bounded]→ lane: gather → decode → process … ─[bounded]→ flush (one task a sink) → Ack
//! ```
//!
//! A [`lane`] is an OS thread that owns one instance of every rule. It takes what has gathered since its last
//! batch, calls each rule once, and hands the outcome to the sinks. No lock is held across a guest call, and nothing
//! is queued between rules, but on the way to those of the whole node, which have a lane of their own. This crate knows traits, not brokers or databases.
#![forbid(unsafe_code)]

mod alert_book;
mod alert_history;
mod dead_letter;
mod deploy;
mod flush;
mod lane;
mod outlets;
mod pipeline;
mod sink_setup;
mod tap;

pub use alert_book::{AlertBook, MAX_STANDING, News, Standing};
pub use alert_history::{Past, PastFilter};
pub use deploy::LaneDeploy;
pub use flush::{SinkLimits, SinkStatus, SinkTotals};
pub use lane::{Fate, LaneKind, LaneStatus, LaneTotals, Reset};
pub use pipeline::{Drained, Kept, Pipeline, PipelineSettings, PipelineStatus, ResetError, SourceStatus, StateReset};
pub use sink_setup::SinkSetup;
pub use tap::{Glimpse, MOST_TAILS, Tail, TooManyTails, Wanted};
