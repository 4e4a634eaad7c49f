//! Dead letters in a SQLite file: messages that could not be used, byte for byte, and why.
//!
//! The sink writes; [`list`], [`get`] and [`count`] read the same file, from this or another process, while the sink is at
//! work or not. Nothing here deletes.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior};
use tidegate_model::{Clock, Delivery, Sink, SinkError, Wants, Written};

use crate::sqlite_thread::SqliteThread;

pub use read::{Filter, MAX_LIMIT, ReadError, Stored, count, get, list};

const SCHEMA: &str = include_str!("schema.sql");

const INSERT: &str = "INSERT INTO dead_letters
    (died_us, received_us, source, topic, marks, payload, stage, rule, module, reason, backtrace)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

const INSERT_PROPERTY: &str =
    "INSERT INTO dead_letter_properties (dead_letter, position, key, value) VALUES (?1, ?2, ?3, ?4)";

/// Keeps dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    file: SqliteThread<()>,
    clock: Arc<dyn Clock>,
}

impl DeadLetters {
    /// A sink for the dead letters of the host whose `data_dir` this is; `clock` tells when they died.
    pub fn new(data_dir: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { file: SqliteThread::new(Self::path(data_dir), SCHEMA), clock }
    }

    /// Where the file stands in a `data_dir`.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("dead_letters.db")
    }
}

#[async_trait]
impl Sink for DeadLetters {
    fn wants(&self) -> Wants {
        Wants { dead_letters: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let deliveries = deliveries.to_vec();
        let died_us = self.clock.now_us();
        self.file.run(move |connection, ()| store(connection, died_us, &deliveries)).await?;
        Ok(Written::default())
    }

    async fn close(&mut self) {
        self.file.close().await;
    }
}

fn store(connection: &mut Connection, died_us: i64, deliveries: &[Arc<Delivery>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(INSERT)?;
        let mut insert_property = transaction.prepare_cached(INSERT_PROPERTY)?;
        for dead in deliveries.iter().flat_map(|delivery| &delivery.dead_letters) {
            insert.execute((
                died_us,
                dead.received_us,
                &*dead.source,
                &*dead.topic,
                dead.marks,
                &dead.payload,
                dead.stage.as_str(),
                dead.rule.as_deref(),
                dead.module.as_deref(),
                &dead.reason,
                dead.backtrace.as_deref(),
            ))?;
            let id = transaction.last_insert_rowid();
            for (position, (key, value)) in dead.properties.iter().enumerate() {
                insert_property.execute((id, position as i64, key, value))?;
            }
        }
    }
    transaction.commit()
}
