//! Dead letters in a SQLite file: messages that could not be used, byte for byte, and why.
//!
//! The sink writes, and drops what passes the limits of `[dead_letters]`, counted, never in silence. Everything else works on the
//! same file from this or another process, while the sink is at work or not: reading ([`list`], [`newest`], [`get`], [`count`]),
//! an operator's edits ([`request_replay`], [`cancel_replay`], [`purge`], [`compact`]), the wishes that the host has itself
//! ([`request_parked`]), and the way back among the messages ([`ReplayFile`]).

mod edit;
mod file;
mod parked;
mod read;
mod replays;
mod retain;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior};
use tidegate_config::DeadLetters as Limits;
use tidegate_model::{Clock, DeadLetterAccount, Delivery, DroppedLetters, Sink, SinkError, Wants, Written};

use crate::sqlite_thread::SqliteThread;

pub use edit::{CompactError, Selection, cancel_replay, compact, purge, request_replay};
pub use file::FileError;
pub use parked::{Looked, Parked, request_parked};
pub use read::{Filter, MAX_LIMIT, Stored, count, get, list, newest};
pub use replays::ReplayFile;

const SCHEMA: &str = include_str!("schema.sql");

const INSERT: &str = "INSERT INTO dead_letters
    (died_us, received_us, source, topic, marks, payload, stage, rule, module, reason, backtrace)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

const INSERT_PROPERTY: &str =
    "INSERT INTO dead_letter_properties (dead_letter, position, key, value) VALUES (?1, ?2, ?3, ?4)";

/// How often letters are looked over when none are written, and how often it is said that some were dropped.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// How many steps of retention follow a write, beside those that make up for what it wrote.
const STEPS_A_WRITE: usize = 4;
/// How many steps an upkeep does: 100,000 letters a minute, beside what writes drop.
const STEPS_AN_UPKEEP: usize = 100;

/// Keeps dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    file: SqliteThread<()>,
    kept: Arc<Kept>,
}

/// What the sink and the upkeep share.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    limits: Limits,
    clock: Arc<dyn Clock>,
    account: Arc<DeadLetterAccount>,
    /// How many of those dropped were spoken of in the log.
    said: AtomicU64,
}

impl DeadLetters {
    /// A sink for the dead letters of the host whose `data_dir` this is; `clock` tells when they died.
    pub fn new(data_dir: &Path, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let (path, account) = (Self::path(data_dir), Arc::default());
        let file = SqliteThread::new(path.clone(), SCHEMA);
        Self { file, kept: Arc::new(Kept { path, limits, clock, account, said: AtomicU64::new(0) }) }
    }

    /// Where the file stands in a `data_dir`.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("dead_letters.db")
    }

    /// The account of what is kept and dropped.
    pub fn account(&self) -> Arc<DeadLetterAccount> {
        self.kept.account.clone()
    }

    /// Those to be replayed.
    pub fn replays(&self) -> ReplayFile {
        ReplayFile { path: self.kept.path.clone(), account: self.kept.account.clone() }
    }

    /// Drops what has grown too old though nothing is written, and counts what is there: at once and then every minute, for as long
    /// as the future is polled. To be run as a task of its own.
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + use<> {
        let kept = self.kept.clone();
        async move {
            let mut news = true;
            loop {
                let work = kept.clone();
                match tokio::task::spawn_blocking(move || work.look_over()).await {
                    Ok(Ok(())) => news = true,
                    Ok(Err(error)) if std::mem::take(&mut news) => {
                        tracing::warn!("dead letters are not looked over: {error}; trying again every minute");
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                kept.say();
                tokio::time::sleep(UPKEEP_EVERY).await;
            }
        }
    }
}

impl Kept {
    /// One upkeep. Blocks on the disk.
    fn look_over(&self) -> Result<(), FileError> {
        file::change(&self.path, (), |connection| {
            self.enforce(connection, STEPS_AN_UPKEEP)?;
            self.account.counted(retain::kept(connection)?);
            Ok(())
        })
    }

    fn enforce(&self, connection: &mut Connection, steps: usize) -> rusqlite::Result<()> {
        let dropped = retain::enforce(connection, &self.limits, self.clock.now_us(), steps)?;
        if dropped != DroppedLetters::default() {
            self.account.dropped(dropped);
        }
        self.account.takes(retain::used_bytes(connection)?);
        Ok(())
    }

    /// Says in the log what was dropped since it was last said.
    fn say(&self) {
        let totals = self.account.totals();
        let total = totals.dropped_by_age + totals.dropped_by_size;
        let unsaid = total - self.said.swap(total, Relaxed).min(total);
        if unsaid > 0 {
            tracing::warn!(
                dropped = unsaid,
                since_start_by_age = totals.dropped_by_age,
                since_start_by_size = totals.dropped_by_size,
                "dead letters were dropped, as `max_age_days` and `max_mib` under [dead_letters] say; raise them, or find out \
                 with `tidegate dead-letters list` why so much dies"
            );
        }
    }
}

#[async_trait]
impl Sink for DeadLetters {
    fn wants(&self) -> Wants {
        Wants { dead_letters: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let deliveries = deliveries.to_vec();
        let kept = self.kept.clone();
        self.file
            .run(move |connection, ()| {
                let letters = store(connection, kept.clock.now_us(), &deliveries)?;
                kept.account.wrote(letters);
                // What was written is durable: that the old cannot be dropped now must not write it again.
                let steps = STEPS_A_WRITE + 2 * (letters as usize).div_ceil(file::STEP);
                if let Err(error) = kept.enforce(connection, steps) {
                    tracing::debug!("dead letters past their limits stay until the next write: {error}");
                }
                Ok(())
            })
            .await?;
        Ok(Written::default())
    }

    async fn close(&mut self) {
        self.file.close().await;
        self.kept.say();
    }
}

/// Writes all letters in one transaction; gives how many.
fn store(connection: &mut Connection, died_us: i64, deliveries: &[Arc<Delivery>]) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut letters = 0;
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
            letters += 1;
        }
    }
    transaction.commit()?;
    Ok(letters)
}
