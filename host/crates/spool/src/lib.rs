//! The durable queue in front of a sink.
//!
//! While a sink cannot write, the pipeline appends its deliveries here and acknowledges them: a transaction an append, synced before it
//! counts. When the sink works again they are drained in order. A spool is bounded in bytes, survives the process, and opens
//! without its sink. It never acknowledges, retries or knows a sink: that is the pipeline's business ([`tidegate_model::Spool`] is
//! what it promises).
//!
//! One delivery is one record: self-contained columns with names for ids, sealed by a checksum, in a SQLite file
//! `<data_dir>/spool/<sink>.db`. Damage costs the records it hit, no others, and is always counted; see `file` for what is done about it.
//!
//! | file | what |
//! |---|---|
//! | `queue` | [`SpoolQueue`], what the pipeline calls; start here |
//! | `file` | append, give, remove, set aside: the spool's thread |
//! | `record`, `columns` | the form of a record on disk |
//! | `encode`, `decode`, `naming` | deliveries to records and back |
//! | `salvage`, `pages` | whole records out of a damaged file |
//! | `read` | [`inspect`], [`verify`] and [`export`], for the CLI |
#![forbid(unsafe_code)]

mod account;
mod columns;
mod database;
mod decode;
mod encode;
mod file;
mod in_hand;
mod naming;
mod pages;
mod queue;
mod read;
mod record;
mod salvage;
mod trouble;

pub use queue::SpoolQueue;
pub use read::{Exported, Inspection, MOST_FINDINGS, ReadError, Verification, export, inspect, list, path, verify};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
