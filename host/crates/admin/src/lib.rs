//! The HTTP interface: health, metrics, status, and rules switched on and off.
//!
//! It runs on a thread and a runtime of its own, so that it answers while lanes and sinks are saturated. It reads
//! snapshots; what changes something goes through the registry. Start with [`Admin::start`].
#![forbid(unsafe_code)]

mod access;
mod health;
mod metrics;
mod routes;
mod server;
mod status;

pub use server::{Admin, AdminError};
pub use status::{Status, View};
