//! Reading the dead letters, also while another process writes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params};
use tidegate_model::{DeadLetter, Stage};

/// How long a lock is waited for: a checkpoint at most, since readers of a WAL do not wait for its writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that one call of [`list`] gives.
pub const MAX_LIMIT: u32 = 10_000;

const COLUMNS: &str =
    "SELECT id, died_us, received_us, source, topic, marks, payload, stage, rule, module, reason, backtrace
    FROM dead_letters";

const MATCHING: &str = "(:source IS NULL OR source = :source) AND (:topic IS NULL OR topic = :topic)
    AND (:rule IS NULL OR rule = :rule) AND (:stage IS NULL OR stage = :stage)";

/// A dead letter as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Given in the order they were written, from 1, never twice.
    pub id: i64,
    /// When it was given up: microseconds since 1970-01-01 UTC.
    pub died_us: i64,
    /// The letter itself, byte for byte.
    pub letter: DeadLetter,
}

/// Which dead letters: those that agree with all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The source it came from.
    pub source: Option<String>,
    /// The topic it came on, exactly.
    pub topic: Option<String>,
    /// The rule or sink that refused it.
    pub rule: Option<String>,
    /// Where it died.
    pub stage: Option<Stage>,
}

/// Why dead letters could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the dead letters in {path}")]
pub struct ReadError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Up to `limit` (at most [`MAX_LIMIT`]) of those that match, oldest first, from after `after_id` on: 0 for the first page, then
/// the id of the last one seen. None where there is no file: nothing has died yet.
pub fn list(path: &Path, limit: u32, after_id: i64, filter: &Filter) -> Result<Vec<Stored>, ReadError> {
    read(path, Vec::new(), |connection| {
        let sql = format!("{COLUMNS} WHERE id > :after AND {MATCHING} ORDER BY id LIMIT :limit");
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(
            named_params! {
                ":after": after_id,
                ":limit": limit.min(MAX_LIMIT),
                ":source": filter.source,
                ":topic": filter.topic,
                ":rule": filter.rule,
                ":stage": filter.stage.map(Stage::as_str),
            },
            stored,
        )?;
        let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        for each in &mut found {
            each.letter.properties = properties(connection, each.id)?;
        }
        Ok(found)
    })
}

/// The dead letter `id`, if there is one.
pub fn get(path: &Path, id: i64) -> Result<Option<Stored>, ReadError> {
    read(path, None, |connection| {
        let mut found = connection.query_row(&format!("{COLUMNS} WHERE id = ?1"), [id], stored).optional()?;
        if let Some(each) = &mut found {
            each.letter.properties = properties(connection, id)?;
        }
        Ok(found)
    })
}

/// How many match.
pub fn count(path: &Path, filter: &Filter) -> Result<u64, ReadError> {
    read(path, 0, |connection| {
        connection.query_row(
            &format!("SELECT count(*) FROM dead_letters WHERE {MATCHING}"),
            named_params! {
                ":source": filter.source,
                ":topic": filter.topic,
                ":rule": filter.rule,
                ":stage": filter.stage.map(Stage::as_str),
            },
            |row| row.get(0),
        )
    })
}

fn read<T>(path: &Path, nothing: T, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
    if !path.exists() {
        return Ok(nothing);
    }
    let opened =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    opened
        .and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // One view of the file for all statements of the query.
            connection.execute_batch("BEGIN")?;
            query(&connection)
        })
        .map_err(|source| ReadError { path: path.to_owned(), source })
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let text = |column: &str| row.get::<_, String>(column);
    let shared = |column: &str| row.get::<_, Option<String>>(column).map(|text| text.map(Into::into));
    Ok(Stored {
        id: row.get("id")?,
        died_us: row.get("died_us")?,
        letter: DeadLetter {
            source: text("source")?.into(),
            topic: text("topic")?.into(),
            received_us: row.get("received_us")?,
            marks: row.get("marks")?,
            payload: row.get("payload")?,
            properties: Vec::new(),
            stage: stage(row)?,
            rule: shared("rule")?,
            module: shared("module")?,
            reason: text("reason")?,
            backtrace: row.get("backtrace")?,
        },
    })
}

fn stage(row: &Row<'_>) -> rusqlite::Result<Stage> {
    let word: String = row.get("stage")?;
    let known = [Stage::Route, Stage::Decode, Stage::Process, Stage::Sink].into_iter().find(|s| s.as_str() == word);
    known.ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            7,
            rusqlite::types::Type::Text,
            format!("unknown stage {word:?}").into(),
        )
    })
}

fn properties(connection: &Connection, id: i64) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    connection
        .prepare_cached("SELECT key, value FROM dead_letter_properties WHERE dead_letter = ?1 ORDER BY position")?
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
