//! The tables, what is written into them and read from them.
//!
//! Names stand once, so that a cell that changes every second costs an update by two numbers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tidegate_model::{
    Alert, Books, Description, KeptAlerts, KeptState, OffsetMark, PacketMark, SavedState, SeriesId, Severity,
    Transition,
};

use crate::taken;
use crate::unwritten::{RuleWords, Unwritten, Word};

/// `TGST`: tells it from any other database.
const APPLICATION_ID: i32 = 0x5447_5354;
/// Another process on the same directory, or somebody who looks into it, is waited for so long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// What its WAL is cut back to.
const WAL_BYTES: u32 = 4 << 20;
/// For each series the host may know, so many names of series and partitions are kept; those longest not written go first.
const NAMES_A_SERIES: usize = 4;

/// Names that were written within so many hours of the newest are alive, as far as one can tell.
const ALIVE_HOURS: i64 = 24;

const SERIES: i64 = 0;
const PARTITION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rules (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS versions (id INTEGER PRIMARY KEY, version TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS names (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        partition TEXT NOT NULL,
        hour INTEGER NOT NULL DEFAULT 0,
        UNIQUE (kind, name)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS cells (
        rule INTEGER NOT NULL,
        name INTEGER NOT NULL,
        version INTEGER NOT NULL,
        seal INTEGER NOT NULL,
        cell BLOB NOT NULL,
        PRIMARY KEY (rule, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS alerts (
        rule TEXT NOT NULL,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        severity TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (rule, topic, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS void_alerts (
        rule TEXT NOT NULL,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (rule, topic, key)
    ) STRICT, WITHOUT ROWID;";

/// An open file. After an error it is to be opened anew: the numbers it remembers may have been rolled back.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    /// Numbers of names in the file, by this process's ids.
    series: Vec<Option<Number>>,
    partitions: Vec<Option<Number>>,
    rules: HashMap<Arc<str>, i64>,
    versions: HashMap<Arc<str>, i64>,
    /// Names of long ago have been dropped.
    pruned: bool,
}

/// The number of a name, and the hour it was last noted as written: once an hour, so that a cell that changes every second costs no more.
#[derive(Clone, Copy, Debug)]
struct Number {
    number: i64,
    hour: i64,
}

/// What was read of a rule.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub states: Vec<KeptState>,
    pub damaged: u64,
    pub unnamed: u64,
}

impl Database {
    /// Opens the file, or makes it; looks over the whole of it. One that is there is not written to: what a full disk has can be read.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        tidegate_sqlite::durable_with_wal(&connection, WAL_BYTES)?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(damaged(sound));
        }
        let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        if application != APPLICATION_ID {
            connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        }
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(taken::SCHEMA)?;
        let ask = "SELECT count(*) FROM pragma_table_info('names') WHERE name = 'hour'";
        if connection.query_row(ask, [], |row| row.get::<_, i64>(0))? == 0 {
            connection.execute_batch("ALTER TABLE names ADD COLUMN hour INTEGER NOT NULL DEFAULT 0")?;
        }
        let (series, partitions) = (Vec::new(), Vec::new());
        Ok(Self { connection, series, partitions, rules: HashMap::new(), versions: HashMap::new(), pruned: false })
    }

    /// Writes all that waits, in one transaction; gives the number of cells.
    pub fn write(&mut self, unwritten: &Unwritten, books: &Books, hour: i64) -> rusqlite::Result<u64> {
        let Self { connection, series, partitions, rules, versions, pruned } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !*pruned {
            prune(&transaction, books.all_series().limit())?;
            taken::prune(&transaction, hour)?;
        }
        let mut written = 0;
        for (rule, words) in &unwritten.rules {
            let numbers = Numbers { rule: number_of(&transaction, rules, "rules", "name", rule)?, versions, hour };
            if words.forgotten {
                transaction.execute("DELETE FROM cells WHERE rule = ?1", [numbers.rule])?;
                let raised = "INSERT OR IGNORE INTO void_alerts SELECT rule, topic, key FROM alerts WHERE rule = ?1";
                transaction.execute(raised, [&**rule])?;
            }
            if words.alerts_dropped {
                transaction.execute("DELETE FROM alerts WHERE rule = ?1", [&**rule])?;
                transaction.execute("DELETE FROM void_alerts WHERE rule = ?1", [&**rule])?;
            }
            written += write_cells(&transaction, numbers, words, books, (&mut *series, &mut *partitions))?;
            write_alerts(&transaction, rule, words)?;
        }
        taken::write(&transaction, &unwritten.taken, hour)?;
        fail_point!("state-commit-before", |_| std::process::abort());
        transaction.commit()?;
        fail_point!("state-commit-after", |_| std::process::abort());
        *pruned = true;
        Ok(written)
    }

    /// What is kept of a rule; its names get ids, those last written first. Names that nobody may ever say again must not take the
    /// room of those that are said: beyond half of `max_series` only those get ids that were alive when the host last ran.
    pub fn load(&self, rule: &str, books: &Books) -> rusqlite::Result<Loaded> {
        let mut statement = self.connection.prepare(
            "SELECT v.version, n.kind, n.name, n.partition, c.seal, c.cell, c.rule, c.name, c.version,
                 n.hour >= (SELECT max(hour) FROM names) - ?2
             FROM cells c JOIN rules r ON r.id = c.rule JOIN names n ON n.id = c.name JOIN versions v ON v.id = c.version
             WHERE r.name = ?1 ORDER BY n.hour DESC, n.id DESC",
        )?;
        let mut rows = statement.query(params![rule, ALIVE_HOURS])?;
        let half = books.all_series().limit().div_ceil(2);
        let mut loaded = Loaded::default();
        while let Some(row) = rows.next()? {
            let (version, name, partition) =
                (row.get_ref(0)?.as_str()?, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
            let (kind, seal, cell) = (row.get::<_, i64>(1)?, row.get::<_, i64>(4)?, row.get_ref(5)?.as_blob()?);
            if seal != seal_of(row.get(6)?, row.get(7)?, row.get(8)?, cell) {
                loaded.damaged += 1;
                continue;
            }
            // One that is known is not described anew: its unit and labels are those of its messages.
            let known = (kind == SERIES).then(|| books.all_series().find(name).map(SeriesId)).flatten();
            if known.is_none() && !row.get::<_, bool>(9)? && books.all_series().len() >= half {
                loaded.unnamed += 1;
                continue;
            }
            let at = loaded.states.iter().position(|state| state.version == version).unwrap_or_else(|| {
                loaded.states.push(KeptState { version: version.to_owned(), cells: SavedState::default() });
                loaded.states.len() - 1
            });
            let Some(state) = loaded.states.get_mut(at) else { continue };
            let Ok(partition) = books.intern_partition(partition) else {
                loaded.unnamed += 1;
                continue;
            };
            if kind == PARTITION {
                state.cells.partitions.push((partition, cell.into()));
                continue;
            }
            match known.map_or_else(|| books.intern_series(name, partition, Description::default()), Ok) {
                Ok(series) => state.cells.series.push((series, cell.into())),
                Err(_) => loaded.unnamed += 1,
            }
        }
        Ok(loaded)
    }

    /// The alerts that are not known to be cleared.
    pub fn alerts(&self) -> rusqlite::Result<KeptAlerts> {
        let mut statement = self.connection.prepare(
            "SELECT rule, topic, key, severity, since_us, message, (rule, topic, key) IN void_alerts FROM alerts",
        )?;
        let mut kept = KeptAlerts::default();
        let alerts = statement.query_map([], |row| {
            let text = |at| row.get::<_, String>(at).map(Arc::<str>::from);
            let severity = match row.get_ref(3)?.as_str()? {
                "critical" => Severity::Critical,
                "info" => Severity::Info,
                _ => Severity::Warning,
            };
            let alert = Alert {
                rule: text(0)?,
                topic: text(1)?,
                key: text(2)?,
                time_us: row.get(4)?,
                transition: Transition::Raised,
                severity,
                value: f64::NAN,
                message: row.get(5)?,
            };
            Ok((row.get(6)?, alert))
        })?;
        for alert in alerts {
            let (is_void, alert): (bool, Alert) = alert?;
            if is_void { &mut kept.void } else { &mut kept.standing }.push(alert);
        }
        Ok(kept)
    }

    /// See [`taken::packets`].
    pub fn packets(&self, stream: &str) -> rusqlite::Result<(Vec<PacketMark>, u64)> {
        taken::packets(&self.connection, stream)
    }

    /// See [`taken::offsets`].
    pub fn offsets(&self, stream: &str) -> rusqlite::Result<(Option<OffsetMark>, u64)> {
        taken::offsets(&self.connection, stream)
    }

    /// Rules of which there is something.
    pub fn rules(&self) -> rusqlite::Result<Vec<String>> {
        let ask = "SELECT name FROM rules WHERE id IN (SELECT rule FROM cells) UNION SELECT rule FROM alerts";
        self.connection.prepare(ask)?.query_map([], |row| row.get(0))?.collect()
    }
}

/// The numbers that a rule's cells are written under.
struct Numbers<'a> {
    rule: i64,
    versions: &'a mut HashMap<Arc<str>, i64>,
    hour: i64,
}

/// Names beyond what is kept go, with their cells; and those of no cell.
fn prune(transaction: &Transaction<'_>, max_series: usize) -> rusqlite::Result<()> {
    let most = max_series.saturating_mul(NAMES_A_SERIES);
    transaction.execute(
        "DELETE FROM cells WHERE name IN (SELECT id FROM names ORDER BY hour DESC, id DESC LIMIT -1 OFFSET ?1)",
        [i64::try_from(most).unwrap_or(i64::MAX)],
    )?;
    transaction.execute("DELETE FROM names WHERE id NOT IN (SELECT name FROM cells)", []).map(drop)
}

fn write_cells(
    transaction: &Transaction<'_>,
    numbers: Numbers<'_>,
    words: &RuleWords,
    books: &Books,
    (series, partitions): (&mut Vec<Option<Number>>, &mut Vec<Option<Number>>),
) -> rusqlite::Result<u64> {
    let Numbers { rule, versions, hour } = numbers;
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO cells VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut remove = transaction.prepare_cached("DELETE FROM cells WHERE rule = ?1 AND name = ?2")?;
    let mut written = 0;
    let mut write = |name: i64, word: &Word| -> rusqlite::Result<()> {
        written += 1;
        let Some((version, cell)) = word else { return remove.execute([rule, name]).map(drop) };
        let version = number_of(transaction, versions, "versions", "version", version)?;
        put.execute(params![rule, name, version, seal_of(rule, name, version, cell), &**cell]).map(drop)
    };
    for (&id, word) in &words.series {
        let Some(known) = books.series(id) else { continue };
        let partition = books.partition(known.partition).map_or("", |name| name);
        write(name_of(transaction, (&mut *series, id.index()), SERIES, (&known.topic, partition), hour)?, word)?;
    }
    for (&id, word) in &words.partitions {
        let Some(name) = books.partition(id) else { continue };
        write(name_of(transaction, (&mut *partitions, id.index()), PARTITION, (name, name), hour)?, word)?;
    }
    Ok(written)
}

fn write_alerts(transaction: &Transaction<'_>, rule: &str, words: &RuleWords) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut remove = transaction.prepare_cached("DELETE FROM alerts WHERE rule = ?1 AND topic = ?2 AND key = ?3")?;
    let mut stands =
        transaction.prepare_cached("DELETE FROM void_alerts WHERE rule = ?1 AND topic = ?2 AND key = ?3")?;
    let mut is_void = transaction.prepare_cached("INSERT OR IGNORE INTO void_alerts VALUES (?1, ?2, ?3)")?;
    for ((topic, key), alert) in &words.alerts {
        match alert {
            Some(alert) => {
                let severity = alert.severity.as_str();
                put.execute(params![rule, &**topic, &**key, severity, alert.time_us, alert.message])?
            }
            None => remove.execute([rule, topic, key])?,
        };
        stands.execute([rule, topic, key])?;
    }
    for (topic, key) in &words.void {
        is_void.execute([rule, topic, key])?;
    }
    Ok(())
}

/// The number of a text in one of the small tables, which it is given if it has none.
fn number_of(
    transaction: &Transaction<'_>,
    known: &mut HashMap<Arc<str>, i64>,
    table: &str,
    column: &str,
    text: &Arc<str>,
) -> rusqlite::Result<i64> {
    if let Some(&number) = known.get(text) {
        return Ok(number);
    }
    let ask = format!("SELECT id FROM {table} WHERE {column} = ?1");
    let found = transaction.query_row(&ask, [&**text], |row| row.get(0)).optional()?;
    let number = match found {
        Some(number) => number,
        None => {
            transaction.execute(&format!("INSERT INTO {table} ({column}) VALUES (?1)"), [&**text])?;
            transaction.last_insert_rowid()
        }
    };
    known.insert(text.clone(), number);
    Ok(number)
}

/// The number of a series' or partition's name, remembered by its id.
fn name_of(
    transaction: &Transaction<'_>,
    (known, index): (&mut Vec<Option<Number>>, usize),
    kind: i64,
    (name, partition): (&str, &str),
    hour: i64,
) -> rusqlite::Result<i64> {
    if let Some(&Some(noted)) = known.get(index)
        && noted.hour == hour
    {
        return Ok(noted.number);
    }
    // The partition it belongs to may be another than when it was last kept.
    let number = transaction
        .prepare_cached(
            "INSERT INTO names (kind, name, partition, hour) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET partition = excluded.partition, hour = excluded.hour RETURNING id",
        )?
        .query_row(params![kind, name, partition, hour], |row| row.get(0))?;
    if known.len() <= index {
        known.resize(index + 1, None);
    }
    known[index] = Some(Number { number, hour });
    Ok(number)
}

fn seal_of(rule: i64, name: i64, version: i64, cell: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [rule, name, version] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(cell);
    i64::from(hasher.finalize())
}

fn damaged(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(what))
}

/// Whether the file itself is no good, and not only what it stands on.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        // What stands where a name or a number should, by somebody's hand.
        || matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::Utf8Error(..))
}
