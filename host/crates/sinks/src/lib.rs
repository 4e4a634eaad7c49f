//! Where messages, points, alerts, commands and dead letters go.
//!
//! Each sink is one folder or file and implements [`tidegate_model::Sink`]: it writes, and says whether what failed may work
//! later ([`SinkError::Retry`]), wants a person ([`SinkError::NeedsOperator`]) or is one row's own fault
//! ([`Written::rejected`]). None of them batches, waits between tries, or acknowledges: that is the pipeline's business. None
//! connects or opens anything before its first write, and none answers `Ok` before the data would survive the process.
//!
//! | sink | takes | durable when |
//! |---|---|---|
//! | [`Sqlite`] | points, alerts | its transaction is in the WAL and synced |
//! | [`Timescale`] | points, alerts | its transaction is committed |
//! | [`Mqtt`] | alerts, commands | the broker has sent PUBACK for each (QoS 1) |
//! | [`Kafka`] | messages, points, alerts, dead letters, as configured | all replicas in sync have acknowledged each record |
//! | [`Ndjson`] | points, alerts, dead letters, as configured | the file is synced; standard output is flushed |
//! | [`DeadLetters`] | dead letters | its transaction is in the WAL and synced |
//! | [`Discard`] | points, alerts | never: for load tests |
//!
//! Start with [`Sqlite`], the simplest that keeps anything; [`Timescale`] is the one that has to be fast.
//!
//! [`SinkError::Retry`]: tidegate_model::SinkError::Retry
//! [`SinkError::NeedsOperator`]: tidegate_model::SinkError::NeedsOperator
//! [`Written::rejected`]: tidegate_model::Written::rejected
#![forbid(unsafe_code)]

pub mod dead_letters;
mod discard;
pub mod json;
mod kafka;
mod mqtt;
mod ndjson;
mod only;
mod rows;
mod series;
mod sqlite;
mod sqlite_thread;
mod time;
mod timescale;
mod tls;

pub use dead_letters::DeadLetters;
pub use discard::{Discard, Discarded};
pub use kafka::Kafka;
pub use mqtt::Mqtt;
pub use ndjson::Ndjson;
pub use only::Only;
pub use sqlite::{Sqlite, SqliteHistory};
pub use time::Rfc3339;
pub use timescale::{
    Migrated, MigrationStep, Progress, SourcePositions, Timescale, TimescaleHistory, migrate, migration, watch_jobs,
};
