//! A spool's file, from its thread: append, give, remove; set aside what is damaged.
//!
//! | found | done |
//! |---|---|
//! | a record whose checksum does not fit | a copy goes to the table `quarantine`; the rest goes on |
//! | a file that SQLite cannot read, a hole in the ids | all whole records are taken over into a new file (`salvage`), the old one is kept beside it |
//! | a disk that is full, a lock, a directory that may not be written | nothing; the next call tries again |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fail::fail_point;
use rusqlite::TransactionBehavior;
use tidegate_config::{SpoolSettings, WhenFull};
use tidegate_model::{Books, Clock, Delivery, RecordId, SpoolError, Spooled, Wants};

use crate::account::{Account, Amount};
use crate::database::{Database, Progress, amount, beside};
use crate::decode::decode;
use crate::encode::{Encoded, Encoder};
use crate::in_hand::InHand;
use crate::naming::Naming;
use crate::record::{self, Damage, MAX_BODY_BYTES, Stamp, VERSION};
use crate::salvage;
use crate::trouble::Trouble;

/// The most bytes of records given at once: they are in memory until the sink has taken them.
const MOST_BYTES_GIVEN: usize = 16 << 20;
/// Copies of damaged records are kept up to this many bytes; past it the oldest go.
const MOST_QUARANTINED_BYTES: u64 = 64 << 20;
/// An empty file that has grown beyond this is made small again.
const SHRINK_ABOVE_BYTES: u64 = 16 << 20;

/// A spool's file.
pub(crate) struct SpoolFile {
    pub path: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub account: Arc<Account>,
    pub open: Option<Database>,
    /// The highest id given so far by this process.
    highest: u64,
    settings: SpoolSettings,
    wants: Wants,
    books: Arc<Books>,
    encoder: Encoder,
    naming: Naming,
    in_hand: InHand,
}

impl SpoolFile {
    /// The file at `path`, of a sink that takes `wants`. It is opened by the first call.
    pub fn new(
        path: PathBuf,
        settings: SpoolSettings,
        wants: Wants,
        books: Arc<Books>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (encoder, naming, in_hand) = (Encoder::default(), Naming::default(), InHand::default());
        let (account, open, highest) = (Arc::default(), None, 0);
        Self { path, clock, account, open, highest, settings, wants, books, encoder, naming, in_hand }
    }

