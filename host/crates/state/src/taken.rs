//! Which messages of sources the state has: two tables, written in the transaction of the state itself.
//!
//! Of an MQTT connection each write is a row of its own, of as many messages as it has, and rows so old that none of their messages can come
//! again go; so a write costs the same however much may come again. Of a partition there is one row.

use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tidegate_model::{OffsetMark, PacketMark, Taken};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS packets (
        stream TEXT NOT NULL,
        last INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        seal INTEGER NOT NULL,
        marks BLOB NOT NULL,
        number INTEGER PRIMARY KEY
    ) STRICT;
    CREATE INDEX IF NOT EXISTS packets_by_age ON packets (stream, last);
    CREATE TABLE IF NOT EXISTS offsets (
        stream TEXT PRIMARY KEY,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        seal INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;";

/// What nothing was written of for so long is forgotten: no broker keeps for us what it has not been told of for three months.
const FORGOTTEN_AFTER_HOURS: i64 = 24 * 90;

/// A mark in a row: id, sequence, digest.
const MARK_BYTES: usize = 2 + 8 + 16;

/// Writes what waits.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    taken: &HashMap<Arc<str>, Taken>,
    hour: i64,
) -> rusqlite::Result<()> {
    for (stream, taken) in taken {
        match taken {
            Taken::Packets { packets, reach } => write_packets(transaction, stream, packets, *reach, hour)?,
            Taken::Offsets(OffsetMark { from, upto }) => {
                let seal = seal_of(stream, *upto, &from.to_le_bytes());
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO offsets VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![&**stream, from, upto, hour, seal])?;
            }
        }
    }
    Ok(())
}

fn write_packets(
    transaction: &Transaction<'_>,
    stream: &str,
    packets: &[PacketMark],
    reach: u64,
    hour: i64,
) -> rusqlite::Result<()> {
    let Some(last) = packets.iter().map(|packet| packet.sequence).max() else { return Ok(()) };
    let mut marks = Vec::with_capacity(packets.len() * MARK_BYTES);
    for PacketMark { id, sequence, digest } in packets {
        marks.extend_from_slice(&id.to_le_bytes());
        marks.extend_from_slice(&sequence.to_le_bytes());
        marks.extend_from_slice(&digest.to_le_bytes());
    }
    let last = last as i64;
    transaction
        .prepare_cached("INSERT INTO packets (stream, last, hour, seal, marks) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![stream, last, hour, seal_of(stream, last, &marks), marks])?;
    transaction
        .prepare_cached("DELETE FROM packets WHERE stream = ?1 AND last <= ?2")?
        .execute(params![stream, last.saturating_sub(i64::try_from(reach).unwrap_or(i64::MAX))])?;
    Ok(())
}

/// Streams of long ago go.
pub(crate) fn prune(transaction: &Transaction<'_>, hour: i64) -> rusqlite::Result<()> {
    for table in ["packets", "offsets"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE hour < ?1"), [hour - FORGOTTEN_AFTER_HOURS])?;
    }
    Ok(())
}

/// The messages of a connection, by their sequence, and how many rows were damaged.
pub(crate) fn packets(connection: &Connection, stream: &str) -> rusqlite::Result<(Vec<PacketMark>, u64)> {
    let mut statement = connection.prepare("SELECT last, seal, marks FROM packets WHERE stream = ?1")?;
    let mut rows = statement.query([stream])?;
    let (mut packets, mut damaged) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (last, seal, marks) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get_ref(2)?.as_blob()?);
        if seal != seal_of(stream, last, marks) {
            damaged += 1;
            continue;
        }
        packets.extend(marks.as_chunks::<MARK_BYTES>().0.iter().map(mark));
    }
    packets.sort_unstable_by_key(|packet| packet.sequence);
    Ok((packets, damaged))
}

fn mark(bytes: &[u8; MARK_BYTES]) -> PacketMark {
    let number =
        |of: std::ops::Range<usize>| bytes[of].iter().rev().fold(0_u128, |n, &byte| n << 8 | u128::from(byte));
    PacketMark { id: number(0..2) as u16, sequence: number(2..10) as u64, digest: number(10..MARK_BYTES) }
}

/// The records of a partition, and how many rows were damaged.
pub(crate) fn offsets(connection: &Connection, stream: &str) -> rusqlite::Result<(Option<OffsetMark>, u64)> {
    let mut statement = connection.prepare("SELECT first, last, seal FROM offsets WHERE stream = ?1")?;
    let found =
        statement.query_row([stream], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?))).optional()?;
    Ok(match found {
        Some((from, upto, seal)) if seal_of(stream, upto, &i64::to_le_bytes(from)) == seal => {
            (Some(OffsetMark { from, upto }), 0)
        }
        Some(_) => (None, 1),
        None => (None, 0),
    })
}

fn seal_of(stream: &str, last: i64, rest: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stream.as_bytes());
    hasher.update(&last.to_le_bytes());
    hasher.update(rest);
    i64::from(hasher.finalize())
}
