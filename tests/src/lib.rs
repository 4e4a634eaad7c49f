//! The harness of the integration suite: real servers, the real binary, and books of account over what went in and out.
//!
//! A test reads like what it guarantees: start a [`Mosquitto`] (or [`Kafka`], [`Postgres`]), set up a [`Host`] with a few
//! lines of its own configuration, publish [`Message`]s, and let [`Account`] say what was lost, doubled or not byte for byte.
//! Everything that is started listens on 127.0.0.1, has a directory of its own, and ends with the value that stands for it.
//!
//! Nothing here waits for a time to pass: [`wait_for`] waits for a condition, with a deadline, and says what it saw last.
//! Nothing here knows the host's crates: the binary is driven from outside, as its users do.
//!
//! Start reading with `host.rs`, then `message.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod account;
mod ask;
mod events;
mod host;
mod house;
mod http;
mod kafka;
mod left_behind;
mod listener;
mod machine;
mod message;
mod mosquitto;
mod offsets;
mod postgres;
mod proxy;
mod publisher;
mod rules;
mod server;
mod servers_run;
mod setup;
mod sins;
mod small_disk;
mod status;
mod store;
mod timescale;
mod wait;
mod wat_guest;

pub use account::Account;
pub use ask::{Answer, Ask};
pub use events::Events;
pub use host::Host;
pub use house::{House, is_poison};
pub use http::Response;
pub use kafka::{Feed, KAFKA_USER, Kafka};
pub use left_behind::{memory_kib, traps};
pub use listener::{Heard, Listener};
pub use machine::{
    binary, built_module, componentize_py, files, free_port, guest_module, installed, root, runtime, schemathesis,
};
pub use message::{Expect, Message, Row, fleet, garbage, hostile, plain, readings};
pub use mosquitto::Mosquitto;
pub use offsets::GroupOffsets;
pub use postgres::Postgres;
pub use proxy::{Fault, Proxy, Tap, Way};
pub use publisher::{Load, Publisher, Qos};
pub use rules::{compile_bomb, padded, variant};
pub use server::{Server, Signal};
pub use setup::{Protocol, Setup};
pub use sins::{REMEMBER, SINS, Sin, When, when_reading};
pub use small_disk::{SmallDisk, with_own_mounts};
pub use status::{
    Lag, Messages, ModuleCache, Points, RuleStatus, SinkStatus, SourceStatus, SpoolStatus, Status, Unread,
};
pub use store::{AlertRow, DeadLetter, sqlite_alerts, sqlite_count, sqlite_dead_letters, sqlite_rows};
pub use timescale::Timescale;
pub use wait::{DEADLINE, wait_for};
pub use wat_guest::{wat_guest, wat_guest_with_schema};
