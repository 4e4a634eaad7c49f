//! What a Tidegate rule is written with.

mod about;
mod alert;
mod book;
mod call;
pub mod columns;
mod configure;
mod decoder;
mod export;
mod filter;
pub mod json;
mod life;
mod message;
mod quality;
mod reading;
mod rejects;
mod rule;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod time;
mod topics;
mod transform;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;

pub use about::{About, Properties, Scope};
pub use alert::{Alarm, Alarms, Alert, EachReading};
pub use book::{SeriesBook, SeriesHandle};
pub use call::{Call, Host, Level, NewSeries, Refusal};
pub use columns::{Command, PartitionId, Series, SeriesId, Severity, Topic, TopicId, Transition};
pub use decoder::{Decoder, EachMessage, Out};
pub use filter::TopicFilter;
pub use life::Life;
pub use message::{Marks, Message};
pub use quality::Quality;
pub use reading::Reading;
pub use rejects::Reason;
pub use rule::Rule;
pub use state::{ByPartition, BySeries, State, Table, Tabled, Tracked};
pub use time::{TIME_END_US, TimeUnit};
pub use topics::{PerTopic, Topics};
pub use transform::{Change, EachPoint, Transform};
