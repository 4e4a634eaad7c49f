//! Keeps the state of rules, and the alerts that stand, over restarts: `<data_dir>/state/state.db`.
//!
//! Lanes hand over what changed, every second. One thread writes it, a transaction for all that waits, by the names of series and
//! partitions: another process has other ids, and may have another number of lanes. Nothing here knows a guest; a cell is bytes and the
//! version that saved them.
//!
//! Each cell is sealed by a checksum: one that is damaged is left out and counted. A file that SQLite cannot read is set
//! aside, and all that the lanes have is asked for again ([`tidegate_model::StateStore::epoch`]).
//!
//! | file | what |
//! |---|---|
//! | `store` | [`StateFile`], what lanes call; start here |
//! | `writer` | its thread, which alone has the file |
//! | `unwritten` | what waits for the disk: the last word on each cell |
//! | `database` | the tables |
//! | `taken` | those that say which messages the state has, of sources with a journal |
#![forbid(unsafe_code)]

mod database;
mod store;
mod taken;
mod unwritten;
mod writer;

pub use store::StateFile;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