    pub fn append(&mut self, deliveries: &[Arc<Delivery>]) -> Result<RecordId, SpoolError> {
        let mut bodies = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let encoded = self.encoder.encode(&self.books, &self.wants, delivery);
            let bytes = encoded.bytes.len();
            if bytes > MAX_BODY_BYTES {
                let text = format!("a batch of {bytes} bytes is too large for the spool; lower batch_rows");
                return Err(SpoolError::Unavailable(text));
            }
            bodies.push(encoded);
        }
        let appended: u64 = bodies.iter().map(|body| u64::from(body.rows)).sum();
        let through = self.with(|file, database| file.insert(database, &mut bodies))?;
        self.account.appended.fetch_add(appended, Relaxed);
        Ok(RecordId(through))
    }

    pub fn oldest(&mut self, rows: usize) -> Result<Vec<Spooled>, SpoolError> {
        let read = self.with(|file, database| file.read(database, rows));
        if let Some(last) = read.as_ref().ok().and_then(|records| records.last()) {
            let lost = self.in_hand.given(last.id.0);
            self.account.dropped.fetch_add(lost, Relaxed);
        }
        match read {
            // A file that is not there and cannot be made: nothing stands in it, and the sink need not wait for it.
            Err(_) if self.open.is_none() && absent(&self.path) && absent(&beside(&self.path, ".salvage")) => {
                Ok(Vec::new())
            }
            read => read,
        }
    }

    pub fn remove(&mut self, through: RecordId) -> Result<(), SpoolError> {
        self.with(|file, database| {
            let sql = |error| Trouble::of(&file.path, &error);
            let gone = file.delete(database, through.0).map_err(sql)?;
            file.account.changed(Amount::default(), gone);
            file.account.drained.fetch_add(gone.rows + file.in_hand.confirmed(), Relaxed);
            if file.account.standing().records == 0 {
                file.shrink(database);
            }
            Ok(())
        })
    }

    /// Runs `work` on the open file. Damage is repaired once, and the work tried again.
    fn with<T>(
        &mut self,
        mut work: impl FnMut(&mut Self, &mut Database) -> Result<T, Trouble>,
    ) -> Result<T, SpoolError> {
        let mut done = self.attempt(&mut work);
        if let Err(Trouble::Damaged(what)) = &done {
            done = salvage::salvage(self, what).and_then(|()| self.attempt(&mut work));
        }
        let done = done.map_err(|trouble| trouble.into_error(&self.path, self.settings.max_bytes));
        let unusable = match &done {
            Err(error @ SpoolError::Unavailable(_)) => Some(error.to_string()),
            Ok(_) | Err(SpoolError::Full { .. }) => None,
        };
        if self.account.usable(unusable.as_deref()) {
            match unusable {
                Some(why) => tracing::error!(why, "the spool cannot be used now; it is tried again"),
                None => tracing::info!(path = %self.path.display(), "the spool works again"),
            }
        }
        done
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl FnMut(&mut Self, &mut Database) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut database = match self.open.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let done = work(self, &mut database);
        // After any other error the file is opened anew: it may have been replaced.
        if matches!(done, Ok(_) | Err(Trouble::Full { .. } | Trouble::DiskFull(_))) {
            self.open = Some(database);
        }
        done
    }

    fn reopen(&mut self) -> Result<Database, Trouble> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| {
                Trouble::Unavailable(format!("the directory {} cannot be made: {error}", parent.display()))
            })?;
        }
        salvage::finish(&self.path)?;
        let sql = |error| Trouble::of(&self.path, &error);
        let mut database = Database::open(&self.path).map_err(sql)?;
        database.continue_from(self.highest).map_err(sql)?;
        self.highest = database.last;
        self.account.counted(database.count().map_err(sql)?);
        Ok(database)
    }

    fn insert(&mut self, database: &mut Database, bodies: &mut [Encoded]) -> Result<u64, Trouble> {
        let sql = |error| Trouble::of(&self.path, &error);
        let more = Amount {
            records: bodies.len() as u64,
            rows: bodies.iter().map(|body| u64::from(body.rows)).sum(),
            bytes: bodies.iter().map(|body| body.bytes.len() as u64).sum(),
        };
        let standing = self.account.standing();
        let over = (standing.bytes + more.bytes).saturating_sub(self.settings.max_bytes);
        if over > 0 && (self.settings.when_full == WhenFull::HoldBack || over > standing.bytes) {
            return Err(Trouble::Full { bytes: standing.bytes });
        }
        let (mut id, appended_us) = (database.last, self.clock.now_us());
        let transaction =
            database.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let (mut less, mut held) = (Amount::default(), Amount::default());
        let mut progress = database.progress;
        if over > 0 {
            let through = oldest_of(&transaction, over).map_err(sql)?;
            held = amount(&transaction, self.in_hand.of(through) as i64).map_err(sql)?;
            less = forget(&transaction, &mut progress, through).map_err(sql)?;
        }
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO records (id, rows, bytes, record) VALUES (?1, ?2, ?3, ?4)")
                .map_err(sql)?;
            for Encoded { bytes, rows, version } in bodies.iter_mut() {
                id += 1;
                let stamp =
                    Stamp { id, oldest: progress.removed_through + 1, appended_us, rows: *rows, version: *version };
                record::seal(bytes, stamp);
                insert.execute((id as i64, *rows, bytes.len() as i64, &*bytes)).map_err(sql)?;
            }
        }
        fail_point!("spool-write-within", |_| std::process::abort());
        transaction.commit().map_err(sql)?;
        fail_point!("spool-write-after", |_| std::process::abort());
        database.fold();
        (database.last, database.progress) = (id, progress);
        self.highest = id;
        self.account.changed(more, less);
        self.in_hand.dropped(held.rows);
        let (rows, bytes) = (less.rows - held.rows, less.bytes - held.bytes);
        if rows > 0 {
            self.account.dropped.fetch_add(rows, Relaxed);
            tracing::warn!(path = %self.path.display(), rows, bytes,
                "the spool is full: its oldest rows were dropped, as configured (when_full = \"drop_oldest\")");
        }
        Ok(id)
    }

    fn read(&mut self, database: &mut Database, rows: usize) -> Result<Vec<Spooled>, Trouble> {
        loop {
            let found = self.sound(database, rows)?;
            let (records, bad) = (found.records, found.bad);
            if bad.is_empty() {
                return Ok(records);
            }
            self.set_aside(database, bad)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Reads on from the oldest record: those that are sound, and those that are not.
    fn sound(&mut self, database: &Database, rows: usize) -> Result<Found, Trouble> {
        let path = &self.path;
        let sql = |error| Trouble::of(path, &error);
        let mut statement =
            database.connection.prepare_cached("SELECT id, record FROM records ORDER BY id").map_err(sql)?;
        let mut cursor = statement.query([]).map_err(sql)?;
        let mut found = Found::default();
        let (mut last, mut got, mut bytes) = (database.progress.removed_through, 0_usize, 0_usize);
        loop {
            let Some(row) = cursor.next().map_err(sql)? else {
                hole(database, last, database.last + 1)?;
                return Ok(found);
            };
            let id = row.get::<_, i64>(0).map_err(sql)? as u64;
            let record =
                row.get_ref(1).map_err(sql)?.as_blob().map_err(|error| Trouble::Damaged(error.to_string()))?;
            hole(database, last, id)?;
            last = id;
            let read = record::open(record).and_then(|(head, body)| {
                if head.id != id {
                    return Err(Damage::Misplaced);
                }
                if head.version > VERSION {
                    return Ok((head, None));
                }
                Ok((head, Some(decode(head.version, body, &self.books, &mut self.naming)?)))
            });
            bytes += record.len();
            match read {
                Ok((head, Some(decoded))) => {
                    got += head.rows as usize;
                    let delivery = Arc::new(decoded.delivery);
                    found.records.push(Spooled { id: RecordId(id), delivery, unplaced: decoded.unplaced });
                }
                Ok((head, None)) => {
                    return Err(Trouble::Unavailable(format!(
                        "{}: record {id} has format {}, and this Tidegate reads up to {VERSION}: run the newer one that wrote it",
                        self.path.display(),
                        head.version
                    )));
                }
                // Whole, but not where it belongs: the tree is damaged, not the record.
                Err(Damage::Misplaced) => {
                    return Err(Trouble::Damaged(format!("record {id}: {}", Damage::Misplaced)));
                }
                Err(damage) => found.bad.push((id, damage.to_string(), record.to_vec())),
            }
            if got >= rows.max(1) || bytes >= MOST_BYTES_GIVEN || found.bad.len() >= 100 {
                return Ok(found);
            }
        }
    }

    /// Takes damaged records out of the way, and keeps a copy.
    fn set_aside(&mut self, database: &mut Database, bad: Vec<(u64, String, Vec<u8>)>) -> Result<(), Trouble> {
        let sql = |error| Trouble::of(&self.path, &error);
        let found_us = self.clock.now_us();
        let transaction =
            database.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        // With a wrong page number in its chain, deleting it would take pages away from others.
        let tree: String = transaction.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
        if tree != "ok" {
            return Err(Trouble::Damaged(tree));
        }
        let (mut gone, mut progress) = (Amount::default(), database.progress);
        for (id, reason, record) in &bad {
            tracing::error!(path = %self.path.display(), record = id, reason,
                "a record of the spool is damaged; a copy is kept in its table `quarantine`, the rest goes on");
            let (rows, bytes): (i64, i64) = transaction
                .query_row("SELECT rows, bytes FROM records WHERE id = ?1", [*id as i64], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .map_err(sql)?;
            let insert = "INSERT OR REPLACE INTO quarantine (id, found_us, reason, record) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, (*id as i64, found_us, reason, record)).map_err(sql)?;
            transaction.execute("DELETE FROM records WHERE id = ?1", [*id as i64]).map_err(sql)?;
            progress.checked_through = progress.checked_through.max(*id);
            gone.records += 1;
            gone.rows += rows.max(0) as u64;
            gone.bytes += bytes.max(0) as u64;
        }
        transaction
            .execute(
                "DELETE FROM quarantine WHERE id IN (SELECT id FROM
                    (SELECT id, sum(length(record)) OVER (ORDER BY id DESC) AS kept FROM quarantine) WHERE kept > ?1)",
                [MOST_QUARANTINED_BYTES as i64],
            )
            .map_err(sql)?;
        progress.write(&transaction).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        database.progress = progress;
        self.account.changed(Amount::default(), gone);
        self.account.damaged_records.fetch_add(gone.records, Relaxed);
        Ok(())
    }

    fn delete(&self, database: &mut Database, through: u64) -> rusqlite::Result<Amount> {
        fail_point!("spool-remove-before", |_| std::process::abort());
        // A removal that a power failure undoes is a record written twice, which at least once allows; it is not worth a sync.
        database.connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        let mut progress = database.progress;
        let removed = || -> rusqlite::Result<Amount> {
            let transaction = database.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let gone = forget(&transaction, &mut progress, through)?;
            transaction.commit()?;
            Ok(gone)
        }();
        // Whatever became of it: what is appended next must be synced.
        database.connection.execute_batch("PRAGMA synchronous = FULL")?;
        let gone = removed?;
        database.progress = progress;
        Ok(gone)
    }

    /// Gives the room of an empty spool back to the disk.
    fn shrink(&self, database: &Database) {
        let large = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > SHRINK_ABOVE_BYTES);
        if large && let Err(error) = database.shrink() {
            tracing::warn!(path = %self.path.display(), %error, "the empty spool cannot be made smaller now");
        }
    }
}

