//! Reading the dead letters, also while another process writes them.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use tidegate_model::{DeadLetter, Stage, TopicFilter};

use super::file::{FileError, read};

/// The most that one call of [`list`] or [`newest`] gives.
pub const MAX_LIMIT: u32 = 10_000;

/// Past so many bytes of payload a page is full.
const PAGE_BYTES: usize = 16 << 20;

const COLUMNS: &str =
    "id, died_us, received_us, source, topic, marks, payload, stage, rule, module, reason, backtrace,
    EXISTS (SELECT 1 FROM dead_letter_replays WHERE dead_letter = id) AS requested";

const MATCHING: &str = "(:source IS NULL OR source = :source) AND (:rule IS NULL OR rule = :rule)
    AND (:stage IS NULL OR stage = :stage)
    AND (:since IS NULL OR died_us >= :since) AND (:until IS NULL OR died_us < :until)
    AND (:reason IS NULL OR instr(lower(reason), lower(:reason)) > 0)
    AND (NOT :requested OR EXISTS (SELECT 1 FROM dead_letter_replays WHERE dead_letter = id))";

/// A dead letter as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Given in the order they were written, from 1, never twice.
    pub id: i64,
    /// When it was given up: microseconds since 1970-01-01 UTC.
    pub died_us: i64,
    /// Whether somebody wants it replayed.
    pub requested: bool,
    /// The letter itself, byte for byte.
    pub letter: DeadLetter,
}

/// Which dead letters: those that agree with all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The source it came from.
    pub source: Option<String>,
    /// What matches the topic it came on.
    pub topic: Option<TopicFilter>,
    /// The rule or sink that refused it.
    pub rule: Option<String>,
    /// Where it died.
    pub stage: Option<Stage>,
    /// Died at this time or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Died before this time.
    pub until_us: Option<i64>,
    /// A part of the reason; the case of ASCII letters does not matter.
    pub reason: Option<String>,
    /// Only those that are to be replayed.
    pub requested: bool,
}

/// From which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// Up to `limit` (at most [`MAX_LIMIT`], fewer when they are large) of those that match, oldest first, from after `after_id` on: 0
/// for the first page, then the id of the last one seen. None after the last page, or where there is no file: nothing has died.
///
/// # Errors
/// The file cannot be read.
pub fn list(path: &Path, limit: u32, after_id: i64, filter: &Filter) -> Result<Vec<Stored>, FileError> {
    page(path, limit, after_id, filter, Order::OldestFirst)
}

/// The last `limit` (at most [`MAX_LIMIT`], fewer when they are large) of those that match, the newest first.
///
/// # Errors
/// The file cannot be read.
pub fn newest(path: &Path, limit: u32, filter: &Filter) -> Result<Vec<Stored>, FileError> {
    page(path, limit, 0, filter, Order::NewestFirst)
}

/// The dead letter `id`, if there is one.
///
/// # Errors
/// The file cannot be read.
pub fn get(path: &Path, id: i64) -> Result<Option<Stored>, FileError> {
    read(path, None, |connection| letter(connection, id))
}

/// How many match.
///
/// # Errors
/// The file cannot be read.
pub fn count(path: &Path, filter: &Filter) -> Result<u64, FileError> {
    read(path, 0, |connection| {
        let mut count = 0;
        scan(connection, "id, topic", filter, Order::OldestFirst, 0, |_| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    })
}

/// The letter `id` in an open file.
pub(super) fn letter(connection: &Connection, id: i64) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1");
    let mut found = connection.prepare_cached(&sql)?.query_row([id], stored).optional()?;
    if let Some(each) = &mut found {
        each.letter.properties = properties(connection, id)?;
    }
    Ok(found)
}

/// The ids of up to `most` that match, ascending, from after `after_id` on.
pub(super) fn ids(
    connection: &Connection,
    filter: &Filter,
    after_id: i64,
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut ids = Vec::new();
    scan(connection, "id, topic", filter, Order::OldestFirst, after_id, |row| {
        ids.push(row.get("id")?);
        Ok(ids.len() < most)
    })?;
    Ok(ids)
}

fn page(path: &Path, limit: u32, after_id: i64, filter: &Filter, order: Order) -> Result<Vec<Stored>, FileError> {
    let limit = limit.min(MAX_LIMIT) as usize;
    read(path, Vec::new(), |connection| {
        let (mut found, mut bytes) = (Vec::new(), 0);
        if limit > 0 {
            scan(connection, COLUMNS, filter, order, after_id, |row| {
                let each = stored(row)?;
                bytes += each.letter.payload.len();
                found.push(each);
                Ok(found.len() < limit && bytes < PAGE_BYTES)
            })?;
        }
        for each in &mut found {
            each.letter.properties = properties(connection, each.id)?;
        }
        Ok(found)
    })
}

/// Goes through the rows that match, after `after_id`, until `each` says false.
fn scan(
    connection: &Connection,
    columns: &str,
    filter: &Filter,
    order: Order,
    after_id: i64,
    mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let direction = match order {
        Order::OldestFirst => "ASC",
        Order::NewestFirst => "DESC",
    };
    let sql = format!("SELECT {columns} FROM dead_letters WHERE id > :after AND {MATCHING} ORDER BY id {direction}");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(named_params! {
        ":after": after_id,
        ":source": filter.source,
        ":rule": filter.rule,
        ":stage": filter.stage.map(Stage::as_str),
        ":since": filter.since_us,
        ":until": filter.until_us,
        ":reason": filter.reason,
        ":requested": filter.requested,
    })?;
    while let Some(row) = rows.next()? {
        if let Some(topics) = &filter.topic
            && !topics.matches(row.get_ref("topic")?.as_str()?)
        {
            continue;
        }
        if !each(row)? {
            break;
        }
    }
    Ok(())
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let text = |column: &str| row.get::<_, String>(column);
    let shared = |column: &str| row.get::<_, Option<String>>(column).map(|text| text.map(Into::into));
    Ok(Stored {
        id: row.get("id")?,
        died_us: row.get("died_us")?,
        requested: row.get("requested")?,
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
    Stage::ALL.into_iter().find(|stage| stage.as_str() == word).ok_or_else(|| {
        let what = format!("unknown stage {word:?}");
        rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Text, what.into())
    })
}

fn properties(connection: &Connection, id: i64) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    connection
        .prepare_cached("SELECT key, value FROM dead_letter_properties WHERE dead_letter = ?1 ORDER BY position")?
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
