//! The integration suite: what Tidegate guarantees, shown on the real binary with real servers.
//!
//! One binary, so that it is linked once. A module a subject; each test says in its first lines what it guarantees.
//! `make test` runs it with every server there; under plain `cargo test` what needs a missing server is skipped, loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod alerts;
mod api;
mod api_access;
mod api_bodies;
mod api_bombs;
mod api_cli;
mod api_desired;
mod api_document;
mod api_fleet;
mod api_generations;
mod api_held;
mod api_kept;
mod api_letters;
mod api_live;
mod api_others;
mod api_shadow;
mod api_state;
mod api_whole;
mod architecture;
mod backtest;
mod bridge;
mod bridge_raw;
mod brokers;
mod cli;
mod dead_letters;
mod delivery;
mod descriptors;
mod disk_full;
mod documents;
mod engine;
mod exactly_once;
mod failpoints;
mod garbage;
mod hostile;
mod journal;
mod kafka_secured;
mod labels;
mod licences;
mod limits;
mod node_lane;
mod outages;
mod parked;
mod proxy;
mod python;
mod replay;
mod rule_author;
mod servers_run;
mod signatures;
mod spool;
mod state;
mod state_crash;
mod swaps;
mod tidy;
mod timescale;
mod timescale_cuts;
mod timescale_jobs;
mod timescale_late;
mod timescale_times;
mod waited;