#[derive(Default)]
struct Found {
    records: Vec<Spooled>,
    /// Id, what is wrong, and the bytes.
    bad: Vec<(u64, String, Vec<u8>)>,
}

/// Damage, if ids between `last` and `next` are missing that nobody has accounted for.
fn hole(database: &Database, last: u64, next: u64) -> Result<(), Trouble> {
    let missing = last + 1..next;
    if missing.is_empty() || missing.end - 1 <= database.progress.checked_through {
        return Ok(());
    }
    Err(Trouble::Damaged(format!("records {} to {} are missing", missing.start, missing.end - 1)))
}

/// The id of the last of the oldest records that have `bytes` together.
fn oldest_of(connection: &rusqlite::Connection, bytes: u64) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT id, bytes FROM records ORDER BY id")?;
    let mut rows = statement.query([])?;
    let (mut sum, mut through) = (0, 0);
    while sum < bytes
        && let Some(row) = rows.next()?
    {
        through = row.get::<_, i64>(0)? as u64;
        sum += row.get::<_, i64>(1)?.max(0) as u64;
    }
    Ok(through)
}

/// Deletes the records up to `through`, and says so in `progress`; gives what was in them.
fn forget(connection: &rusqlite::Connection, progress: &mut Progress, through: u64) -> rusqlite::Result<Amount> {
    let gone = amount(connection, through as i64)?;
    connection.prepare_cached("DELETE FROM records WHERE id <= ?1")?.execute([through as i64])?;
    progress.removed_through = progress.removed_through.max(through);
    progress.write(connection)?;
    Ok(gone)
}

/// Whether there surely is no such file.
fn absent(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

/// Where the spool of the sink `name` stands in a `data_dir`.
pub(crate) fn path(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("spool").join(format!("{name}.db"))
}
