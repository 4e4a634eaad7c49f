//! The HTTP interface: health and metrics for machines, and the API by which people and scripts see and change a host.
//!
//! It runs on a thread and a runtime of its own, so that it answers while lanes and sinks are saturated. It reads snapshots; what
//! changes rules is written to the rules directory, whole, and goes through the registry. It never holds a lane up, never decodes
//! a path, and never writes a token, a payload or a query anywhere.
//!
//! `table.rs` has every route, `gate/` what each request must pass, `rules/` the desk at which rules are changed. Start with
//! [`Admin::start`].
#![forbid(unsafe_code)]

mod app_state;
mod backtest;
mod body;
mod connection;
mod gate;
mod health;
mod incoming;
mod leaving;
mod letters;
mod metrics;
mod openapi;
mod page;
mod patience;
mod places;
mod problem;
mod recent;
mod refusals;
mod route;
mod routes;
mod rules;
mod server;
mod shapes;
mod sse;
mod status;
mod table;
mod tls;

pub use health::Health;
pub use letters::{LetterChoice, LetterFilter, Letters, NotCompacted};
pub use rules::{digest, mend_rules, tell_of_half, validate_and_exit};
pub use server::{Admin, AdminError};
pub use status::{Status, View};
