//! A record: a head that tells what it is, a body, and a checksum over both. It needs nothing around it to be found and checked.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..10 | version of the body's format: [`VERSION_POINTS`] or [`VERSION_MESSAGES`] |
//! | 10..12 | 0 |
//! | 12..16 | length of the body in bytes |
//! | 16..24 | the record's id |
//! | 24..32 | the oldest id that stood in the spool when it was appended: all before it had been drained |
//! | 32..40 | when it was appended: microseconds since 1970-01-01 UTC |
//! | 40..44 | rows |
//! | 44..48 | CRC-32 (IEEE 802.3) of bytes 0..44 and the body |
//! | 48.. | the body: see `encode` |

use crate::columns::{Malformed, Reader, Writer};

/// What every record begins with: no text, and broken by any transfer that takes it for one (as PNG's).
pub(crate) const MAGIC: [u8; 8] = *b"\x89TGspl\r\n";
/// A record that is there for its points, alerts, commands or dead letters; its messages only tell where points came from.
pub(crate) const VERSION_POINTS: u16 = 1;
/// One whose messages are there to be stored as they came, too. It is a version, so that a Tidegate that knows no such messages leaves it alone.
pub(crate) const VERSION_MESSAGES: u16 = 2;
/// The highest that is read. One that is higher is left alone: a newer Tidegate wrote it.
pub(crate) const VERSION: u16 = VERSION_MESSAGES;
pub(crate) const HEAD_BYTES: usize = 48;
/// SQLite takes blobs of up to 10^9 bytes (`SQLITE_MAX_LENGTH`).
pub(crate) const MAX_BODY_BYTES: usize = 900_000_000;

/// What the head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub version: u16,
    pub body_bytes: u32,
    pub id: u64,
    pub oldest: u64,
    pub appended_us: i64,
    pub rows: u32,
    checksum: u32,
}

/// Why bytes are no sound record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it does not begin as a record does")]
    NoHead,
    #[error("its length is not what its head says")]
    Length,
    #[error("its checksum does not fit")]
    Checksum,
    #[error("it bears another id than its place")]
    Misplaced,
    #[error(transparent)]
    Body(#[from] Malformed),
}

/// What stands in the head besides lengths and checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub id: u64,
    pub oldest: u64,
    pub appended_us: i64,
    pub rows: u32,
    pub version: u16,
}

/// Fills in the head of `record`, whose body stands after [`HEAD_BYTES`] bytes kept free for it.
pub(crate) fn seal(record: &mut [u8], stamp: Stamp) {
    let Some((free, body)) = record.split_first_chunk_mut::<HEAD_BYTES>() else { return };
    let mut head = Writer { bytes: Vec::with_capacity(HEAD_BYTES) };
    head.bytes.extend_from_slice(&MAGIC);
    head.u16(stamp.version);
    head.u16(0);
    head.u32(body.len() as u32);
    head.bytes.extend_from_slice(&stamp.id.to_le_bytes());
    head.bytes.extend_from_slice(&stamp.oldest.to_le_bytes());
    head.i64(stamp.appended_us);
    head.u32(stamp.rows);
    let checksum = checksum(&head.bytes, body);
    head.u32(checksum);
    free.copy_from_slice(&head.bytes);
}

/// The head that `bytes` begin with; nothing is checked but that it is one.
pub(crate) fn head(bytes: &[u8]) -> Result<Head, Damage> {
    let mut reader = Reader { rest: bytes.strip_prefix(&MAGIC).ok_or(Damage::NoHead)? };
    let mut read = || -> Result<Head, Malformed> {
        let version = reader.u16()?;
        let _reserved = reader.u16()?;
        let body_bytes = reader.u32()?;
        let (id, oldest) = (reader.i64()? as u64, reader.i64()? as u64);
        let (appended_us, rows, checksum) = (reader.i64()?, reader.u32()?, reader.u32()?);
        Ok(Head { version, body_bytes, id, oldest, appended_us, rows, checksum })
    };
    read().map_err(|Malformed| Damage::NoHead)
}

/// Head and body of a whole record, if it is sound.
pub(crate) fn open(record: &[u8]) -> Result<(Head, &[u8]), Damage> {
    let head = head(record)?;
    let (first, body) = record.split_at_checked(HEAD_BYTES).ok_or(Damage::Length)?;
    if body.len() != head.body_bytes as usize {
        return Err(Damage::Length);
    }
    let covered = first.get(..HEAD_BYTES - 4).ok_or(Damage::Length)?;
    if checksum(covered, body) != head.checksum {
        return Err(Damage::Checksum);
    }
    Ok((head, body))
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut record = vec![0; HEAD_BYTES];
        record.extend_from_slice(b"the body of a record");
        seal(&mut record, Stamp { id: 7, oldest: 3, appended_us: -1, rows: 2, version: VERSION });
        record
    }

    /// Guarantees: what was sealed opens, with all its head told.
    #[test]
    fn seal_and_open() {
        let record = sealed();
        let (head, body) = open(&record).unwrap();
        assert_eq!((head.id, head.oldest, head.appended_us, head.rows), (7, 3, -1, 2));
        assert_eq!((head.version, body), (VERSION, &b"the body of a record"[..]));
    }

    /// Guarantees: no single flipped bit and no lost tail goes unseen.
    #[test]
    fn every_flipped_bit_is_found() {
        let record = sealed();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..record.len() {
            assert!(open(&record[..length]).is_err(), "length {length}");
        }
    }
}
