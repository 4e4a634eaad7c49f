//! What a Tidegate rule is written with.
//!
//! A rule is a crate of type `cdylib` and `rlib` that implements one trait and exports it. The host calls it once a batch, with
//! columns; this crate gives it back a row at a time, without copying. A rule can ask the host for nothing but series ids, log
//! lines and counters: no files, no network, no clock.
//!
//! | you want to | implement | per row you get |
//! |---|---|---|
//! | turn payloads into points | [`Decoder`] | a [`Message`] |
//! | change, drop or refuse points | [`Transform`] | a [`Reading`] |
//! | watch points | [`Alert`] | a [`Reading`] and its series' state |
//! | work on whole columns | [`Rule`] | the batch |
//!
//! A whole rule:
//!
//! ```
//! use tidegate_rule::{About, Alarms, Alert, Reading, Scope, Severity, Tracked};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! pub struct Config {
//!     /// Raise while a value is above this.
//!     above: f64,
//! }
//!
//! pub struct High(f64);
//!
//! impl Alert for High {
//!     type Config = Config;
//!     type State = bool; // kept for each series: whether the alert stands
//!     const ABOUT: About = tidegate_rule::about!("Watches a limit").scope(Scope::Series).topics(&["dev/#"]);
//!
//!     fn new(config: Config) -> Result<Self, String> {
//!         Ok(Self(config.above))
//!     }
//!
//!     fn check(&mut self, reading: &Reading<'_>, raised: &mut Tracked<bool>, out: &mut Alarms) {
//!         let high = reading.value > self.0;
//!         if high != **raised {
//!             **raised = high;
//!             match high {
//!                 true => out.raise(reading, Severity::Warning, format_args!("{} is too high", reading.value)),
//!                 false => out.clear(reading, Severity::Warning, format_args!("{} is well", reading.value)),
//!             }
//!         }
//!     }
//! }
//!
//! tidegate_rule::export!(High as alert);
//! # fn main() {}
//! ```
//!
//! **State** is kept by series or by partition ([`BySeries`], [`ByPartition`]), saved by the host as it changes, and carried over when the
//! rule is replaced. **Time** is what the host says (`now_us`), in microseconds since 1970-01-01 UTC. **Configuration** is a struct; its JSON
//! Schema comes from it, and a key it does not have is refused. **Tests** are plain `cargo test` (see `testing`, natively only). **Building**:
//! `tidegate rule build` makes `target/<name>.wasm`, with the test cases in it; `tidegate rule new` writes a crate to begin with.

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
pub use time::{TIME_END_US, TimeUnit, seconds_to_us};
pub use topics::{PerTopic, Topics};
pub use transform::{Change, EachPoint, Transform};
