//! How long dead letters are kept: what is too old goes, and the oldest when they take up too much.
//!
//! It works in steps, each a transaction of at most [`STEP`] letters. It never drops what an operator has not limited, and what
//! it drops it gives back as a number, to be counted.

use rusqlite::Connection;
use tidegate_config::DeadLetters as Limits;
use tidegate_model::DroppedLetters;

use super::file::{STEP, delete, step};

/// What a letter takes besides its texts and bytes: numbers, index entries, the shares of its pages that stay empty.
const OVERHEAD_BYTES: i64 = 150;

/// Drops what passes `limits`, in at most `steps` steps; the rest is for the next call.
pub(super) fn enforce(
    connection: &mut Connection,
    limits: &Limits,
    now_us: i64,
    steps: usize,
) -> rusqlite::Result<DroppedLetters> {
    let mut dropped = DroppedLetters::default();
    let age_us = i64::try_from(limits.max_age.as_micros()).unwrap_or(i64::MAX);
    let oldest_us = now_us.saturating_sub(age_us);
    for _ in 0..steps {
        let old = too_old(connection, oldest_us)?;
        if !old.is_empty() {
            dropped.by_age += step(connection, &old, delete)?;
            continue;
        }
        let excess = used_bytes(connection)?.saturating_sub(limits.max_bytes);
        if excess == 0 {
            break;
        }
        let first = oldest(connection, excess)?;
        if first.is_empty() {
            break;
        }
        dropped.by_size += step(connection, &first, delete)?;
    }
    Ok(dropped)
}

/// How many letters there are.
pub(super) fn kept(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM dead_letters", [], |row| row.get(0))
}

/// What is in use of the file: room that was freed is used again before the file grows.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
    let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(pages * number("PRAGMA page_size")?)
}

fn too_old(connection: &Connection, oldest_us: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT id FROM dead_letters WHERE died_us < ?1 ORDER BY died_us LIMIT ?2")?
        .query_map((oldest_us, STEP as i64), |row| row.get(0))?
        .collect()
}

/// The first letters, enough to free `excess` bytes, at least one and at most a step of them.
fn oldest(connection: &Connection, excess: u64) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, octet_length(payload) + octet_length(reason) + octet_length(topic)
            + coalesce(octet_length(backtrace), 0)
            + coalesce((SELECT sum(octet_length(key) + octet_length(value)) FROM dead_letter_properties
                WHERE dead_letter = id), 0)
         FROM dead_letters ORDER BY id LIMIT ?1",
    )?;
    let mut rows = statement.query([STEP as i64])?;
    let (mut ids, mut bytes) = (Vec::new(), 0_u64);
    while bytes < excess
        && let Some(row) = rows.next()?
    {
        ids.push(row.get(0)?);
        bytes =
            bytes.saturating_add(u64::try_from(row.get::<_, i64>(1)?.saturating_add(OVERHEAD_BYTES)).unwrap_or(0));
    }
    Ok(ids)
}
