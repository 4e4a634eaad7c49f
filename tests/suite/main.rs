//! The integration suite: what Tidegate guarantees, shown on the real binary with real servers.
//!
//! One binary, so that it is linked once. A module a subject; each test says in its first lines what it guarantees.
//! `make test` runs it with every server there; under plain `cargo test` what needs a missing server is skipped, loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod alerts;
mod architecture;
mod cli;
mod dead_letters;
mod delivery;
mod documents;
mod garbage;
mod hostile;
mod outages;
mod proxy;
mod swaps;
mod tidy;
